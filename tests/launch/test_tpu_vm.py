"""Launching on TPU VMs: what gcloud is asked, what happens on the workers, and when a run is tried again."""

import os
import re
import shlex
import shutil
import signal
import subprocess

import pytest

from tests.launch.stand_in import Cloud
from tests.running import ROOT

SLICE = "--topology=v5e:4x4"
FLAGS = ("--config=configs/base.py", "--workdir=/mnt/shared/base")
PLACE = ["--zone=us-west4-a", "--quiet"]


@pytest.fixture
def cloud(tmp_path):
    cloud = Cloud(tmp_path)
    yield cloud
    cloud.close()


def verbs(calls):
    return [" ".join(call[2:4]).replace("queued-resources", "queue").replace("tpu-vm", "vm") for call in calls]


# --- Options ---------------------------------------------------------------------------------------------------------


def test_all_problems_are_reported_at_once_before_gcloud_runs(cloud):
    options = (
        "--name=Big",
        "--zone=here",
        "--slices=two",
        "--topology=v5e:16",
        "--spott",
        "--setup=nowhere.sh",
        "--poll=1.5",
    )
    code, output, messages, calls = cloud.run("train", *options)
    assert code == 64
    assert output == ""
    assert not calls
    for message in (
        "--name=Big: expected lower-case",
        "--zone=here: expected a zone",
        "--slices=two: expected a whole number",
        "--topology=v5e:16: expected v4, v5e",
        "--spott: there is no such option",
        "/nowhere.sh: there is no such file",
        "--poll=1.5: expected a whole number",
        "needs --config=FILE and --workdir=DIR",
    ):
        assert message in messages


@pytest.mark.parametrize(
    ("command", "options", "message"),
    [
        ("launch", (), "launch: there is no such command; expected train, create"),
        ("create", (), "--topology is missing"),
        ("create", (SLICE, "--accelerator_type=v5litepod-16"), "give one of them"),
        ("create", ("--accelerator_type=v9-8",), "give --runtime_version"),
        ("create", (SLICE, "--create_flag=reserved"), "expected a flag of gcloud's"),
        ("run", ("--config=configs/base.py",), "flags of electra_jax.main come after a --"),
        ("status", ("--slices=0",), "expected at least 1"),
        ("status", ("--name=",), "--name is missing"),
        ("status", ("--zone=",), "--zone is missing"),
        ("status", ("--name=" + "a" * 50,), "at most 49"),
    ],
)
def test_a_bad_option_ends_with_64_and_states_what_was_expected(cloud, command, options, message):
    code, _, messages, calls = cloud.run(command, *options)
    assert code == 64
    assert message in messages
    assert not calls


def test_flags_of_a_run_are_refused_where_nothing_is_run(cloud):
    code, _, messages, _ = cloud.run("delete", flags=FLAGS)
    assert code == 64
    assert "delete takes no flags of electra_jax.main" in messages


def test_without_gcloud_its_download_page_is_named(cloud):
    (cloud.bin / "gcloud").unlink()
    code, _, messages, _ = cloud.run("status")
    assert code == 64
    assert "https://cloud.google.com/sdk" in messages


def test_a_folder_that_is_no_checkout_is_refused(cloud):
    (cloud.root / ".git").rename(cloud.root / "elsewhere")
    code, _, messages, _ = cloud.run("sync")
    assert code == 64
    assert "not a git checkout" in messages


def test_help_lists_commands_and_options(cloud):
    code, output, _, _ = cloud.run("help")
    assert code == 0
    script = (cloud.root / "launch/tpu_vm.sh").read_text()
    options = re.findall(r"^    (--\w+)(?:=\*|=--\*|)\) ", script, re.MULTILINE)
    assert len(options) > 15
    for option in options:
        assert option in output
    assert "  train    all of these" in output
    assert "set -euo" not in output


# --- What gcloud is asked --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "accelerator", "image"),
    [
        ("v5e:4x4", "v5litepod-16", "v2-alpha-tpuv5-lite"),
        ("v6e:16x16", "v6e-256", "v2-alpha-tpuv6e"),
        ("v5p:2x2x4", "v5p-32", "v2-alpha-tpuv5"),
        ("v4:4x4x8", "v4-256", "tpu-ubuntu2204-base"),
    ],
)
def test_a_topology_becomes_googles_name_and_image(cloud, asked, accelerator, image):
    _, _, _, calls = cloud.run("create", f"--topology={asked}")
    assert calls[1] == [
        *("compute", "tpus", "queued-resources", "create", "el", *PLACE),
        *(f"--accelerator-type={accelerator}", f"--runtime-version={image}", "--node-id=el"),
    ]


