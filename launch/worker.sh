#!/usr/bin/env bash
# Runs on each machine of a slice, called by launch/tpu_vm.sh: launch/worker.sh install|start|compare|state|stop|logs
#   install         makes .venv with the requirements for TPUs, then runs ~/electra_jax/setup.sh if there is one
#   start FLAGS…    starts electra_jax.main, which keeps running when the caller disconnects
#   compare FLAGS…  reports whether the run on this machine has these flags
#   state           prints one line: absent, running, exit CODE, or lost (it ended without an exit code)
#   stop [again]    asks the run to save its state and end, and waits for it; "again" if it will be restarted
#   logs LINES [follow]
# Everything that a run leaves here apart from its workdir is in ~/electra_jax/run.
set -euo pipefail
# shellcheck source=launch/environment.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/environment.sh"

readonly UV_VERSION=0.13.9
run=$HOME/electra_jax/run
installed=$HOME/electra_jax/installed

# With a prefix, since gcloud mixes the lines of all workers with its own.
report() {
  echo "electra_jax $(hostname): $1"
}

# TPU images come with Python 3.10. uv brings a later one without touching the system's.
make_suitable_environment() {
  local candidate
  for candidate in "$VENV/bin/python" python3.13 python3.12 python3.11; do
    if is_suitable "$(python_version "$candidate")" && "$candidate" -c 'import pip, venv, ensurepip' 2>/dev/null; then
      return
    fi
  done
  if ! python3 -m uv --version >/dev/null 2>&1; then
    # PIP_BREAK_SYSTEM_PACKAGES, since Debian and Ubuntu refuse pip for their Python, even with --user.
    PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install --user --quiet --disable-pip-version-check "uv==$UV_VERSION"
  fi
  python3 -m uv venv --quiet --clear --seed --python 3.12 "$VENV"
}

install() {
  # The lock prevents two from writing into the same .venv: one started before a connection broke, and its retry.
  exec 8>"$HOME/electra_jax/installing"
  flock 8
  rm -f "$installed"
  make_suitable_environment
  install_electra_jax
  install_once tpu "about a minute" "requirements-tpu.txt requirements.txt" -c requirements.txt -r requirements-tpu.txt
  if [[ -f $HOME/electra_jax/setup.sh ]]; then
    bash "$HOME/electra_jax/setup.sh"
  fi
  touch "$installed"
  report installed
}

# Whether a run is running. The run and its child processes hold the lock, so this also works if a process id is reused.
is_locked() {
  [[ -e $run/lock ]] && ! (flock --nonblock 7) 7<"$run/lock"
}

state() {
  local note=""
  if [[ -f $run/exit_code ]]; then
    if [[ -f $run/stopped ]]; then
      note=" (stopped by you)"
    fi
    echo "exit $(cat "$run/exit_code")$note"
  elif is_locked; then
    echo running
  elif [[ -f $run/flags ]]; then
    echo lost
  else
    echo absent
  fi
}

# Reports whether the run on this machine has these flags.
compare() {
  if [[ $(cat "$run/flags") == "$(printf '%q ' "$@")" ]]; then
    report "running already"
  else
    report "occupied by a run with these flags: $(cat "$run/flags")"
  fi
}

start() {
  if [[ ! -f $installed ]]; then
    report "not installed"
    return
  fi
  mkdir -p "$run"
  exec 9>>"$run/lock"
  # Child processes of a run that has ended may take a moment to end.
  if ! flock --nonblock 9 && { [[ ! -f $run/exit_code ]] || ! flock --timeout 60 9; }; then
    compare "$@"
    return
  fi
  rm -f "$run/exit_code" "$run/stopped" "$run/pid"
  printf '%q ' "$@" >"$run/flags"
  # In a separate session without a terminal, so that it outlives the connection. It inherits the lock as descriptor 9.
  setsid --fork bash launch/worker.sh supervise "$@" </dev/null >>"$run/log" 2>&1
  report started
}

# Runs electra_jax.main and records its exit code.
supervise() {
  local code=0
  # A shutdown signals all processes. This shell must live until the run has saved its state.
  trap : TERM INT HUP
  echo "== $(date -u +%Y-%m-%dT%H:%M:%SZ) electra_jax.main $(cat "$run/flags")"
  (
    printf '%s\n' "$BASHPID" >"$run/pid"
    exec "$VENV/bin/python" -m electra_jax.main "$@"
  ) || code=$?
  echo "== $(date -u +%Y-%m-%dT%H:%M:%SZ) exit $code"
  printf '%s\n' "$code" >"$run/exit_code.new"
  mv "$run/exit_code.new" "$run/exit_code"
}

stop() {
  local second signalled=""
  if [[ $(state) != running ]]; then
    return
  fi
  # The watching machine restarts the run unless the user stopped it.
  if [[ ${1:-} != again ]]; then
    touch "$run/stopped"
  fi
  for ((second = 0; second < STOP_SECONDS; second++)); do
    # Only once: a second signal would interrupt the saving.
    if [[ -z $signalled && -f $run/pid ]]; then
      kill -TERM "$(cat "$run/pid")" 2>/dev/null || true
      signalled=yes
    fi
    if [[ $(state) != running ]]; then
      return
    fi
    sleep 1
  done
  report "did not end within $STOP_SECONDS seconds; killing it"
  kill -KILL "$(cat "$run/pid")" 2>/dev/null || true
  sleep 2
}

# Seconds that a run may take to save its state.
STOP_SECONDS=${STOP_SECONDS:-300}
command=${1:-}
[[ $# -eq 0 ]] || shift
enter_repository 0
case $command in
  install) install ;;
  start) start "$@" ;;
  compare) compare "$@" ;;
  supervise) supervise "$@" ;;
  state) report "$(state)" ;;
  stop)
    stop "$@"
    report "$(state)"
    ;;
  logs)
    if [[ ! -f $run/log ]]; then
      report "no log: nothing was started here"
    elif [[ ${2:-} == follow ]]; then
      tail -n "$1" -F "$run/log"
    else
      tail -n "$1" "$run/log"
    fi
    ;;
  *)
    echo "launch/worker.sh: expected install, start, compare, state, stop or logs, found: ${command:-nothing}" >&2
    exit 64
    ;;
esac
