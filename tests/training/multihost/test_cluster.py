"""Processes as threads, over a key-value store in memory that behaves as that of JAX's coordination service."""

import threading
import time

import jax
import pytest

from electra_jax.errors import InputError, MismatchError, ProcessLost, RunError
from electra_jax.training.multihost import cluster, heartbeat
from electra_jax.training.multihost.cluster import Cluster, SeveralProcesses


class Service:
    """A client of the coordination service; one object for all processes."""

    def __init__(self, count):
        self.values, self.changed = {}, threading.Condition()
        self.waiting, self.count = {}, count

    def key_value_set(self, key, value, allow_overwrite=False):
        with self.changed:
            if key in self.values and not allow_overwrite:
                raise jax.errors.JaxRuntimeError("ALREADY_EXISTS")
            self.values[key] = value
            self.changed.notify_all()

    def key_value_dir_get(self, prefix):
        with self.changed:
            return [(key, value) for key, value in self.values.items() if key.startswith(prefix)]

    def blocking_key_value_get(self, key, timeout_in_ms):
        with self.changed:
            if not self.changed.wait_for(lambda: key in self.values, timeout_in_ms / 1000):
                raise jax.errors.JaxRuntimeError("DEADLINE_EXCEEDED")
            return self.values[key]

    def wait_at_barrier(self, name, timeout_in_ms):
        with self.changed:
            self.waiting[name] = self.waiting.get(name, 0) + 1
            self.changed.notify_all()
            if not self.changed.wait_for(lambda: self.waiting[name] == self.count, timeout_in_ms / 1000):
                raise jax.errors.JaxRuntimeError("DEADLINE_EXCEEDED")