def test_several_slices_spot_and_further_flags_are_asked_for(cloud):
    _, _, _, calls = cloud.run(
        "create", SLICE, "--slices=2", "--spot", "--project=p", "--create_flag=--network=a b", "--create_flag=--async"
    )
    assert calls[1][5:] == [
        *(*PLACE, "--project=p", "--accelerator-type=v5litepod-16", "--runtime-version=v2-alpha-tpuv5-lite"),
        *("--node-count=2", "--node-prefix=el", "--spot", "--network=a b", "--async"),
    ]


def test_creating_again_asks_for_nothing_more(cloud):
    cloud.run("create", SLICE)
    code, _, messages, calls = cloud.run("create", SLICE)
    assert code == 0
    assert verbs(calls) == ["queue list"]
    assert "el is there already" in messages


@pytest.mark.parametrize("state", ["FAILED", "SUSPENDED"])
def test_a_request_that_cannot_come_true_any_more_is_replaced(cloud, state):
    cloud.write("queue", state)
    code, _, _, calls = cloud.run("create", SLICE)
    assert code == 0
    assert [verb for verb in verbs(calls) if verb != "queue list"] == ["queue delete", "queue create"]


def test_deleting_takes_the_tpus_along_and_can_be_repeated(cloud):
    cloud.run("create", SLICE)
    code, _, _, calls = cloud.run("delete")
    assert code == 0
    assert ["compute", "tpus", "queued-resources", "delete", "el", *PLACE, "--force"] in calls
    assert verbs(calls)[-1] == "queue list", "it waits until the name is free"
    code, _, messages, calls = cloud.run("delete")
    assert code == 0
    assert verbs(calls) == ["queue list"]
    assert "nothing to delete" in messages


def test_when_gcloud_fails_so_does_the_command(cloud):
    cloud.write("broken", "1")
    code, _, messages, _ = cloud.run("create", SLICE)
    assert code == 1
    assert "ERROR: no network" in messages
    assert "gcloud cannot list" in messages


# --- The workers -----------------------------------------------------------------------------------------------------


def active(cloud, *, synced=True):
    cloud.write("plans", "ACTIVE")
    assert cloud.run("create", SLICE)[0] == 0
    if synced:
        assert cloud.run("sync")[0] == 0
    return cloud.files / "workers"


def test_sync_sends_the_commit_and_installs_it_on_every_worker(cloud):
    workers = active(cloud, synced=False)
    (cloud.root / "new.py").write_text("not committed")
    code, _, messages, calls = cloud.run("sync")
    assert code == 0, messages
    assert "Not sent, since not committed:\n?? new.py" in messages
    assert verbs(calls) == ["vm ssh", "vm scp", "vm ssh"]
    for number in "01":
        code_there = workers / number / "electra_jax/code"
        assert (code_there / "launch/worker.sh").read_text() == (cloud.root / "launch/worker.sh").read_text()
        assert not (code_there / "new.py").exists()
        installed = [line for line in cloud.read("installed").splitlines() if line.startswith(number)]
        assert [line.split(" -")[-1] for line in installed] == ["r requirements.txt", "e .", "r requirements-tpu.txt"]
        assert "-c requirements.txt -r requirements-tpu.txt" in installed[-1]


def test_sync_again_follows_the_commit_and_keeps_what_runs_left(cloud):
    (cloud.root / "old name.py").write_text("")
    cloud.commit()
    workers = active(cloud)
    kept = workers / "1/electra_jax/code/runs/base"
    kept.mkdir(parents=True)
    (cloud.root / "old name.py").unlink()
    (cloud.root / "new.py").write_text("")
    cloud.commit()
    before = cloud.read("installed")
    assert cloud.run("sync")[0] == 0
    there = workers / "1/electra_jax/code"
    assert not (there / "old name.py").exists()
    assert (there / "new.py").exists()
    assert kept.exists()
    assert cloud.read("installed") == before, "the requirements are the same"


def test_the_setup_script_runs_on_every_worker_until_it_is_left_out(cloud):
    workers = active(cloud, synced=False)
    (cloud.files / "my mounts.sh").write_text("echo mounted >> ~/mounts\n")
    for options in (["--setup=my mounts.sh"], []):
        (cloud.root / "my mounts.sh").write_text("echo mounted >> ~/mounts\n")
        assert cloud.run("sync", *options)[0] == 0
    assert [(workers / number / "mounts").read_text() for number in "01"] == ["mounted\n"] * 2


