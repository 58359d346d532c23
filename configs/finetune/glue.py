"""GLUE (Wang et al. 2018): eight tasks of the ELECTRA paper, and WNLI.

    python -m electra_jax.main --config=configs/finetune/glue.py:rte --config.init_from=runs/base \
        --config.data.directory=glue_data --workdir=runs/rte

The variant lists tasks, separated by commas, which are trained together with one encoder; then, each after a +, in any
order: the model's size (`small`, `base`, `large`), `tfds` to read from TensorFlow Datasets instead of files,
`google_compat`, `quicktest`. For example `:mrpc+small`, `:rte,sts+tfds`.

Files: those of gluebenchmark.com/tasks, unpacked into one folder; MRPC's are made by the script on that page.
Leave a split out with an empty path: `--config.tasks.mnli.more.diagnostic=`.

Expected on the dev sets, from the repository's README for the released models, medians of ten or more runs (STS
Spearman, CoLA Matthews, otherwise accuracy; MNLI matched):

                          CoLA   SST  MRPC   STS   QQP  MNLI  QNLI   RTE
    ELECTRA-Small (++)    57.0  91.2  88.0  87.5  89.0  81.3  88.4  66.7
    ELECTRA-Base (++)     67.7  95.1  89.5  91.2  91.5  88.8  93.2  82.7
    ELECTRA-Large         69.1  96.9  90.8  92.6  92.4  90.9  95.0  88.0
    ELECTRA-Small-OWT     56.8  88.3  87.4  86.8  88.3  78.9  87.9  68.5

Paper table 1, averages of the eight: Small 79.9, Base 85.1. Runs differ: the standard deviation of one run is 1.9 on
RTE, 1.3 on CoLA, 0.7 on MRPC and below 0.5 on the others (richarddwang/electra_pytorch, Small), so use
`--config.trials=10` for comparisons.

Hardware: one GPU or TPU core is enough; the small tasks also run on a laptop.
"""

import ml_collections

from electra_jax.configs.finetune import base

_TRUTH = ("0", "1")  # Written as numbers in the files.
_ENTAILMENT = ("entailment", "not_entailment")

# Settings that differ from `base.classification_task`. Labels are in the order of TFDS's numbers. Metrics are GLUE's,
# the paper's first.
_TASKS = {
    "cola": dict(
        text_columns=("sentence",), columns=("source", "label", "mark", "sentence"), labels=_TRUTH,
        metrics=("matthews",),
    ),
    "sst": dict(text_columns=("sentence",), labels=_TRUTH),
    "mrpc": dict(
        text_columns=("#1 String", "#2 String"), label_column="Quality", labels=_TRUTH, metrics=("accuracy", "f1")
    ),
    "sts": dict(
        kind="regression", text_columns=("sentence1", "sentence2"), label_column="score", key_column="index",
        metrics=("spearman", "pearson"),
        label_scale=5.0,  # Grades range from 0 to 5.
    ),
    "qqp": dict(
        text_columns=("question1", "question2"), label_column="is_duplicate", key_column="id", labels=_TRUTH,
        metrics=("accuracy", "f1"),
        invalid_rows="skip",  # A few questions contain line breaks; Google's code and TFDS leave them out too.
    ),
    "mnli": dict(
        text_columns=("sentence1", "sentence2"), label_column="gold_label", key_column="index",
        labels=("entailment", "neutral", "contradiction"),
    ),
    "qnli": dict(text_columns=("question", "sentence"), key_column="index", labels=_ENTAILMENT),
    "rte": dict(text_columns=("sentence1", "sentence2"), key_column="index", labels=_ENTAILMENT),
    "wnli": dict(text_columns=("sentence1", "sentence2"), key_column="index", labels=_TRUTH),
}  # fmt: skip
_FOLDERS = {
    "cola": "CoLA", "sst": "SST-2", "mrpc": "MRPC", "sts": "STS-B", "qqp": "QQP", "mnli": "MNLI", "qnli": "QNLI",
    "rte": "RTE", "wnli": "WNLI",
}  # fmt: skip
_TFDS = {"sst": "sst2", "sts": "stsb"}  # Names that differ from ours.
_TFDS_COLUMNS = {"mrpc": ("sentence1", "sentence2"), "mnli": ("premise", "hypothesis")}
# File names that gluebenchmark.com expects in a submission.
_SUBMISSIONS = {**_FOLDERS, "mnli": "MNLI-m"}


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    """Returns the recipe for the tasks in the variant; see above."""
    config = base.get_config()
    parts = variant.split("+") if variant else []
    named = parts and set(parts[0].split(",")) <= set(_TASKS)
    names = tuple(dict.fromkeys(parts.pop(0).split(","))) if named else ()
    from_tfds = "tfds" in parts
    config.data.directory = "glue_data"  # The folder that the usual download script makes.
    for name in names:
        config.tasks[name] = _task(name, from_tfds)
    # Paper table 7; as in Google's code, only for the task alone.
    config.epochs = 10.0 if names in (("rte",), ("sts",)) else 3.0
    left = tuple(part for part in parts if part != "tfds")
    base.with_variant(config, left, expected=f"tasks ({', '.join(_TASKS)}; several joined by commas), tfds")
    if "quicktest" in left and not from_tfds:
        config.data.directory = "package:finetuning/glue"
    return config


def _task(name: str, from_tfds: bool) -> ml_collections.ConfigDict:
    task = base.classification_task(**_TASKS[name])
    splits = {"train": "train", "dev": "dev", "test": "test"}
    if name == "mnli":
        splits |= {"dev": "dev_matched", "test": "test_matched"}
        splits |= {"dev_mismatched": "dev_mismatched", "test_mismatched": "test_mismatched"}
    paths = {split: f"{_FOLDERS[name]}/{file}.tsv" for split, file in splits.items()}
    if from_tfds:
        dataset = _TFDS.get(name, name)
        paths = {
            split: f"tfds:glue/{dataset}#split={file.replace('dev', 'validation')}" for split, file in splits.items()
        }
        task.text_columns = _TFDS_COLUMNS.get(name, task.text_columns)
        task.label_column, task.key_column, task.columns = "label", "idx", ()
    task.train, task.dev, task.test = (paths.pop(split) for split in ("train", "dev", "test"))
    task.more.update(paths)
    task.submission.test = _SUBMISSIONS[name]
    if name == "mnli":
        task.more.diagnostic = "tfds:glue/ax#split=test" if from_tfds else "AX/AX.tsv"
        task.submission.update(test_mismatched="MNLI-mm", diagnostic="AX")
    return task