@pytest.fixture
def run_each():
    """Calls a function with each process's cluster, all at the same time; returns their results or errors."""
    members = []

    def run(function, count=3):
        service, results = Service(count), [None] * count

        def process(index):
            try:
                member = SeveralProcesses(service, index, count)
                members.append(member)
                results[index] = function(member)
            except RunError as error:
                results[index] = error

        threads = [threading.Thread(target=process, args=(index,), daemon=True) for index in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()
        return results

    yield run
    for member in members:
        member._heartbeat.leaving.set()
        member._heartbeat.stop()


def test_a_single_process_waits_for_no_other():
    cluster = Cluster()
    cluster.barrier("nothing")
    cluster.agree("facts", {"seed": 1})
    assert cluster.from_first(lambda: 3) == 3
    assert cluster.is_first
    assert cluster.agreement_to_stop() is None


def test_process_0_decides_and_all_receive_the_result(run_each):
    called = []

    def decide(member):
        return member.from_first(lambda: called.append(member.index) or {"step": 10}), member.from_first(lambda: None)

    assert run_each(decide) == [({"step": 10}, None)] * 3
    assert called == [0]


def test_each_process_receives_the_values_of_all_in_order(run_each):
    results = run_each(lambda cluster: [cluster.from_each(["at", cluster.index], "a test") for _ in range(2)])
    assert results == [[[["at", 0], ["at", 1], ["at", 2]]] * 2] * 3
    assert Cluster().from_each("own", "a test") == ["own"]


def test_barrier_names_missing_processes(run_each):
    def wait(member):
        if member.index == 1:
            time.sleep(1.5)
            return "elsewhere"
        member.barrier("the start", seconds=0.5)

    first, _, third = run_each(wait)
    for error in (first, third):
        assert isinstance(error, ProcessLost)
        assert "the start: 2 of 3 processes arrived within 0.5 seconds; missing: process 1 on " in str(error)


def test_barrier_returns_once_all_have_arrived(run_each):
    assert run_each(lambda member: member.barrier("the start", seconds=10)) == [None] * 3


def test_processes_with_equal_facts_agree(run_each):
    assert run_each(lambda member: member.agree("config", {"seed": 42, "sources": ["a", "b"]})) == [None] * 3


def test_differing_processes_all_raise_the_same_difference(run_each):
    def compare(member):
        member.agree("config", {"seed": 42 + member.index // 2, "steps": 5}, MismatchError)

    errors = run_each(compare)
    assert len(set(map(str, errors))) == 1
    assert all(isinstance(error, MismatchError) for error in errors)
    assert "process 2 on " in str(errors[0])
    assert "seed is 43, and 42 at process 0" in str(errors[0])
    assert "process 1" not in str(errors[0])
    assert "steps" not in str(errors[0])


@pytest.mark.parametrize("asked", [0, 2])
def test_all_stop_at_the_same_poll_at_any_speed(run_each, asked):
    def loop(member):
        agreement = member.agreement_to_stop()
        for number in range(2000):
            if member.index == asked and number == 20:
                agreement.requested = "SIGTERM"
            if agreement.poll():
                return number, agreement.reason
            time.sleep(0.002 * (member.index + 1))

    results = run_each(loop)
    assert len(set(results)) == 1
    number, reason = results[0]
    assert number > 20
    assert reason == "SIGTERM"


def test_stop_request_after_the_last_poll_of_one_stops_none(run_each):
    def loop(member):
        agreement = member.agreement_to_stop()
        for number in range(10):
            if member.index == 1:
                time.sleep(0.1)
                agreement.requested = "SIGTERM" if number == 5 else agreement.requested
            if agreement.poll():
                return "stopped"
        member.barrier("the end", seconds=10)
        return "finished"

    assert run_each(loop) == ["finished"] * 3


def test_error_of_one_process_ends_those_that_wait_for_it(run_each):
    def fail(member):
        if member.index == 1:
            ended = heartbeat.Ended(1, "process 1 ended: a damaged file", 64)
            member._heartbeat.leaving.set()
            member._store.notice("ended", ended.as_text())
            raise InputError("a damaged file")
        member._heartbeat.leaving.set()  # Threads of one process cannot be ended.
        return member.from_first(lambda: time.sleep(1.5) or member._raise_if_ended(), seconds=20)

    errors = run_each(fail)
    assert [error.exit_code for error in errors] == [64] * 3
    assert "process 1 ended: a damaged file" in str(errors[2])


def test_process_without_heartbeat_is_named(run_each, monkeypatch):
    monkeypatch.setattr(heartbeat, "LOST_SECONDS", 2.5)

    def wait(member):
        member._heartbeat.leaving.set()
        if member.index == 2:
            member._heartbeat._finished.set()
            return "gone"
        deadline = time.monotonic() + 15
        while member._heartbeat.ended is None and time.monotonic() < deadline:
            time.sleep(0.05)
        member._raise_if_ended()
        return None

    first, second, _ = run_each(wait)
    for error in (first, second):
        assert error.exit_code == ProcessLost.exit_code
        assert "process 2 on " in str(error)
        assert "is lost" in str(error)


def test_process_with_nothing_to_save_does_not_wait_for_its_main_thread(run_each, monkeypatch):
    monkeypatch.setattr(heartbeat, "_SHORT_GRACE_SECONDS", 0.1)
    monkeypatch.setattr(heartbeat.os, "_exit", lambda code: None)

    def compile_for_long(member):
        if member.index == 1:
            member._store.notice("ended", heartbeat.Ended(1, "process 1 ended: SIGTERM", 75).as_text())
            member._heartbeat.leaving.set()
            return None
        vanished = []
        member.may_end = lambda: True
        member.vanish = vanished.append
        member._heartbeat.join(5)
        return vanished

    assert run_each(compile_for_long, count=2) == [[75], None]


def test_any_error_is_explained_by_a_process_that_is_known_to_be_gone(run_each):
    def fail(member):
        member._heartbeat.leaving.set()
        member._heartbeat.ended = heartbeat.Ended(0, "process 0 is lost", 75)
        return str(member.explained(OSError("no such barrier file")))

    assert run_each(fail, count=2) == ["process 0 is lost"] * 2


def test_process_that_is_too_slow_for_a_library_counts_as_lost(run_each, monkeypatch):
    monkeypatch.setattr(cluster, "_EXPLAIN_SECONDS", 0.1)
    slow = jax.errors.JaxRuntimeError("Gloo context initialization failed: DEADLINE_EXCEEDED: GetKeyValue() timed out")

    def error_of(member):
        found = member.explained(slow)
        return found.exit_code, "did not answer in time" in str(found)

    assert run_each(error_of, count=2) == [(75, True)] * 2


def test_full_disk_is_not_taken_for_a_lost_process(run_each):
    assert run_each(lambda member: member.explained(OSError(28, "No space left on device")), count=2) == [None] * 2