def test_a_failed_installation_is_reported_and_nothing_starts(cloud):
    active(cloud)
    # What was installed for the commit before does not count.
    (cloud.root / "requirements-tpu.txt").write_text("of another version\n")
    cloud.commit()
    cloud.write("pip_status", "1")
    code, _, messages, _ = cloud.run("sync")
    assert code == 1
    assert "Installing failed on at least one worker" in messages
    code, _, messages, _ = cloud.run("run", flags=FLAGS)
    assert code == 64
    assert "Nothing is installed on el. First: sync" in messages
    assert not cloud.starts()


def test_an_image_with_an_old_python_gets_a_later_one(cloud):
    # python3 is 3.10, as on TPU images; its uv brings the stand-in for 3.12.
    python = cloud.bin / "python3"
    python.write_text(
        """#!/bin/bash
case "$1 $2 $3" in
  "-c import sys"*) echo 3.10 ;;
  "-m uv --version") [ -e "$HOME/uv" ] ;;
  "-m pip install") echo "$WORKER: ${@: -1}" >> "$CLOUD/uv"; touch "$HOME/uv" ;;
  "-m uv venv") mkdir -p .venv/bin; cp "$CLOUD/later python" .venv/bin/python; echo "$WORKER: $*" >> "$CLOUD/uv" ;;
  *) exit 1 ;;
esac
"""
    )
    python.chmod(0o755)
    (cloud.bin / "python3.12").rename(cloud.files / "later python")
    active(cloud)
    asked = cloud.read("uv").splitlines()
    assert [line for line in asked if "venv" in line] == [
        f"{number}: -m uv venv --quiet --clear --seed --python 3.12 .venv" for number in (0, 1)
    ]
    assert all(re.fullmatch(r"[01]: uv==[\d.]+", line) for line in asked if "venv" not in line)
    assert cloud.run("sync")[0] == 0
    assert cloud.read("uv").splitlines() == asked, "once is enough"


def test_flags_reach_the_run_unchanged(cloud):
    active(cloud)
    flags = (*FLAGS, "--config.data.sources=('a b*.txt', \"it's $HOME\")", "", "--x=`id`;\\ & é\n!", "-- --")
    assert cloud.run("run", flags=flags)[0] == 0
    for number in "01":
        cloud.wait_for(lambda n=number: cloud.read(f"flags-{n}").endswith("\0\n"))
        assert cloud.read(f"flags-{number}") == "".join(f"{flag}\0" for flag in flags) + "\n"


def test_a_run_outlives_who_started_it_and_its_exit_code_is_kept(cloud):
    active(cloud)
    cloud.write("runs", "go")
    assert cloud.run("run", flags=FLAGS)[0] == 0
    cloud.wait_for(lambda: cloud.starts(0) == cloud.starts(1) == 1)
    _, output, _, _ = cloud.run("status")
    assert output.count(": running\n") == 2
    cloud.write("finish", "")
    cloud.wait_for(lambda: cloud.run("status")[1].count(": exit 0\n") == 2)


def test_starting_again_changes_nothing_and_other_flags_are_refused(cloud):
    active(cloud)
    cloud.write("runs", "go")
    cloud.run("run", flags=FLAGS)
    cloud.wait_for(lambda: cloud.starts(0) == cloud.starts(1) == 1)
    code, _, messages, _ = cloud.run("run", flags=FLAGS)
    assert code == 0
    assert messages.count("running already") == 2
    code, _, messages, _ = cloud.run("run", flags=(*FLAGS, "--mode=eval"))
    assert code == 64
    assert "--workdir=/mnt/shared/base" in messages
    code, _, messages, _ = cloud.run("sync")
    assert code == 64
    assert "cannot be changed under it" in messages
    assert cloud.starts() == 1


def test_stop_lets_the_run_save_its_state(cloud):
    active(cloud)
    cloud.write("runs", "go")
    cloud.run("run", flags=FLAGS)
    cloud.wait_for(lambda: "training" in cloud.run("logs", "--worker=1")[1])
    code, output, _, _ = cloud.run("stop")
    assert code == 0
    assert output.count("exit 75 (stopped by you)") == 2
    assert cloud.run("stop")[0] == 0
    assert "saved" in cloud.run("logs", "--lines=3")[1]


