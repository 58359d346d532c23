"""One owner of a directory: on one machine, on several, at an address, and after a kill."""

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from electra_jax import ownership, storage
from electra_jax.errors import InputError
from electra_jax.ownership import Owner, owned
from electra_jax.stop_signals import StopSignals
from tests.running import ROOT

LOCK = "lock.json"
COMPLAINT = "{owner} works there"
OTHER_MACHINE = dataclasses.replace(Owner.here(), host="elsewhere", machine="elsewhere", process=7, token="theirs")


def quickly(directory, notes, stale_seconds=0.05, beat_seconds=0.01):
    return owned(
        directory, LOCK, COMPLAINT, notes.append, StopSignals(),
        beat_seconds=beat_seconds, stale_seconds=stale_seconds, read_back_seconds=0.0,
    )  # fmt: skip


@pytest.fixture(params=["local", "address"])
def directory(request, tmp_path):
    """A directory to own, on a disk and where storage has no locks."""
    if request.param == "local":
        yield str(tmp_path)
    else:
        yield f"memory://ownership/{tmp_path.name}"
        storage.remove(f"memory://ownership/{tmp_path.name}")


def left_by(directory, owner, beat=3):
    storage.write(storage.join(directory, LOCK), ownership._text(owner, beat))


def test_lock_is_there_while_the_block_runs(directory):
    with quickly(directory, []):
        found = json.loads(storage.read(storage.join(directory, LOCK)))
        assert (found["process"], found["host"]) == (os.getpid(), os.uname().nodename)
    assert storage.names(directory) == []


def test_lock_is_released_on_an_error(directory):
    with pytest.raises(KeyError), quickly(directory, []):
        raise KeyError
    assert storage.names(directory) == []


def test_second_owner_is_refused_with_the_name_of_the_first(directory):
    with quickly(directory, []), pytest.raises(InputError, match=rf"process {os.getpid()} on .* works there"):
        quickly(directory, []).__enter__()
    assert storage.names(directory) == []


def test_lock_of_a_process_that_is_gone_is_taken_over_at_once(directory):
    left_by(directory, dataclasses.replace(Owner.here(), process=2**22 + 1, token="theirs"))
    with quickly(directory, notes := [], stale_seconds=1e9):
        pass
    assert notes == []


def test_lock_of_a_process_whose_id_another_one_has_is_taken_over(directory):
    left_by(directory, dataclasses.replace(Owner.here(), started=1, token="theirs"))
    with quickly(directory, [], stale_seconds=1e9):
        pass


def test_lock_of_another_machine_is_taken_over_without_heartbeat(directory):
    left_by(directory, OTHER_MACHINE)
    with quickly(directory, notes := []):
        assert json.loads(storage.read(storage.join(directory, LOCK)))["process"] == os.getpid()
    assert len(notes) == 1
    assert "owned by process 7 on elsewhere" in notes[0]


def test_owner_on_another_machine_with_a_heartbeat_is_not_disturbed(directory, monkeypatch):
    left_by(directory, OTHER_MACHINE, beat=0)
    sleep, beats = time.sleep, iter(range(1, 1000))

    def beating(seconds):
        # Threads of other tests may sleep as well.
        if threading.current_thread() is threading.main_thread():
            left_by(directory, OTHER_MACHINE, beat=next(beats))
        sleep(min(seconds, 0.001))

    monkeypatch.setattr(ownership.time, "sleep", beating)
    with pytest.raises(InputError, match="process 7 on elsewhere"):
        quickly(directory, [], stale_seconds=60).__enter__()
    monkeypatch.undo()
    assert storage.names(directory) == [LOCK]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff", b'{"host": "a"}', b"null", b"[" * 100_000])
def test_incomplete_lock_of_a_killed_process_is_taken_over(directory, content):
    storage.write(storage.join(directory, LOCK), content)
    with quickly(directory, []):
        pass


def test_heartbeat_changes_the_lock(directory):
    with quickly(directory, []):
        path = storage.join(directory, LOCK)
        deadline = time.monotonic() + 20
        while (found := ownership._parsed(storage.read(path))) is None or found[1] < 2:
            assert time.monotonic() < deadline
            time.sleep(0.005)


def test_owner_that_was_taken_over_leaves_the_lock_alone(directory):
    with quickly(directory, notes := []) as owns:
        assert owns()
        left_by(directory, OTHER_MACHINE)
        deadline = time.monotonic() + 20
        while owns() or not notes:
            assert time.monotonic() < deadline
            time.sleep(0.005)
    assert "another process has taken over" in notes[0]
    assert ownership._parsed(storage.read(storage.join(directory, LOCK)))[0] == OTHER_MACHINE


@pytest.mark.parametrize("change", [-1e9, 1e9])
def test_clock_that_jumps_neither_frees_nor_blocks(directory, monkeypatch, change):
    now = time.time
    with quickly(directory, []):
        monkeypatch.setattr(ownership.time, "time", lambda: now() + change)
        with pytest.raises(InputError):
            quickly(directory, []).__enter__()
    left_by(directory, OTHER_MACHINE)
    with quickly(directory, []):
        pass


PROGRAM = """
import sys, time
from electra_jax.errors import InputError
from electra_jax.ownership import owned
from electra_jax.stop_signals import StopSignals
try:
    with StopSignals() as stop, owned(sys.argv[1], "lock.json", "refused {owner}", print, stop):
        print("owner", flush=True)
        sys.stdin.read()
except InputError:
    print("refused", flush=True)
"""


@contextlib.contextmanager
def another_process(directory):
    """A process that owns a directory, or is refused, and says which; then waits."""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, directory], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield process


def test_of_processes_that_begin_together_one_owns_the_directory(tmp_path):
    with contextlib.ExitStack() as stack:
        processes = [stack.enter_context(another_process(tmp_path)) for _ in range(4)]
        answers = [process.stdout.readline().strip() for process in processes]
        assert sorted(answers) == ["owner", "refused", "refused", "refused"]
        owner = processes[answers.index("owner")]
        owner.send_signal(signal.SIGKILL)
        owner.wait()
        assert os.listdir(tmp_path) == [LOCK]
        with quickly(tmp_path, [], stale_seconds=1e9):
            pass


def test_owner_that_is_asked_to_stop_releases_the_lock(tmp_path):
    with another_process(tmp_path) as owner:
        assert owner.stdout.readline().strip() == "owner"
        owner.send_signal(signal.SIGTERM)
        assert owner.wait(20) == 75
    assert os.listdir(tmp_path) == []


def test_request_to_stop_that_comes_while_the_lock_is_written_leaves_none(directory, monkeypatch):
    # As a signal does: the file is there, and the call that wrote it has not returned yet.
    kind = ownership._RemoteFile if storage.is_remote(directory) else ownership._LocalFile
    claim, ended, stop = kind.claim, threading.Event(), StopSignals(leave=lambda reason: ended.set())
    monkeypatch.setattr(os, "_exit", lambda code: None)

    def slowly(self, own, replaceable):
        found = claim(self, own, replaceable)
        threading.Thread(target=stop.request, args=("SIGTERM",)).start()
        time.sleep(0.1)
        return found

    def own():
        with owned(directory, LOCK, COMPLAINT, print, stop, beat_seconds=0.01, read_back_seconds=0.2):
            ended.wait()

    monkeypatch.setattr(kind, "claim", slowly)
    owner = threading.Thread(target=own, daemon=True)
    owner.start()
    assert ended.wait(10)
    owner.join(0.5)  # It would end with an error if it took itself for one that was overtaken.
    assert owner.is_alive() == storage.is_remote(directory)
    assert storage.names(directory) == []
