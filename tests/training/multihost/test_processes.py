"""Runs of two processes with two devices each, as a user starts them, against one process with four devices."""

import collections
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys

import numpy as np
import pytest

from electra_jax.errors import InputError
from electra_jax.training.multihost import processes
from tests.running import ROOT, learned, main, quicktest_flags, slowed, wait_for

# Compiles in a third of the time, and computes the same in one process as in two.
_QUICK_COMPILER = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"


def devices(count):
    return {"XLA_FLAGS": f"--xla_force_host_platform_device_count={count} {_QUICK_COMPILER}"}


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    return tmp_path_factory.mktemp("shared")


@pytest.fixture(scope="module")
def flags(shared):
    return lambda workdir, *more: (*quicktest_flags("small", workdir, shared), "--config.model.layers=1", *more)


def free_port():
    with socket.create_server(("", 0)) as server:
        return server.getsockname()[1]


class Pair:
    """Two processes of one run."""

    def __init__(self, *arguments, second=None, program=("electra_jax.main",), **environment):
        place = f"--coordinator=127.0.0.1:{free_port()}", "--num_processes=2"
        self.processes = [
            subprocess.Popen(
                [sys.executable, "-m", *program, *place, f"--process_id={index}", *own],
                cwd=ROOT,
                env=os.environ | {"JAX_PLATFORMS": "cpu"} | devices(2) | environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for index, own in enumerate((arguments, second or arguments))
        ]

    def ended(self, *codes):
        """The output of each, once both ended with these exit codes."""
        try:
            printed = [process.communicate(timeout=200)[0] for process in self.processes]
        finally:
            for process in self.processes:
                process.kill()
        assert [process.returncode for process in self.processes] == list(codes), "\n== process 1\n".join(printed)
        return printed


@pytest.fixture(scope="module")
def one(flags, tmp_path_factory):
    """A run of one process, and what it printed."""
    workdir = tmp_path_factory.mktemp("runs") / "one"
    return workdir, main(*flags(workdir), JAX_LOG_COMPILES="1", **devices(4))


@pytest.fixture(scope="module")
def two(one, flags, tmp_path_factory):
    """The same run of two processes, and what each printed; its dataset is there already."""
    workdir = tmp_path_factory.mktemp("runs") / "two"
    return workdir, Pair(*flags(workdir)).ended(0, 0)


def assert_alike(first, second):
    lines, expected = learned(first), learned(second)
    assert [line["step"] for line in lines] == [line["step"] for line in expected]
    for line, other in zip(lines, expected, strict=True):
        assert line == pytest.approx(other, rel=1e-5, abs=1e-5)


def tokens_shown(workdir):
    return [json.loads(line)["original"] for line in (workdir / "samples.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("place", "complaint"),
    [
        (("host:1", None, None), "--num_processes and --process_id missing"),
        ((None, 2, 0), "--coordinator missing"),
        (("host:1", 2, None), "--process_id missing"),
        (("host", 2, 0), "--coordinator=host: expected HOST:PORT"),
        (("host:70000", 2, 0), "--coordinator=host:70000"),
        (("host:1", 0, 0), "--num_processes=0"),
        (("host:1", 2, 2), "--process_id=2: expected 0 to 1"),
    ],
)
def test_incomplete_or_invalid_process_flags_are_refused(place, complaint):
    with pytest.raises(InputError, match=re.escape(complaint)):
        processes.check_flags(*place)


def test_slurm_job_of_several_tasks_is_detected(monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "5")
    monkeypatch.setenv("SLURM_STEP_NODELIST", "node[03-04]")
    monkeypatch.setenv("SLURM_NTASKS", "2")
    monkeypatch.setenv("SLURM_PROCID", "1")
    monkeypatch.setenv("SLURM_LOCALID", "0")
    coordinator, count, index = processes._detected(1)
    assert coordinator.startswith("node03:")
    assert (count, index) == (2, 1)


def test_single_machine_is_not_taken_for_a_cluster(monkeypatch):
    for name in list(os.environ):
        if name.startswith(("SLURM_", "OMPI_", "KUBERNETES_")):
            monkeypatch.delenv(name)
    assert processes.join(None, None, None, 1).count == 1


Device = collections.namedtuple("Device", "process_index id")


class Placement:
    """A sharding of 8 rows over devices, each a pair of its process and its rows."""

    def __init__(self, *pairs):
        self.pairs = pairs

    def devices_indices_map(self, shape):
        assert shape == (8,)
        return {Device(process, number): (rows,)
                for number, (process, rows) in enumerate(self.pairs)}  # fmt: skip


def test_rows_on_devices_of_two_processes_are_refused():
    everything, first, second = slice(None), slice(0, 4), slice(4, 8)
    processes.check_rows(Placement((0, first), (0, first), (1, second)), 8)
    processes.check_rows(Placement((0, slice(0, 2)), (1, slice(2, 4)), (0, slice(6, 8)), (1, slice(4, 6))), 8)
    with pytest.raises(InputError, match=r"config\.mesh"):
        processes.check_rows(Placement((0, everything), (1, everything)), 8)
    with pytest.raises(InputError, match=r"config\.mesh"):
        processes.check_rows(Placement((0, first), (0, second), (1, first), (1, second)), 8)


@pytest.mark.slow
@pytest.mark.parametrize("step", [0, 7, 300])
@pytest.mark.parametrize("count", [2, 4])
def test_processes_together_read_the_rows_of_one_process(one, flags, shared, step, count):
    from electra_jax.text.dataset import row_batches
    from electra_jax.text.dataset.dataset import open_dataset

    dataset = open_dataset(shared / "small")

    def read(index, count):
        training = row_batches.training_batches(
            dataset.train, batch_size=8, seed=42, start=step, process_index=index, process_count=count
        )
        heldout = row_batches.evaluation_batches(
            dataset.heldout, batch_size=8, max_rows=29, process_index=index, process_count=count
        )
        return next(training), list(heldout)

    parts = [read(index, count) for index in range(count)]
    whole, evaluated = read(0, 1)
    np.testing.assert_array_equal(np.concatenate([training for training, _ in parts]), whole)
    for number, batch in enumerate(evaluated):
        np.testing.assert_array_equal(np.concatenate([heldout[number] for _, heldout in parts]), batch)
    assert all(len(heldout) == len(evaluated) for _, heldout in parts)


@pytest.mark.slow
def test_two_processes_train_like_one(one, two):
    assert learned(two[0])[-1]["step"] == 20
    assert_alike(one[0], two[0])
    assert tokens_shown(one[0]) == tokens_shown(two[0])


@pytest.mark.slow
def test_every_process_prints_its_number_and_only_0_prints_more(two):
    workdir, (first, second) = two
    host = socket.gethostname()
    assert f"process 0/2 on {host}: 2 of 4 devices" in first
    assert f"process 1/2 on {host}: 2 of 4 devices" in second
    assert "Held out, step 20" in first
    # Gloo's line may be in two parts, as threads print at the same time.
    own = [line for line in second.splitlines() if "Gloo" not in line and "peer ranks" not in line]
    assert own == [f"process 1/2 on {host}: 2 of 4 devices (cpu)"]
    assert len(list(workdir.glob("events.out.tfevents*"))) == 1
    assert json.loads((workdir / "environment.json").read_text())["process_count"] == 2
    steps = [line["step"] for line in learned(workdir)]
    assert steps == [0, 5, 10, 10, 15, 20, 20]


@pytest.mark.slow
def test_the_steps_of_a_run_are_compiled_once(one):
    _, printed = one
    for program in ("train_step", "evaluation_step", "inspect"):
        assert len(re.findall(rf"Finished XLA compilation of jit\({program}\)", printed)) == 1, program


@pytest.mark.slow
def test_two_processes_resume_from_the_checkpoint_of_one(one, flags, tmp_path):
    workdir = tmp_path / "run"
    shutil.copytree(one[0], workdir)
    shutil.rmtree(workdir / "checkpoints" / "20")
    printed, _ = Pair(*flags(workdir)).ended(0, 0)
    assert "Resumed from checkpoint 10" in printed
    assert_alike(one[0], workdir)


@pytest.mark.slow
def test_signal_to_one_process_stops_both_at_one_step(one, flags, tmp_path):
    workdir = tmp_path / "run"
    pair = Pair(*flags(workdir), program=slowed("evaluating", tmp_path / "phase", 2))
    wait_for((tmp_path / "phase").exists, pair.processes[0])
    pair.processes[1].send_signal(signal.SIGTERM)
    stops = [
        re.search(r"SIGTERM \(process 1 on .*\): stopped after step (\d+) of 20", text) for text in pair.ended(75, 75)
    ]
    (stopped,) = {int(match[1]) for match in stops}
    assert stopped == 10
    assert {path.name for path in (workdir / "checkpoints").iterdir()} == {str(stopped)}
    printed = main(*flags(workdir), **devices(4))
    assert f"Resumed from checkpoint {stopped}" in printed
    assert "1 from the cache, 0 compiled" in printed
    expected = [line for line in learned(one[0]) if line["step"] > stopped]
    for ours, theirs in zip(learned(workdir)[-len(expected) :], expected, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5, abs=1e-5)


@pytest.mark.slow
# test_divergence.py does it with one process, and test_cluster.py has the agreement.
@pytest.mark.release
def test_two_processes_that_diverge_go_back_and_end_together(one, flags, tmp_path):
    absurd = (
        "--config.optimizer.learning_rate=1e30",
        "--config.evaluation.every_steps=20",
        "--config.divergence.max_skipped=2",
        "--config.divergence.rollbacks=1",
    )
    workdir = tmp_path / "run"
    for printed in Pair(*flags(workdir, *absurd)).ended(76, 76):
        assert "step 5: 4 of 100 updates were skipped" in printed
        assert "after 1 rollbacks" in printed
    found = [json.loads((workdir / "divergence" / f"{number}.json").read_text()) for number in (1, 2)]
    assert [[update["batch"] for update in one["skipped"]] for one in found] == [[1, 2, 3, 4], [6, 7, 8, 9]]
    # All rows of the global batch, of which each process read a half.
    assert found[1]["diagnosed"][0]["rows"] == 8


@pytest.mark.slow
def test_different_configs_end_all_and_name_the_difference(flags, tmp_path):
    pair = Pair(*flags(tmp_path / "run"), second=flags(tmp_path / "run", "--config.seed=7"))
    for printed in pair.ended(64, 64):
        assert re.search(r"process 1 on .*: config\.seed is 7, and 42 at process 0 on ", printed)
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_process_that_never_starts_is_named_within_the_limit(flags, tmp_path):
    place = f"--coordinator=127.0.0.1:{free_port()}", "--num_processes=2", "--process_id=0", "--start_timeout=2"
    printed = main(*flags(tmp_path / "run"), *place, check=75)
    assert "1 of 2 processes arrived within 2 seconds; missing: process 1." in printed


@pytest.mark.slow
def test_error_of_one_process_ends_both_with_its_reason(two, flags, shared, tmp_path):
    from electra_jax.text.dataset.dataset import open_dataset
    from electra_jax.text.dataset.mixture import Mixture

    data = tmp_path / "data"
    shutil.copytree(shared / "small", data)
    split = open_dataset(data).train
    # Row 6 of the third batch, which process 1 reads; process 0 does not read it before the next epoch.
    (row,) = Mixture(split.sources, (len(split.sources[0]),), 42).rows(np.array([2 * 8 + 6]))
    path, _ = split.shards[0]
    with open(path, "r+b") as file:
        size = os.path.getsize(path) // split.num_rows
        file.seek(int(row) * size + size - 1)
        file.write(b"\xff")
    own = f"--config.data.directory={data}"
    first, second = Pair(*flags(tmp_path / "run", own)).ended(64, 64)
    assert "does not have its checksum" in second
    assert re.search(r"process 1 on .* ended: .*does not have its checksum", first)


@pytest.mark.slow
def test_batch_that_processes_cannot_share_is_refused(flags, tmp_path):
    pair = Pair(*flags(tmp_path / "run", "--config.mesh.tensor=4", "--config.mesh.sharding=fsdp_tp"))
    for printed in pair.ended(64, 64):
        assert "config.mesh.tensor: 4 devices would share rows across the 2 processes" in printed


@pytest.mark.slow
def test_fine_tuning_scores_the_same_with_two_processes(one, shared, tmp_path):
    def flags(workdir):
        return (
            "--config=configs/finetune/glue.py:rte+quicktest",
            f"--config.init_from={one[0]}",
            f"--config.compile_cache={shared}/compiled",
            "--config.data.lengths=1",
            "--config.trials=2",
            "--config.reseeds=1",
            f"--workdir={workdir}",
        )

    main(*flags(tmp_path / "one"), **devices(4))
    Pair(*flags(tmp_path / "two")).ended(0, 0)
    ours, theirs = (json.loads((tmp_path / name / "results.json").read_text()) for name in ("one", "two"))
    assert ours["summary"] == theirs["summary"]
    assert [trial["seed"] for trial in ours["trials"]] == [trial["seed"] for trial in theirs["trials"]]
    assert {path.name for path in (tmp_path / "one").iterdir()} == {path.name for path in (tmp_path / "two").iterdir()}


@pytest.mark.slow
def test_process_with_nothing_to_save_ends_both_at_once(flags, shared, tmp_path):
    pair = Pair(*flags(tmp_path / "run"), program=slowed("compiling", tmp_path / "phase"))
    wait_for((tmp_path / "phase").exists, pair.processes[0])
    pair.processes[1].send_signal(signal.SIGTERM)
    reason = "SIGTERM: stopped while compiling, with nothing to save"
    first, second = pair.ended(75, 75)
    assert reason in second
    assert re.search(rf"process 1 on .* ended: {reason}", first)


@pytest.mark.slow
def test_process_killed_before_a_save_is_named_with_75(flags, shared, tmp_path):
    pair = Pair(*flags(tmp_path / "run"), program=slowed("saving", tmp_path / "phase", 2))
    wait_for((tmp_path / "phase").exists, pair.processes[0])
    pair.processes[1].kill()
    printed, _ = pair.ended(75, -signal.SIGKILL)
    assert re.search(r"process 1 on .* is lost", printed)
    assert "Free some space" not in printed