def test_logs_go_on_from_run_to_run(cloud):
    active(cloud)
    assert "no log" in cloud.run("logs")[1]
    for _ in range(2):
        cloud.run("run", flags=FLAGS)
        cloud.wait_for(lambda: "exit 0" in cloud.run("status")[1])
    _, output, _, calls = cloud.run("logs", "--worker=1")
    assert output.count("== ") == 4
    assert calls[0][3:] == [
        *("ssh", "el", *PLACE, "--worker=1", calls[0][-1]),
    ]
    assert " launch/worker.sh logs 100;" in calls[0][-1].replace("electra_jax/code/", "")


def test_with_several_slices_all_of_them_are_reached(cloud):
    options = ("--slices=2", "--ssh_flag=--internal-ip")
    cloud.write("plans", "ACTIVE")
    cloud.run("create", SLICE, "--slices=2")
    for command, flags in (("sync", ()), ("run", FLAGS), ("stop", ())):
        code, _, messages, calls = cloud.run(command, *options, flags=flags)
        assert code == 0, messages
        assert sorted({word.rstrip(":") for call in calls for word in call if word.startswith("el-")}) == [
            "el-0",
            "el-1",
        ]
        assert all({"--worker=all", "--internal-ip"} <= set(call) for call in calls)
    assert cloud.run("status", *options)[1].count(": exit ") == 4
    _, _, _, calls = cloud.run("logs", *options, "--slice=1", "--worker=1", "--lines=5")
    assert calls[0][2:5] == ["tpu-vm", "ssh", "el-1"]
    assert "--worker=1" in calls[0]


# --- Start to end ---------------------------------------------------------------------------------------------------


def train(cloud, *options):
    code, _, messages, calls = cloud.run("train", SLICE, *options, flags=FLAGS)
    return code, messages, [verb for verb in verbs(calls) if verb in ("queue create", "queue delete", "vm scp")]


def test_train_goes_from_nothing_to_a_finished_run(cloud):
    code, messages, course = train(cloud)
    assert code == 0, messages
    assert course == ["queue create", "vm scp"]
    assert "el: WAITING_FOR_RESOURCES\nel: PROVISIONING\nel: ACTIVE" in messages
    assert "The TPUs are still there, and cost money" in messages
    assert messages.count("Attempting to connect") == 3, "when copying, installing and starting, but not at every look"
    assert (cloud.starts(0), cloud.starts(1)) == (1, 1)


@pytest.mark.slow
def test_train_gives_the_tpus_back_if_asked(cloud):
    code, _, course = train(cloud, "--delete_when_done")
    assert code == 0
    assert course == ["queue create", "vm scp", "queue delete"]


@pytest.mark.slow
@pytest.mark.parametrize("how", ["taken", "silently"])
def test_preempted_tpus_are_replaced_and_the_run_goes_on(cloud, how):
    cloud.write("runs", f"{how},go\n{how},go\n0")
    code, messages, course = train(cloud, "--spot")
    assert code == 0, messages
    assert course == ["queue create", "vm scp", "queue delete"] * 2 + ["queue create", "vm scp"]
    assert (cloud.starts(0), cloud.starts(1)) == (3, 3)


@pytest.mark.slow
def test_a_slice_that_is_gone_takes_the_others_along(cloud):
    cloud.write("runs", "partly,go,go,go\n0")
    code, messages, course = train(cloud, "--slices=2")
    assert code == 0, messages
    assert course == ["queue create", "vm scp", "vm scp", "queue delete", "queue create", "vm scp", "vm scp"]
    assert [cloud.starts(number) for number in range(4)] == [2] * 4


@pytest.mark.slow
def test_a_run_that_saved_its_state_starts_again_on_the_same_tpus(cloud):
    cloud.write("runs", "75\n75,134\n75\n75\n75\n0")
    code, messages, course = train(cloud)
    assert code == 0, messages
    assert course == ["queue create"] + ["vm scp"] * 6


@pytest.mark.slow
@pytest.mark.parametrize("code", [64, 76, 77])
def test_a_code_that_another_try_would_not_change_is_passed_on(cloud, code):
    cloud.write("runs", f"1,{code}")
    ended, messages, course = train(cloud)
    assert ended == code
    assert course == ["queue create", "vm scp"]
    assert "another try would not change" in messages
    assert "exit 1\n" in messages, "the end of the log"


