#!/usr/bin/env bash
# Makes the pinned requirements*.txt from the ranges in pyproject.toml: ./launch/lock.sh [--check] [flags of uv pip compile]
# A pin stays as long as its range allows it. --upgrade or --upgrade-package=NAME takes newer versions.
#   --check  changes nothing; fails when the files are not what pyproject.toml gives
set -euo pipefail
# shellcheck source=launch/environment.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/environment.sh"

readonly EXTRAS=(beam dev gpu interop onnx tpu)
check=""
if [[ ${1:-} == --check ]]; then
  check=yes
  shift
fi
enter_repository 0
install_electra_jax
install_test_tools

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

# Prints pins for Python 3.11 and later, on all systems, with markers where they differ.
compile() {
  "$VENV/bin/uv" pip compile --quiet --universal --python-version=3.11 --no-header --no-annotate \
    pyproject.toml "$@"
}

# torch's CUDA packages are pinned by torch itself, and its builds for CPUs must stay without them: triton next to
# TensorFlow ends in a segmentation fault. jax's own are in requirements-gpu.txt.
leave_to_torch() {
  if [[ $1 == interop ]]; then
    grep -vE '^(cuda-|nvidia-|triton==)'
  else
    cat
  fi
}

# All extras at once, so that the files agree with each other.
cat requirements*.txt >"$folder/all.txt"
extras=()
for extra in "${EXTRAS[@]}"; do
  extras+=("--extra=$extra")
done
compile "${extras[@]}" --output-file="$folder/all.txt" "$@" >/dev/null

{
  echo "# Made by launch/lock.sh from pyproject.toml: what electra_jax is tested with."
  compile --constraint="$folder/all.txt"
} >"$folder/requirements.txt"
for extra in "${EXTRAS[@]}"; do
  {
    echo "# Made by launch/lock.sh from pyproject.toml: what the extra \"$extra\" adds to requirements.txt."
    compile --extra="$extra" --constraint="$folder/all.txt" | grep -vxFf "$folder/requirements.txt" | leave_to_torch "$extra"
  } >"$folder/requirements-$extra.txt"
done

rm "$folder/all.txt"
status=0
for file in "$folder"/*; do
  if [[ -z $check ]]; then
    mv "$file" .
  elif ! diff "$(basename "$file")" "$file"; then
    status=1
  fi
done
if [[ $status -ne 0 ]]; then
  echo "The pinned files differ from what pyproject.toml gives; run ./launch/lock.sh and commit the result." >&2
fi
exit "$status"
