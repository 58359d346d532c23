"""Which addresses are refused as a run's directory, and what an error of the storage means before and during a run."""

import io

import pytest

from electra_jax import storage
from electra_jax.errors import InputError, StorageLost
from electra_jax.progress import ProgressLine, QuietLine
from electra_jax.runs.final_report import report_at_end
from electra_jax.runs.run_options import RunOptions
from electra_jax.runs.run_workdir import Workdir
from electra_jax.runs.workdir_address import address_problem, check_access
from electra_jax.training.run_context import RunContext, under_way


@pytest.mark.parametrize("workdir", ["gs://bucket/run", "gs://bucket/a b/ü", "runs/lr[1e-4]", "~/run", "/a/b"])
def test_paths_and_names_in_a_bucket_are_accepted(workdir):
    assert address_problem(workdir) == ""


@pytest.mark.parametrize(
    ("workdir", "problem"),
    [
        ("nonsense://bucket/run", "nonsense:// cannot be used"),
        ("memory://run", "found memory://, expected a local path or gs://BUCKET/NAME"),
        ("gs://bucket", "expected a name within a bucket"),
        ("gs://bucket/", "expected a name within a bucket"),
        ("gs:///run", "expected a name within a bucket"),
        ("gs://bucket/lr[1e-4]", "found [ ], which tools of object stores take for a pattern"),
    ],
)
def test_other_addresses_are_refused_with_the_reason(workdir, problem):
    assert problem in address_problem(workdir)


def opened(path):
    """Opens the workdir of a run, and closes it."""
    with Workdir(RunContext(path, QuietLine()), RunOptions("test")).opened({"steps": 1}) as context:
        context.check_owner()


@pytest.mark.parametrize("kind", ["local", "bucket"])
def test_a_workdir_records_its_config(object_store, kind, tmp_path):
    path = str(tmp_path / "run") if kind == "local" else "gs://bucket/run"
    if kind == "bucket":
        storage.write(f"{path}/{storage.ACCESS_CHECK}1", b"")  # Of a process that was killed.
    opened(path)
    opened(path)
    assert "config.json" in storage.names(path)
    storage.write(f"{path}_other/x", b"")
    with pytest.raises(InputError, match="is not empty and holds no config"):
        opened(f"{path}_other")


def test_a_missing_or_forbidden_bucket_is_refused_at_the_start(object_store):
    with pytest.raises(
        InputError, match=r"--workdir=gs://nowhere/run: cannot be used: .*no such bucket.*Make the bucket"
    ):
        check_access("gs://nowhere/run")
    check_access("gs://bucket/run")
    object_store.trouble = lambda method, path: 403 if method == "POST" else 0
    with pytest.raises(InputError, match=r"--workdir=gs://bucket/run: cannot be used: .*Forbidden"):
        check_access("gs://bucket/run")
    with pytest.raises(InputError, match=r"--workdir=gs://bucket/run: cannot be used: .*Forbidden"):
        opened("gs://bucket/run")


def test_an_outage_at_the_start_is_no_bad_flag(object_store, monkeypatch):
    monkeypatch.setattr(storage, "RETRY_SECONDS", 0.0)
    object_store.trouble = lambda method, path: 503
    with pytest.raises(StorageLost, match="Run the same command again"):
        opened("gs://bucket/run")


def test_any_error_of_the_storage_during_a_run_is_75(object_store):
    def write():
        with under_way():
            storage.write("gs://bucket/run/file", b"")

    write()
    object_store.trouble = lambda method, path: 403
    with pytest.raises(StorageLost, match=r"during the run: .*Forbidden") as error:
        write()
    assert error.value.exit_code == 75


def test_no_report_is_written_to_a_storage_that_is_lost(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "train/loss": 1.0}\n')
    printed = io.StringIO()

    def stop(error):
        with report_at_end(RunContext(str(tmp_path), ProgressLine(printed))):
            raise error

    with pytest.raises(StorageLost):
        stop(StorageLost("503"))
    assert not (tmp_path / "report.html").exists()
    with pytest.raises(KeyboardInterrupt):
        stop(KeyboardInterrupt())
    assert (tmp_path / "report.html").exists()