@pytest.mark.slow
def test_crashes_are_tried_again_a_few_times(cloud):
    cloud.write("runs", "1\n0,139\nlost\n0\n")
    code, messages, _ = train(cloud)
    assert code == 0, messages
    assert "2 × lost" in messages
    assert cloud.starts() == 4
    cloud.write("runs", "0\n" * 4 + "3\n75\n3\n3\n")
    code, messages, _ = train(cloud, "--retries=1")
    assert code == 3
    assert cloud.starts() == 8, "a run that saved its state does not count"
    assert "failed 2 times in a row" in messages


@pytest.mark.slow
def test_workers_that_go_on_without_the_others_are_stopped(cloud):
    cloud.write("runs", "1,go\n0")
    code, messages, _ = train(cloud)
    assert code == 0, messages
    assert "Some workers have ended and others go on: stopping them" in messages
    assert (cloud.starts(0), cloud.starts(1)) == (2, 2)


@pytest.mark.slow
def test_who_repeats_train_watches_the_run_that_is_there(cloud):
    cloud.write("runs", "go")
    first = cloud.begin("train", SLICE, flags=FLAGS)
    cloud.wait_for(lambda: cloud.starts(0) == cloud.starts(1) == 1)
    first.send_signal(signal.SIGTERM)
    messages = first.communicate(timeout=20)[1]
    assert first.returncode == 130
    assert "Nobody watches now" in messages
    again = cloud.begin("train", SLICE, flags=FLAGS)
    for line in again.stderr:
        if "watching it" in line:
            break
    cloud.write("finish", "")
    again.communicate(timeout=20)
    assert again.returncode == 0
    assert cloud.starts() == 1


@pytest.mark.slow
def test_a_run_stopped_by_its_user_is_not_started_again(cloud):
    cloud.write("runs", "go")
    watching = cloud.begin("train", SLICE, flags=FLAGS)
    cloud.wait_for(lambda: cloud.starts(0) == cloud.starts(1) == 1)
    assert cloud.run("stop")[0] == 0
    messages = watching.communicate(timeout=20)[1]
    assert watching.returncode == 75
    assert "the same command goes on from the state that it saved" in messages
    assert cloud.starts() == 1


def test_a_lost_connection_is_waited_out_but_not_forever(cloud):
    cloud.write("runs", "go")
    watching = cloud.begin("train", SLICE, flags=FLAGS)
    cloud.wait_for(lambda: cloud.starts(1) == 1)
    cloud.write("broken", "8")
    cloud.wait_for(lambda: cloud.read("broken") == "0")
    cloud.write("finish", "")
    assert watching.wait(timeout=20) == 0
    assert "ERROR: no network" in watching.stderr.read()
    cloud.write("broken", "1000")
    code, messages, _ = train(cloud)
    assert code == 1
    assert "gcloud cannot list" in messages


@pytest.mark.slow
def test_a_request_that_keeps_failing_ends_with_its_reason(cloud):
    cloud.write("plans", "WAITING_FOR_RESOURCES FAILED")
    code, messages, course = train(cloud, "--retries=2")
    assert code == 1
    assert course.count("queue create") == 3
    assert "no such quota" in messages


def test_a_workdir_on_the_workers_own_disk_is_warned_of(cloud):
    _, _, messages, _ = cloud.run(
        "train", SLICE, "--dry_run", flags=("--config=configs/base.py", "--workdir=runs/base")
    )
    assert "--workdir=runs/base is relative" in messages
    assert "relative" not in cloud.run("train", SLICE, "--dry_run", flags=FLAGS)[2]


@pytest.mark.parametrize(
    ("flag", "problem"),
    [
        ("--workdir=s3://bucket/run", "expected a path on the workers or an address that begins with gs://"),
        ("--workdir=gs://bucket", "expected a name within a bucket, as in gs://BUCKET/runs/NAME"),
        ("--workdir=gs:///run", "expected a name within a bucket"),
        ("--workdir=gs://bucket/lr[1e-4]", "take for a pattern; give another name"),
        ("--config.compile_cache=memory://x", "an address that begins with gs:// or s3://"),
        ("--config.data.directory=gs://bucket", "expected a name within a bucket"),
    ],
)
def test_an_address_that_no_run_can_use_is_refused_at_once(cloud, flag, problem):
    flags = ("--config=configs/base.py", "--workdir=gs://bucket/run", flag)
    code, _, messages, calls = cloud.run("train", SLICE, "--dry_run", flags=flags)
    assert code == 64
    assert f"{flag}: " in messages
    assert problem in messages
    assert not calls


def test_addresses_in_a_bucket_are_accepted(cloud):
    flags = (
        "--config=configs/base.py",
        "--workdir=gs://my-bucket/runs/base",
        "--config.compile_cache=s3://other/compiled",
    )
    assert cloud.run("train", SLICE, "--dry_run", flags=flags)[0] == 0


