#!/usr/bin/env bash
# Plans a run on a TPU slice that need not be there: ./launch/plan.sh [flags of electra_jax.plan]
# Installs the TPU compiler in addition to the other packages the first time.
set -euo pipefail
# shellcheck source=launch/environment.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/environment.sh"

enter_repository $#
install_electra_jax
install_tpu_compiler
exec "$VENV/bin/python" -m electra_jax.plan "$@"
