#!/usr/bin/env bash
# Checks the codebase: ./launch/test.sh [--quick] [--slow] [--release] [--interop] [--beam] [--tpu_compiler | --tpu_all] [pytest arguments]
# Without options: ruff, mypy and the quick tests, which need nothing but the requirements.
#   --quick         only the quick tests, without ruff and mypy
#   --slow          only those that take longer: complete runs, kills, many devices
#   --release       only those of the slow ones that are for releases: a quarter of an hour
#   --interop       only the comparisons with PyTorch and transformers (installs requirements-interop.txt)
#   --beam          only what runs on Apache Beam (installs requirements-beam.txt)
#   --tpu_compiler  only the compilations for TPUs that are not there (installs requirements-tpu.txt)
#   --tpu_all       these, and presets on several slices: a quarter of an hour, as before a release
set -euo pipefail
# shellcheck source=launch/environment.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/environment.sh"

marks=""
while [[ $# -gt 0 ]]; do
  case $1 in
    --quick) marks+=" or (not slow and not interop and not beam and not tpu_compiler)" ;;
    --slow) marks+=" or (slow and not release and not interop and not beam and not tpu_compiler)" ;;
    --release) marks+=" or release" ;;
    --interop | --beam) marks+=" or ${1#--}" ;;
    --tpu_compiler) marks+=" or (tpu_compiler and not tpu_all)" ;;
    --tpu_all) marks+=" or tpu_compiler" ;;
    *) break ;;
  esac
  shift
done

enter_repository $#
install_electra_jax
install_test_tools
if [[ $marks == *"or interop"* ]]; then
  install_once interop "about 2 minutes" "requirements-interop.txt requirements.txt" \
    -c requirements.txt -r requirements-interop.txt
fi
if [[ $marks == *"or beam"* ]]; then
  install_once beam "about a minute" "requirements-beam.txt requirements.txt" -c requirements.txt -r requirements-beam.txt
fi
if [[ $marks == *"or (tpu_compiler"* || $marks == *"or tpu_compiler"* ]]; then
  install_tpu_compiler
fi

export JAX_PLATFORMS=cpu
if [[ -n $marks ]]; then
  exec "$VENV/bin/python" -m pytest -m "${marks# or }" "$@"
fi
status=0
"$VENV/bin/python" -m ruff check . || status=$?
"$VENV/bin/python" -m ruff format --check . || status=$?
"$VENV/bin/python" -m mypy || status=$?
"$VENV/bin/python" -m pytest "$@" || status=$?
exit "$status"
