"""BERT-Base's masked language model on the rows, masking and optimizer of ELECTRA-Base: the baseline.

    python -m electra_jax.main --config=configs/mlm_base.py --workdir=runs/mlm_base \
        --config.data.sources='("corpus/*.txt",)'

Expected: GLUE dev average 82.2 (paper table 1, BERT-Base), 1 M steps with the FLOPs of ELECTRA-Base's 766 k.
"""

import ml_collections

from electra_jax.configs import base


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    """Returns the recipe; for `variant` see `base.with_variant`."""
    config = base.get_config()
    config.steps = 1_000_000
    config.objective.name = "mlm"
    return base.with_variant(config, variant)
