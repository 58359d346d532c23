"""Requests to stop, with a `leave` that records and lets the process live."""

import contextlib
import os
import signal
import threading

import pytest

from electra_jax.stop_signals import SIGNALS, Interrupts, StopSignals


class Recorded(StopSignals):
    """Keeps the reasons with which it would have ended the process."""

    def __init__(self):
        super().__init__()
        self.reasons, self.changed = [], threading.Event()

    def _end(self, text):
        self.reasons.append(text)
        self.changed.set()


def sent(stop, number):
    """Sends a signal to this process and returns once it was acted upon."""
    os.kill(os.getpid(), number)
    assert stop.changed.wait(10)
    stop.changed.clear()


@pytest.mark.parametrize("number", SIGNALS)
def test_signal_without_anything_to_save_ends_at_once(number):
    with Recorded() as stop, stop.doing("compiling"):
        sent(stop, number)
    name = signal.Signals(number).name
    assert stop.reasons == [f"{name}: stopped while compiling, with nothing to save"]


def test_handlers_are_restored():
    before = [signal.getsignal(number) for number in SIGNALS]
    with Recorded():
        assert [signal.getsignal(number) for number in SIGNALS] != before
    assert [signal.getsignal(number) for number in SIGNALS] == before


def held():
    stop, noted = Recorded(), []
    stop.hold(noted.append)
    return stop, noted


def test_request_is_noted_while_there_is_something_to_save():
    stop, noted = held()
    stop.request("SIGTERM")
    assert noted == ["SIGTERM"]
    assert stop.reasons == []
    assert stop.requested == "SIGTERM"


def test_request_that_was_not_answered_ends_after_the_save():
    stop, _ = held()
    stop.request("SIGTERM")
    stop.release()
    assert stop.reasons == ["SIGTERM: stopped when everything was saved"]


def test_error_that_ends_the_run_is_not_overtaken():
    stop, _ = held()
    stop.request("SIGTERM")
    stop.release(ends=False)
    stop.close()
    stop.request("SIGINT", at_once=True)
    assert stop.reasons == []


def test_second_ctrl_c_ends_at_once_and_other_signals_do_not():
    with Recorded() as stop:
        noted = threading.Event()
        stop.hold(lambda name: noted.set())
        os.kill(os.getpid(), signal.SIGTERM)
        assert noted.wait(10)
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGUSR1)
        sent(stop, signal.SIGINT)
    assert stop.reasons == ["SIGINT: stopped at once while starting, without a checkpoint"]


def test_request_during_an_earlier_hold_is_passed_on():
    stop, _ = held()
    stop.request("SIGTERM")
    noted = []
    stop.hold(noted.append)
    assert noted == ["SIGTERM"]


def test_an_interrupt_that_a_library_swallows_is_raised_at_the_next_check():
    with Interrupts() as interrupts:
        interrupts.check()
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            interrupts.check()


def test_an_interrupt_in_the_middle_of_a_line_waits_for_its_end():
    with Interrupts() as interrupts:
        with interrupts.held():
            signal.raise_signal(signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            interrupts.check()
