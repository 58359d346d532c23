import os
import signal

import pytest

from electra_jax.training.multihost.cluster import Cluster
from electra_jax.training.stopping import stop_on_signals


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
