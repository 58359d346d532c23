"""ELECTRA-Base with the hybrid objective: the discriminator also predicts the original words.

    python -m electra_jax.main --config=configs/hybrid_base.py --workdir=runs/hybrid_base \
        --config.data.sources='("corpus/*.txt",)'

The recipe of configs/base.py with four changes: the corrective language model and its weight, a smaller weight of
detection, and 25 % of the tokens masked.
Hardware: 16 TPUv3 for 4 days, 6.4e19 FLOPs as the paper counts them,
plus a few percent for the second word head.
Measured: at the quickstart's size only (2 layers × 128), where the objective prevents the collapse of plain ELECTRA;
docs/results.md. Extrapolated: everything at this size. COCO-LM (Meng et al. 2021, table 2), whose corrective language
model is close to this one, reports gains at Base and Large.
"""

import ml_collections

from electra_jax.configs import base


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    """Returns the recipe; for `variant` see `base.with_variant`."""
    config = base.get_config()
    config.data.tokenizer.lowercase = config.data.tokenizer.strip_accents = "auto"  # For text of any language.
    config.objective.name = "hybrid"
    config.objective.corrective_weight = 1.0  # Like the generator's: both are losses of predicting a word.
    config.objective.discriminator_weight = 10.0  # At 50 the corrective loss has little effect; measured at small size.
    config.objective.mask_fraction = 0.25  # More words to correct in each row; also ELECTRA-Large's fraction.
    return base.with_variant(config, variant)