# --- Dry runs --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("slices", [(), ("--slices=2",)])
@pytest.mark.parametrize(
    ("command", "options", "flags"),
    [
        ("create", (SLICE,), ()),
        ("sync", ("--setup=a file",), ()),
        ("run", (), (*FLAGS, "--x='a b' $HOME")),
        ("logs", ("--follow",), ()),
        ("status", (), ()),
        ("stop", (), ()),
        ("delete", (), ()),
        ("train", (SLICE, "--spot", "--delete_when_done"), FLAGS),
    ],
)
def test_a_dry_run_prints_exactly_the_commands_of_a_run_and_runs_none(cloud, command, options, flags, slices):
    cloud.write("a file", "")
    code, output, messages, calls = cloud.run(command, *options, *slices, "--dry_run", flags=flags)
    assert code == 0, messages
    assert not calls
    planned = [shlex.split(line) for line in output.splitlines()]
    planned = [words[1:] for words in planned if words[0] == "gcloud"]
    cloud.write("plans", "ACTIVE")
    if command not in ("create", "train"):
        cloud.run("create", SLICE, *slices)
    if command in ("run", "logs", "stop"):
        cloud.run("sync", *slices)
    if command == "logs":
        options = ()
        planned[0][-1] = planned[0][-1].replace(" follow;", ";")
    code, _, messages, made = cloud.run(command, *options, *slices, flags=flags)
    assert code == 0, messages

    def comparable(calls):
        # A real run looks as often as it takes, and packs the commit into a folder of its own.
        calls = [[re.sub(r"^/.*/", "", word) for word in call] for call in calls]
        # Slices are called at the same time, so in any order.
        return (
            [call for n, call in enumerate(calls) if call not in calls[:n]] if not slices else sorted(map(str, calls))
        )

    if slices:
        made = [call for n, call in enumerate(made) if call not in made[:n]]
        planned = [call for n, call in enumerate(planned) if call not in planned[:n]]
    assert comparable(planned) == comparable(made)


def test_the_commands_of_the_readme_are_understood(cloud):
    found = re.findall(r"`\./launch/tpu_vm\.sh ([^`]+)`", (ROOT / "launch/README.md").read_text("utf-8"))
    assert {command.split()[0] for command in found} == {
        *("train", "create", "sync", "run", "logs", "status", "stop", "delete"),
    }
    cloud.write("mounts.sh", "")
    for command in found:
        words = shlex.split(command.replace("=ZONE", "=us-west4-a").replace("=NAME", "=electra"))
        flags = words[words.index("--") + 1 :] if "--" in words else ()
        options = words[1 : words.index("--") if "--" in words else None]
        code, output, messages, _ = cloud.run(words[0], *options, "--dry_run", flags=flags)
        assert code == 0, f"{command}\n{messages}"
        assert "relative" not in messages or "…" in command
        assert "gcloud compute tpus" in output


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("gcloud"), reason="asks an installed gcloud for its help; none is here")
def test_the_real_gcloud_knows_every_command_and_flag(cloud, tmp_path):
    asked = {}
    for command, options, flags in (
        ("train", (SLICE, "--spot", "--project=p", "--delete_when_done"), FLAGS),
        ("train", (SLICE, "--slices=2", "--delete_when_done"), FLAGS),
        ("logs", (), ()),
    ):
        for line in cloud.run(command, *options, "--dry_run", flags=flags)[1].splitlines():
            words = shlex.split(line)
            if words[0] == "gcloud":
                given = {word.split("=")[0] for word in words if word.startswith("--")}
                asked.setdefault(tuple(words[1:5]), set()).update(
                    given - {"--quiet", "--project", "--filter", "--format"}
                )
    for verb in ("list", "create", "delete"):
        assert ("compute", "tpus", "queued-resources", verb) in asked
    for verb in ("ssh", "scp"):
        assert ("compute", "tpus", "tpu-vm", verb) in asked
    environment = os.environ | {"CLOUDSDK_CONFIG": str(tmp_path / "no one"), "TERM": "dumb"}
    for words, flags in asked.items():
        shown = subprocess.run(
            ["gcloud", *words, "--help"], env=environment, capture_output=True, text=True, check=True
        )
        known = set(re.findall(r"--[a-z-]+", re.sub(r".\x08|\x1b\[\d*m", "", shown.stdout)))
        assert flags <= known, words
