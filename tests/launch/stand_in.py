"""A cloud on this machine: a `gcloud` that records its calls and plays the course of queued resources; each worker is a
folder in which commands really run, as they would through ssh, with a Python that plays the run."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time

from tests.running import ROOT

REQUIREMENTS = ("requirements.txt", "requirements-tpu.txt", "requirements-gpu.txt", "pyproject.toml")

# Installs at once; a run does what line n of $CLOUD/runs says of its n-th start on this worker.
FAKE_PYTHON = """#!/bin/bash
case "$1 $2" in
  "-c import sys"*) echo 3.12 ;;
  "-c import"*) ;;
  "-m venv") rm -rf "$4"; mkdir -p "$4/bin"; cp "$0" "$4/bin/python" ;;
  "-m pip") shift 4; echo "$WORKER: pip $*" >> "$CLOUD/installed"; exit "$(cat "$CLOUD/pip_status" 2>/dev/null || echo 0)" ;;
  "-m electra_jax.main")
    shift 2
    echo start >> "$CLOUD/starts-$WORKER"
    { printf '%s\\0' "$@"; printf '\\n'; } >> "$CLOUD/flags-$WORKER"
    trap 'echo saved; exit 75' TERM
    # Trouble comes when all workers have started, so that each of them is at the same line of the course.
    everyone_started() {
      local home
      for home in "$CLOUD"/workers/*; do
        until [ "$(cat "$CLOUD/starts-${home##*/}" 2>/dev/null | wc -l)" -ge "$(wc -l < "$CLOUD/starts-$WORKER")" ]; do
          sleep 0.05
        done
      done
    }
    # The n-th line, or the last one; of it, this worker's word, or the only one.
    course=$(head -n "$(wc -l < "$CLOUD/starts-$WORKER")" "$CLOUD/runs" | tail -n 1 | cut -d, -f "$((WORKER + 1))")
    case $course in
      go) ;;
      taken) [ "$WORKER" != 0 ] || { everyone_started; echo SUSPENDED > "$CLOUD/queue"; } ;;
      silently) [ "$WORKER" != 0 ] || { everyone_started; echo PREEMPTED > "$CLOUD/node"; } ;;
      partly) [ "$WORKER" != 0 ] || { everyone_started; echo el-1=PREEMPTED > "$CLOUD/node"; } ;;
      lost) everyone_started; kill -KILL $PPID $$ ;;
      *) exit "$course" ;;
    esac
    echo training
    while [ ! -e "$CLOUD/finish" ]; do sleep 0.05; done ;;
esac
"""

FAKE_GCLOUD = """#!@python
import json, os, pathlib, shutil, signal, subprocess, sys, tempfile

cloud = pathlib.Path(os.environ["CLOUD"])
arguments = sys.argv[1:]
with open(cloud / "calls", "a") as calls:
    calls.write(json.dumps(arguments) + "\\n")
assert arguments[:2] == ["compute", "tpus"] and "--quiet" in arguments and sys.stdin.read() == "", arguments
group, verb = arguments[2:4]
options = dict(a.partition("=")[::2] for a in arguments if a.startswith("--"))
queue, node, broken = cloud / "queue", cloud / "node", cloud / "broken"
homes = sorted((cloud / "workers").glob("*"))
size = int(os.environ["WORKERS"])


def wipe():
    for home in homes:
        if (home / "electra_jax/run/pid").exists():
            try:
                # With the shell that supervises it: where a machine is gone, nothing records an exit code.
                os.killpg(os.getpgid(int((home / "electra_jax/run/pid").read_text())), signal.SIGKILL)
            except ProcessLookupError:
                pass
        # Moved rather than removed, which fails while something there still creates files.
        home.rename(tempfile.mkdtemp(dir=cloud, prefix="wiped-"))
    node.write_text("READY")


def state():
    return [word for word in queue.read_text().split()[:1] if word != "NOTHING"]


def node_state(name):
    found = node.read_text().strip()
    return found.partition("=")[2] if found.startswith(name + "=") else "READY" if "=" in found else found


if broken.exists() and (left := int(broken.read_text())) > 0:
    broken.write_text(str(left - 1))
    sys.exit("ERROR: no network")
if (group, verb) == ("queued-resources", "list"):
    lines = queue.read_text().split()
    print(*state())
    queue.write_text("\\n".join(lines[1:] or lines))
elif (group, verb) == ("queued-resources", "create"):
    if state():
        sys.exit("ERROR: ALREADY_EXISTS")
    plans = (cloud / "plans").read_text().splitlines()
    queue.write_text("\\n".join(plans[0].split()))
    (cloud / "plans").write_text("\\n".join(plans[1:] or plans))
    wipe()
    for number in range(size * int(options.get("--node-count", 1))):
        (cloud / "workers" / str(number)).mkdir(parents=True)
elif (group, verb) == ("queued-resources", "delete"):
    if not state():
        sys.exit("ERROR: NOT_FOUND")
    wipe()
    queue.write_text("DELETING NOTHING" if "--force" in options else "ACTIVE")
