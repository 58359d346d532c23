"""Texts of your own, sorted into classes or graded.

    python -m electra_jax.main --config=configs/finetune/text.py --config.init_from=runs/base \
        --config.data.directory=reviews --workdir=runs/reviews

Give train.tsv and dev.tsv with a first line that names the columns: text, label. Set other names with
`--config.tasks.text.text_columns='("body",)' --config.tasks.text.label_column=stars`; files that have no such line by
`--config.tasks.text.columns='("label","text")'`; other files by `--config.tasks.text.train=train.csv` and `.dev=`. The
suffix says the format: .tsv, .csv, .jsonl, or .txt with `LABEL text` in each line.

The variant says what kind of answer there is: `classification` (the default) one class; `pairs` one class of
two texts, in the columns text1 and text2; `multilabel` any number of classes, apart by commas; `regression` a number;
`trec` the types of questions of TREC (Li and Roth 2002) as their files have them. After +, in any order: the model's
size (`small`, `base`, `large`), `google_compat`, `quicktest`.

Expected: what your task gives. A baseline to beat costs a minute: `--config.random_weights=True` shows what the model's
pre-training is worth, and a linear model on word counts often is not far behind on topics.

Hardware: that of the model's size; Small goes on a laptop.
"""

import ml_collections

from electra_jax.configs.finetune import base

_FILES = dict(train="train.tsv", dev="dev.tsv")
_TASKS = {
    "classification": dict(**_FILES, metrics=("accuracy", "macro_f1")),
    "pairs": dict(**_FILES, text_columns=("text1", "text2"), metrics=("accuracy", "macro_f1")),
    "multilabel": dict(**_FILES, kind="multilabel", metrics=("micro_f1", "macro_f1")),
    "regression": dict(
        **_FILES,
        kind="regression",
        metrics=("spearman", "pearson"),
        # The loss is that of grades about as large as 1: divide by the largest, STS-B's way.
        label_scale=1.0,
    ),
    "trec": dict(
        train="train.txt",
        dev="test.txt",  # It has no other; score it once.
        encoding="latin-1",
        label_until=":",  # Six coarse types; "" takes the fifty fine ones.
    ),
}


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    """The recipe for the kind of answer that the variant names; see above."""
    config = base.get_config()
    parts = variant.split("+") if variant else []
    chosen = parts.pop(0) if parts and parts[0] in _TASKS else "classification"
    config.tasks["trec" if chosen == "trec" else "text"] = base.classification_task(**_TASKS[chosen])
    config.data.directory = "trec" if chosen == "trec" else "."
    base.with_variant(config, tuple(parts), expected=", ".join(_TASKS))
    if "quicktest" in parts:
        config.data.directory = f"package:finetuning/{chosen}"
    return config
