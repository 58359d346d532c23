#!/usr/bin/env bash
# Trains on the GPUs of a Slurm cluster, from a checkout that all nodes see:
#   ./launch/slurm.sh                                        on the login node, once: installs into .venv
#   sbatch --nodes=2 --gpus-per-node=8 --ntasks-per-node=8 launch/slurm.sh --config=… --workdir=gs://BUCKET/runs/…
# or, on a file system that all nodes share, --workdir=/shared/runs/…
# One process per GPU; each process sees all GPUs of its node, and under Slurm JAX uses the one with the process's local
# number. So neither --gpus-per-task nor --gpu-bind, which would hide the others.
# Slurm sends SIGTERM before the time limit (SIGUSR1, which other scripts ask for, has the same effect); the run saves its state and exits with 75, and the job is requeued to resume
# from there. Every other exit code ends the job.
#SBATCH --job-name=electra_jax
#SBATCH --nodes=1
#SBATCH --gpus-per-node=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --signal=TERM@300
#SBATCH --open-mode=append
#SBATCH --output=electra_jax-%j.log
set -euo pipefail
# Slurm runs a copy of this script from elsewhere, in the folder that sbatch was called in.
checkout=$(dirname -- "${BASH_SOURCE[0]}")/..
if [[ -n ${SLURM_JOB_ID:-} ]]; then
  checkout=${SLURM_SUBMIT_DIR:-$PWD}
fi
if [[ ! -f $checkout/launch/environment.sh ]]; then
  echo "$checkout is no checkout of electra_jax: call sbatch from the checkout, as sbatch … launch/slurm.sh …" >&2
  exit 64
fi
# shellcheck source=launch/environment.sh
source "$checkout/launch/environment.sh"
enter_repository 0

install_for_gpus() {
  install_electra_jax
  install_once gpu "a few minutes" "requirements-gpu.txt requirements.txt" -c requirements.txt -r requirements-gpu.txt
}

if [[ -z ${SLURM_JOB_ID:-} ]]; then
  if [[ $# -gt 0 ]]; then
    echo "Not in a Slurm job. To send one: sbatch [options of sbatch] launch/slurm.sh $*" >&2
    exit 64
  fi
  install_for_gpus
  echo "Installed. To train: sbatch [options of sbatch] launch/slurm.sh --config=… --workdir=…" >&2
  exit
fi

if [[ $# -eq 0 ]]; then
  echo "Two flags are needed: sbatch … launch/slurm.sh --config=configs/base.py --workdir=gs://BUCKET/runs/base" >&2
  exit 64
fi
# Slurm sets 8, or 8(x2) for two nodes of 8 each.
tasks=${SLURM_NTASKS_PER_NODE:-1}
gpus=${SLURM_GPUS_ON_NODE:-}
if [[ -n $gpus && ${tasks%%(*} != "$gpus" ]]; then
  echo "--ntasks-per-node=$tasks and $gpus GPUs on a node: expected one process a GPU, --ntasks-per-node=$gpus" >&2
  exit 64
fi
# Before the processes start, so that they do not all install. Does nothing after the installation above.
install_for_gpus

echo "== $(date -u +%Y-%m-%dT%H:%M:%SZ) job $SLURM_JOB_ID, start $((${SLURM_RESTART_COUNT:-0} + 1))"
code=0
# The highest exit code of all processes. --kill-on-bad-exit=0 lets the others finish saving their state.
srun --kill-on-bad-exit=0 "$VENV/bin/python" -m electra_jax.main "$@" || code=$?
echo "== $(date -u +%Y-%m-%dT%H:%M:%SZ) exit $code"
if [[ $code -eq 75 ]]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
