# shellcheck shell=bash
# Sourced by the scripts next to it: enters the repository and makes or refreshes its virtual environment.
# $VENV is its folder, .venv by default: VENV=.venv-3.13 PYTHON=python3.13 ./launch/test.sh

VENV=${VENV:-.venv}

# Changes to the repository root. $1: number of flags that the user gave.
enter_repository() {
  local started_in=$PWD
  cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." >/dev/null || exit
  if [[ $1 -gt 0 && $PWD != "$started_in" ]]; then
    echo "Running in $PWD: relative paths in flags start there." >&2
  fi
}

# Prints "3.12" for a Python that runs, nothing otherwise (version managers leave shims of uninstalled Pythons).
python_version() {
  "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null || true
}

# TensorFlow has no wheels for Python 3.14 yet.
is_suitable() {
  case $1 in
    3.11 | 3.12 | 3.13) return 0 ;;
    *) return 1 ;;
  esac
}

# Prints the Python to build the environment with: $PYTHON, or the newest suitable one. Exits 64 when there is none.
choose_python() {
  local candidates=(python3.13 python3.12 python3.11 python3) found="" candidate version
  if [[ -n ${PYTHON:-} ]]; then
    candidates=("$PYTHON")
  fi
  for candidate in "${candidates[@]}"; do
    version=$(python_version "$candidate")
    if [[ -z $version ]]; then
      continue
    elif ! is_suitable "$version"; then
      found+="  $candidate is Python $version."$'\n'
    elif ! "$candidate" -c 'import ensurepip, venv' 2>/dev/null; then
      found+="  $candidate is Python $version without the venv module (Debian and Ubuntu: apt install python$version-venv)."$'\n'
    else
      echo "$candidate"
      return
    fi
  done
  cat >&2 <<MESSAGE
electra_jax needs Python 3.11, 3.12 or 3.13 (no later: TensorFlow has no wheels for them yet) with the venv module.
Looked for: ${candidates[*]}. Found:
${found:-  None of them runs.
}Install one, for example from https://www.python.org/downloads, or name one that is elsewhere:
  PYTHON=/path/to/python3.12 $0
MESSAGE
  exit 64
}

# Makes the environment unless a working one is there. An existing one is kept when a newer Python appears, since the user may
# have added to it; PYTHON=... with another version replaces it.
make_environment() {
  local python existing=""
  if [[ -x $VENV/bin/python ]] && "$VENV/bin/python" -c 'import pip' 2>/dev/null; then
    existing=$(python_version "$VENV/bin/python")
  fi
  if is_suitable "$existing" && [[ -z ${PYTHON:-} || $(python_version "$PYTHON") == "$existing" ]]; then
    return
  fi
  python=$(choose_python)
  "$python" -m venv --clear "$VENV"
}

# Installs packages into the environment; the arguments are those of "pip install". uv does it in a tenth of pip's time where it is
# on PATH. It does not read pip's configuration: it is told of folders with wheels, and pip has its turn when uv fails.
install_packages() {
  local folders
  if command -v uv >/dev/null; then
    folders=${PIP_FIND_LINKS:-$("$VENV/bin/python" -m pip config get global.find-links 2>/dev/null)} || true
    if UV_FIND_LINKS=${UV_FIND_LINKS:-${folders// /,}} uv pip install --python "$VENV/bin/python" "$@"; then
      return
    fi
  fi
  # seqeval has no wheel. Python 3.11's pip would build it with whatever setuptools is installed, and newer ones cannot.
  "$VENV/bin/python" -m pip install --disable-pip-version-check --no-input --use-pep517 "$@"
}

# Runs install_packages unless it was done already for the same files, Python and folder.
# install_once NAME HOW_LONG FILES PIP_ARGUMENTS...; FILES is one word, separated by spaces.
install_once() {
  local name=$1 how_long=$2 files=$3 file wanted stamp=$VENV/installed-$1
  shift 3
  wanted="Python $(python_version "$VENV/bin/python") in $PWD"
  for file in $files; do
    if [[ ! -f $file ]]; then
      echo "$PWD/$file is missing; this checkout is incomplete." >&2
      exit 64
    fi
    wanted+=$'\n'$(cat "$file")
  done
  if [[ -f $stamp && $(cat "$stamp") == "$wanted" ]]; then
    return
  fi

  # The stamp is removed first and written last, so that an interrupted installation does not count as complete.
  rm -f "$stamp"
  echo "Installing $name into $VENV ($how_long, once)…" >&2
  if ! install_packages "$@" >"$VENV/pip.log" 2>&1; then
    cat "$VENV/pip.log" >&2
    cat >&2 <<MESSAGE

Installing $name failed; pip's output is above and in $VENV/pip.log.
If it speaks of connections or timeouts, run the same command again: finished downloads are kept.
If it finds no matching distribution, this Python or machine has no wheel: try PYTHON=python3.12, or another machine.
To begin afresh, delete $VENV.
MESSAGE
    exit 1
  fi
  printf '%s\n' "$wanted" >"$stamp.new"
  mv "$stamp.new" "$stamp"
}

# Installs the requirements of electra_jax.
install_electra_jax() {
  make_environment
  install_once requirements "about 2 minutes" requirements.txt -r requirements.txt
  install_once electra_jax "a few seconds" pyproject.toml --no-deps -e .
}

# Installs the requirements of the tests, constrained by the main ones so that none of them changes a pinned version.
install_test_tools() {
  install_once test-tools "a few seconds" "requirements-dev.txt requirements.txt" \
    -c requirements.txt -r requirements-dev.txt
}

# Installs the TPU compiler for machines without a TPU, separate from the other packages: where libtpu is installed, JAX
# looks for a TPU at every start and warns.
install_tpu_compiler() {
  install_once tpu-compiler "about a minute" "requirements-tpu.txt requirements.txt" \
    --upgrade --no-deps --target "$VENV/tpu_compiler" -r requirements-tpu.txt
  local absolute
  absolute=$(cd -- "$VENV" && pwd)
  export PYTHONPATH="$absolute/tpu_compiler${PYTHONPATH:+:$PYTHONPATH}"
  export TPU_SKIP_MDS_QUERY=1 # No TPU here: do not ask the cloud for its address.
}
