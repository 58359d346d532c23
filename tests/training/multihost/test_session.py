"""Exits of a session, with clusters that only record how they were left."""

import os

import pytest

from electra_jax.errors import InputError, ProcessLost, RunError
from electra_jax.training.multihost import processes
from electra_jax.training.multihost.cluster import Cluster
from electra_jax.training.multihost.session import Session

PLACE = ("host:1", 2, 0, 1.0)


class Left(Cluster):
    """One of two processes; `cause` is the error of the other one."""

    count = 2

    def __init__(self, cause=None):
        self.hosts, self.cause, self.left = ("here", "there"), cause, None

    def explained(self, error):
        return self.cause

    def leave(self, exit_code, reason):
        self.left = exit_code, reason


def outcome(monkeypatch, cluster, raised):
    """The error that a failing run ends with, and what the other processes receive."""
    monkeypatch.setattr(processes, "join", lambda *place: cluster)
    session = Session()
    with pytest.raises(Exception) as caught, session.joined(*PLACE) as joined:  # noqa: PT011, PT012
        assert joined is cluster
        raise raised
    session.leave(64)
    return caught.value, cluster.left


def test_user_error_ends_the_others_with_its_message(monkeypatch):
    error = InputError("config.steps: found 0")
    assert outcome(monkeypatch, Left(), error) == (error, (64, "config.steps: found 0"))


def test_unexpected_error_is_named_with_its_process(monkeypatch):
    error, left = outcome(monkeypatch, Left(), KeyError("x"))
    assert type(error) is RunError
    assert str(error) == "process 0 on here: unexpected error, see above"
    assert left == (64, "KeyError: 'x'")


def test_error_caused_by_another_process_has_its_reason(monkeypatch):
    cause = ProcessLost("process 1 on there ended")
    assert outcome(monkeypatch, Left(cause), ValueError("gloo")) == (cause, (64, "process 1 on there ended"))


def test_message_of_a_library_error_that_another_process_caused_is_replaced(monkeypatch):
    cause, wrapped = ProcessLost("process 1 on there is lost"), InputError("Free some space")
    wrapped.__cause__ = ValueError("Gloo all-reduce failed")
    assert outcome(monkeypatch, Left(cause), wrapped)[0] is cause


def test_request_before_the_first_update_tells_the_others(monkeypatch):
    cluster = Left()
    monkeypatch.setattr(processes, "join", lambda *place: cluster)
    monkeypatch.setattr(os, "_exit", lambda code: None)
    session = Session()
    with session.joined(*PLACE), session.stop.doing("compiling"):
        assert cluster.may_end()
        session.stop.hold(lambda name: None)
        assert not cluster.may_end()
        session.stop.release()
        session.stop.request("SIGTERM")
    code, reason = cluster.left
    assert code == 75
    assert reason.startswith("SIGTERM: stopped while compiling, with nothing to save.")


def test_request_while_processes_connect_is_answered_once_they_are(monkeypatch):
    cluster = Left()

    def join(*place):
        place[-1]()
        session.stop.request("SIGTERM")
        assert cluster.left is None
        return cluster

    monkeypatch.setattr(processes, "join", join)
    monkeypatch.setattr(os, "_exit", lambda code: None)
    session = Session()
    with session.joined(*PLACE):
        pass
    assert cluster.left[0] == 75


def test_single_process_keeps_its_traceback_and_exit_code(monkeypatch):
    monkeypatch.setattr(processes, "join", lambda *place: Cluster())
    session, error = Session(), KeyError("x")
    with pytest.raises(KeyError) as caught, session.joined(*PLACE):
        raise error
    assert caught.value is error
    with pytest.raises(SystemExit) as ended:
        session.leave(76)
    assert ended.value.code == 76


def test_process_that_never_joined_exits_with_its_code():
    with pytest.raises(SystemExit) as ended:
        Session().leave(64)
    assert ended.value.code == 64
