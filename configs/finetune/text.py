"""Classification or regression on your own texts.

    python -m electra_jax.main --config=configs/finetune/text.py --config.init_from=runs/base \
        --config.data.directory=reviews --workdir=runs/reviews

Provide train.tsv and dev.tsv whose first line names the columns: text, label. For other column names, set
`--config.tasks.text.text_columns='("body",)' --config.tasks.text.label_column=stars`; for files without such a line,
`--config.tasks.text.columns='("label","text")'`; for other files, `--config.tasks.text.train=train.csv` and `.dev=`.
The suffix determines the format: .tsv, .csv, .jsonl, or .txt with `LABEL text` in each line.

Variants: `classification` (default) for one class; `pairs` for one class of two texts, in the columns text1 and text2;
`multilabel` for any number of classes, separated by commas; `regression` for a number; `trec` for the question types of
TREC (Li and Roth 2002) in their original files. Then, each after a +, in any order: the model's size (`small`, `base`,
`large`), `google_compat`, `quicktest`.

Expected: depends on your task. Two quick baselines: `--config.random_weights=True` shows how much pre-training gains,
and on topic classification a linear model on word counts is often close.

Hardware: depends on the model's size; Small runs on a laptop.
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
        # The loss expects grades of about 1: divide by the largest, as for STS-B.
        label_scale=1.0,
    ),
    "trec": dict(
        train="train.txt",
        dev="test.txt",  # It has no other split; score it once.
        encoding="latin-1",
        label_until=":",  # Six coarse types; "" keeps the fifty fine ones.
    ),
}


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    """Returns the recipe for the kind of task in the variant; see above."""
    config = base.get_config()
    parts = variant.split("+") if variant else []
    chosen = parts.pop(0) if parts and parts[0] in _TASKS else "classification"
    config.tasks["trec" if chosen == "trec" else "text"] = base.classification_task(**_TASKS[chosen])
    config.data.directory = "trec" if chosen == "trec" else "."
    base.with_variant(config, tuple(parts), expected=", ".join(_TASKS))
    if "quicktest" in parts:
        config.data.directory = f"package:finetuning/{chosen}"
    return config
