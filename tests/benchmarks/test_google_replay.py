"""Our training step equals Google's: a recording of theirs is replayed."""

import numpy as np
import pytest

from benchmarks import google_replay
from electra_jax.errors import InputError

TRACE = "tests/golden/google_trace.npz"
STEPS = 30


@pytest.mark.slow  # 30 updates of two layers, on the CPU.
def test_thirty_updates_equal_google_s():
    trace = google_replay.load(TRACE)
    replayed = google_replay.replay(trace, google_replay.recorded_config(), STEPS)
    differences = google_replay.relative_differences(trace, replayed)
    assert differences.keys() == {"generator_loss", "discriminator_loss", "loss", "gradient_norm"}
    for name, series in differences.items():
        assert series.shape == (STEPS,)
        # Rounding errors accumulate, in gradients first: 9e-7 on a CPU with AVX2, 1.1e-6 on one with SSE4 only.
        largest = 2e-6 if name == "gradient_norm" else 1e-6
        assert series.max() < largest, f"{name} at update {1 + series.argmax()}"
    assert google_replay.probability_differences(trace, replayed).max() < 1e-6
    for wrong in google_replay.wrong_integers(trace, replayed):
        assert not wrong.any()
    assert replayed.replaced.any()
    assert replayed.segments.any()


def made_replay(trace, steps, **changes):
    """A perfect replay of a recording, except for `changes`."""
    perfect = dict(
        real=trace.draws.tokens_BxL[:steps] > 0,
        segments=trace.segments[:steps],
        replaced=trace.replaced[:steps],
        slots=trace.draws.weights_BxM[:steps].sum(-1),
        probabilities=trace.probabilities[:steps],
        values={name: values[:steps] for name, values in trace.values.items()},
    )
    return google_replay.Replay(**perfect | changes)


def test_the_table_shows_the_largest_difference_of_each_range():
    trace = google_replay.load(TRACE)
    factors = np.ones(33)
    factors[3], factors[5] = 1 + 1e-3, 1 - 2e-3
    segments = trace.segments[:33].copy()
    segments[32, 0, :2] = 7
    probabilities = np.zeros((33, 16, 64))
    probabilities[:30] = trace.probabilities
    replayed = made_replay(
        trace,
        33,
        values={name: values[:33] * (factors if name == "loss" else 1) for name, values in trace.values.items()},
        segments=segments,
        probabilities=probabilities,
    )
    zero = "0.0e+00"
    assert list(google_replay.table(trace, replayed))[2:] == [
        f"| 1 | {zero} | {zero} | {zero} | {zero} | {zero} | equal |",
        f"| 2–10 | {zero} | {zero} | 2.0e-03 | {zero} | {zero} | equal |",
        f"| 11–20 | {zero} | {zero} | {zero} | {zero} | {zero} | equal |",
        f"| 21–30 | {zero} | {zero} | {zero} | {zero} | {zero} | equal |",
        f"| 31–33 | {zero} | {zero} | {zero} | {zero} | – | 2 differ |",
    ]


def test_probabilities_on_padding_do_not_count():
    trace = google_replay.load(TRACE)
    padding = trace.draws.tokens_BxL[:2] == 0
    assert padding.any()
    replayed = made_replay(trace, 2, probabilities=trace.probabilities[:2] + padding)
    assert not google_replay.probability_differences(trace, replayed).any()


def test_a_file_without_a_recording_is_rejected(tmp_path):
    with pytest.raises(InputError, match=r"--trace=.*none\.npz: found no recording"):
        google_replay.load(str(tmp_path / "none.npz"))
    np.savez(tmp_path / "other.npz", a=np.zeros(2))
    with pytest.raises(InputError, match=r"--trace=.*other\.npz: found no recording \('generator_loss'\)"):
        google_replay.load(str(tmp_path / "other.npz"))


def test_more_updates_than_recorded_are_rejected():
    trace = google_replay.load(TRACE)
    with pytest.raises(InputError, match="--updates=61: the recording has 60 updates"):
        google_replay.replay(trace, google_replay.recorded_config(), 61)
