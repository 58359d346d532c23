#!/usr/bin/env bash
# Trains on this machine: ./launch/local.sh [flags of electra_jax.main]
# Needs Python 3.11 to 3.13 and nothing else; installs the rest into .venv the first time.
# Without flags it runs the quickstart.
set -euo pipefail
# shellcheck source=launch/environment.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/environment.sh"

enter_repository $#
install_electra_jax
if [[ $# -eq 0 ]]; then
  set -- --config=configs/quickstart.py --workdir=runs/quickstart
fi
exec "$VENV/bin/python" -m electra_jax.main "$@"
