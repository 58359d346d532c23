import os
import signal

import pytest

from electra_jax.errors import Diverged
from electra_jax.training.multihost.cluster import Cluster
from electra_jax.training.stopping import check_finite, stop_on_signals


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_first_signal_is_a_request_and_handlers_are_restored(number):
    before = signal.getsignal(number)
    with stop_on_signals(Cluster()) as stop:
        assert not stop
        os.kill(os.getpid(), number)
        assert stop
        assert stop.signal_name == signal.Signals(number).name
        # A second one must end the process as usual.
        assert signal.getsignal(number) == before
    assert signal.getsignal(number) == before


def test_finite_metrics_pass():
    check_finite({"loss": 3.0}, 5, None)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_non_finite_metric_is_named_with_step_and_checkpoint(value):
    with pytest.raises(Diverged, match=r"step 7: generator_loss=(nan|inf).*\n?.*newest checkpoint is 5") as caught:
        check_finite({"loss": 1.0, "generator_loss": value}, 7, 5)
    assert caught.value.exit_code == 76
