"""ELECTRA-Small as the paper trains it (Clark et al. 2020, table 6).

    python -m electra_jax.main --config=configs/small.py --workdir=runs/small --config.data.sources='("corpus/*.txt",)'

The text of the paper, Wikipedia and Books, as far as it is still available (BookCorpus is not; PG-19 has older books):

    --config.data.sources='("tfds:wikipedia/20230601.en","tfds:pg19#field=book_text")'

OpenWebText, on which Google's own Small was trained, as the Parquet files that its publishers offer
(huggingface.co/datasets/Skylion007/openwebtext, 24 GB), downloaded into a folder:

    --config.data.sources='("openwebtext/*.parquet",)'

Prepare it once, on any machine with cores, then train; both commands take the same flags and go on where they were:

    python -m electra_jax.prepare --config=configs/small.py --config.data.sources=…
    python -m electra_jax.main --config=configs/small.py --workdir=runs/small --config.data.sources=…

Hardware in the paper: one V100 for 4 days, 1.4e18 FLOPs as the paper counts them.
Expected: GLUE dev average 79.9 on Wikipedia + Books (paper table 1), 80.4 on OpenWebText (Google's README, and
richarddwang/electra_pytorch); 13.5 M parameters in the discriminator.
"""

import ml_collections

from electra_jax.configs import base


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    """The recipe; for `variant` see `base.with_variant`."""
    config = base.get_config()
    config.steps = 1_000_000
    config.batch_size = 128
    config.data.directory = "data/small"
    config.data.sequence_length = 128

    config.model.hidden_size = 256
    config.model.heads = 4
    config.model.feed_forward_size = 1024
    config.model.embedding_size = 128
    config.model.generator_width = 1 / 4

    config.optimizer.learning_rate = 5e-4
    return base.with_variant(config, variant)
