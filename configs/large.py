"""ELECTRA-Large as the paper trains it (Clark et al. 2020, table 6): the ELECTRA-400K model.

    python -m electra_jax.main --config=configs/large.py --workdir=runs/large --config.data.sources='("corpus/*.txt",)'

Expected: GLUE dev average 89.0 after 400 k steps, 7.1e20 FLOPs as the paper counts them (table 2), on XLNet's 33 G
tokens; --config.steps=1750000 is ELECTRA-1.75M, 89.5. 334 M parameters in the published discriminator.
"""

import ml_collections

from electra_jax.configs import base


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    """Returns the recipe; for `variant` see `base.with_variant`."""
    config = base.get_config()
    config.steps = 400_000
    config.batch_size = 2048
    config.data.directory = "data/large"

    config.model.layers = 24
    config.model.hidden_size = 1024
    config.model.heads = 16
    config.model.feed_forward_size = 4096
    config.model.embedding_size = 1024
    config.model.generator_width = 1 / 4

    config.objective.mask_fraction = 0.25  # At 15 % the large generator is too accurate (paper appendix).
    return base.with_variant(config, variant)
