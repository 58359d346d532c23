"""A French Base model in the setting of CamemBERTa (Antoun et al. 2023), with ELECTRA's own embedding sharing.

    python -m electra_jax.main --config=configs/camembert_base.py --workdir=runs/camembert_base \\
        --config.data.sources='("tfds:wikipedia/20230601.fr",)'

Cased, accents kept, SentencePiece; batch size, learning rate and mask fraction are those of CamemBERTa's second
version, which was trained on 0.4 T tokens of French web text. It uses gradient-disentangled embedding sharing and
relative positions; this preset does neither, so those scores (XNLI 84.8, FTB-NER 93.4) are no prediction for it.
"""

import ml_collections

from electra_jax.configs import base


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    """Returns the recipe; for `variant` see `base.with_variant`."""
    config = base.get_config()
    config.steps = 95_000  # 0.4 T tokens, as CamemBERTa's second version.
    config.batch_size = 8192

    data = config.data
    data.directory = "data/camembert_base"
    data.rows = "packed"  # Web documents are short; packing avoids padding.
    data.tokenizer.kind = "unigram"  # SentencePiece, as in CamemBERT.
    data.tokenizer.vocabulary_size = 32_000
    data.tokenizer.lowercase = False
    data.tokenizer.strip_accents = False  # "pêche" and "péché" are different words.

    config.objective.mask_fraction = 0.2
    config.optimizer.learning_rate = 7e-4
    config = base.with_variant(config, variant)
    if "quicktest" in variant:
        data.sources = ("package:french.txt",)
        data.tokenizer.vocabulary_size = 400  # So little text yields no more.
    return config
