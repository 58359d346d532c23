"""ELECTRA-Small++, the recipe of the published Small checkpoint: rows of 512, a generator of full width, 4 M steps.

    python -m electra_jax.main --config=configs/small_plus_plus.py --workdir=runs/small_plus_plus \
        --config.data.sources='("corpus/*.txt",)'

Source: Google's README, google-research/electra #39 and #68; batch size and learning rate are Small's.
Expected: GLUE dev CoLA 57.0, SST 91.2, MNLI 81.3 (Google's README), on XLNet's 33 G tokens of text.
"""

import ml_collections

from electra_jax.configs import base, small


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    """Returns the recipe; for `variant` see `base.with_variant`."""
    config = small.get_config()
    config.steps = 4_000_000
    config.data.directory = "data/small_plus_plus"
    config.data.sequence_length = 512
    config.model.generator_width = 1.0
    return base.with_variant(config, variant)
