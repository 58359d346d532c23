import pytest

from electra_jax.errors import Diverged
from electra_jax.stop_signals import StopSignals
from electra_jax.training.hang_watch import HangWatch
from electra_jax.training.multihost.cluster import Cluster
from electra_jax.training.run_context import RunContext
from electra_jax.training.stopping import StopRequest, check_finite


def test_request_is_answered_from_the_first_update_on():
    signals = StopSignals()
    watch = HangWatch(RunContext("nowhere"), 0, ends_run=False)
    with StopRequest(Cluster(), signals, watch) as stop:
        assert not signals.is_held
        stop.hold()
        assert not stop.reached()
        signals.request("SIGTERM")
        assert stop.reached()
        assert stop.reason == "SIGTERM"
        # As the loop does, which raises Preempted.
        signals.release(ends=False)


def test_finite_metrics_pass():
    check_finite({"loss": 3.0}, 5, None)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_non_finite_metric_is_named_with_step_and_checkpoint(value):
    with pytest.raises(Diverged, match=r"step 7: generator_loss=(nan|inf).*\n?.*newest checkpoint is 5") as caught:
        check_finite({"loss": 1.0, "generator_loss": value}, 7, 5)
    assert caught.value.exit_code == 76
