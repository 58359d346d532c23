from electra_jax.stop_signals import StopSignals
from electra_jax.training.hang_watch import HangWatch
from electra_jax.training.multihost.cluster import Cluster
from electra_jax.training.run_context import RunContext
from electra_jax.training.stopping import StopRequest


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