elif verb == "describe":
    print(node_state(arguments[4]) if group == "tpu-vm" else f"state: {state()} no such quota")
elif (group, verb) in (("tpu-vm", "ssh"), ("tpu-vm", "scp")):
    colon = [a.endswith(":") for a in arguments].index(True) if verb == "scp" else 0
    name = arguments[colon or 4].rstrip(":")
    if state() != ["ACTIVE"] or node_state(name) != "READY":
        sys.exit("ERROR: cannot connect")
    print("Attempting to connect", file=sys.stderr)
    first = size * int(name.partition("-")[2] or 0)
    chosen = homes[first : first + size]
    if options["--worker"] != "all":
        chosen = [chosen[int(options["--worker"])]]
    worst = 0
    for home in chosen:
        if verb == "scp":
            for source in arguments[4:colon]:
                shutil.copy(source, home)
            continue
        environment = os.environ | {"HOME": str(home), "WORKER": home.name}
        worst = max(worst, subprocess.run(["bash", "-c", options["--command"]], cwd=home, env=environment).returncode)
    sys.exit(worst)
else:
    sys.exit(f"ERROR: no such command: {arguments}")
"""


# Nothing else is on PATH, a real gcloud least of all.
TOOLS = (
    *(
        "bash",
        "cat",
        "cp",
        "cut",
        "date",
        "dirname",
        "env",
        "flock",
        "git",
        "grep",
        "gzip",
        "head",
        "hostname",
        "mkdir",
    ),
    *(
        "mktemp",
        "mv",
        "rm",
        "sed",
        "setsid",
        "sh",
        "sleep",
        "sort",
        "tail",
        "tar",
        "touch",
        "tr",
        "uniq",
        "wc",
        "xargs",
    ),
)


class Cloud:
    """What stands in for Google's cloud, and a checkout to launch from."""

    def __init__(self, directory):
        self.processes = []
        self.root = directory / "a checkout"
        self.files = directory / "cloud"
        self.bin = directory / "bin"
        (self.files / "workers").mkdir(parents=True)
        self.bin.mkdir()
        shutil.copytree(ROOT / "launch", self.root / "launch")
        for name in REQUIREMENTS:
            (self.root / name).write_text(f"of {name}\n")
        (self.root / ".gitignore").write_text("ignored\n")
        self.git("init", "--quiet")
        self.commit()
        for name, text in (("gcloud", FAKE_GCLOUD.replace("@python", sys.executable)), ("python3.12", FAKE_PYTHON)):
            (self.bin / name).write_text(text)
            (self.bin / name).chmod(0o755)
        for tool in TOOLS:
            (self.bin / tool).symlink_to(shutil.which(tool))
        self.write("queue", "")
        self.write("node", "READY")
        self.write("plans", "WAITING_FOR_RESOURCES PROVISIONING ACTIVE")
        self.write("runs", "0")
        self.write("calls", "")
        # The environment that these tests run in must not decide where the scripts under test install.
        inherited = {name: value for name, value in os.environ.items() if name not in ("PYTHON", "VENV")}
        self.environment = inherited | {
            "PATH": str(self.bin),
            "CLOUD": str(self.files),
            "WORKERS": "2",
            "STOP_SECONDS": "20",
        }

    def git(self, *arguments):
        identity = ("-c", "user.name=Nobody", "-c", "user.email=nobody@example.org")
        subprocess.run(["git", *identity, *arguments], cwd=self.root, check=True, capture_output=True)

    def commit(self):
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message=A state")

    def write(self, name, text):
        (self.files / name).write_text(text)

    def read(self, name):
        path = self.files / name
        return path.read_text() if path.exists() else ""

    def begin(self, command, *options, flags=()):
        """Starts the script in the background."""
        given = [f"--{name}" for name in ("name=el", "zone=us-west4-a", "poll=0")]
        process = subprocess.Popen(
            [self.root / "launch/tpu_vm.sh", command, *given, *options, *(["--", *flags] if flags else [])],
            cwd=self.files,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.processes.append(process)
        return process

    def run(self, command, *options, flags=(), timeout=60):
        """Returns exit code, output and messages of the finished script, and the calls of gcloud that it made."""
        self.write("calls", "")
        process = self.begin(command, *options, flags=flags)
        output, messages = process.communicate(timeout=timeout)
        return process.returncode, output, messages, self.calls()

    def calls(self):
        return [json.loads(line) for line in self.read("calls").splitlines()]

    def wait_for(self, condition, seconds=30):
        until = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < until, "timed out"
            time.sleep(0.02)

    def starts(self, worker=0):
        return self.read(f"starts-{worker}").count("start")

    def close(self):
        for process in self.processes:
            process.kill()
        for path in self.files.glob("workers/*/electra_jax/run/pid"):
            with contextlib.suppress(ProcessLookupError, ValueError):
                os.kill(int(path.read_text()), signal.SIGKILL)
