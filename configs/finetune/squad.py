"""Question answering on a context: SQuAD 1.1 and 2.0, and four data sets of MRQA 2019.

    python -m electra_jax.main --config=configs/finetune/squad.py:v2 --config.init_from=runs/base \
        --config.data.directory=squad --workdir=runs/squad2

Variants: `v1`, `v2`, one or more of `newsqa`, `naturalqs`, `triviaqa`, `searchqa` separated by commas, or `mrqa` for
these four; several are trained together with one encoder. Then, each after a +, in any order: the model's size
(`small`, `base`, `large`), `tfds` to read SQuAD from TensorFlow Datasets instead of files, `google_compat`,
`quicktest`.

Files: train-v1.1.json and dev-v1.1.json, or -v2.0, from rajpurkar.github.io/SQuAD-explorer; for MRQA, those that
its download_train.sh puts into train/ and download_in_domain_dev.sh into dev/ (github.com/mrqa/MRQA-Shared-Task-2019).
Your own files in either format: `:v1 --config.tasks.squad.train=… --config.tasks.squad.dev=…`.

Expected, exact match and F1 on the dev sets:

                              1.1            2.0
    ELECTRA-Base           84.5 / 90.8    80.5 / 83.3   paper table 4; NVIDIA's own Base 85.0 / 91.0 and 80.5 / 83.4
    ELECTRA-Base (++)      86.8 / 92.7    82.9 / 85.5   1.1 exact from the README, the others NVIDIA's means
    ELECTRA-Small (++)     75.8           70.1          README, exact
    ELECTRA-Large          89.7 / 94.9    88.0 / 90.6   paper table 4, ELECTRA-1.75M

The README has 80.5 exact for the released Base on 2.0; two others measured 82.6 and 82.9 with it.

Hardware: a GPU or TPU core with 16 GB is enough for Base at these lengths.
"""

import ml_collections

from electra_jax.configs.finetune import base

# File names in MRQA 2019. "naturalqs" has the same recipe as the others here; Google's code recognizes question
# answering by "squad" or "qa" in the task's name, and so trains it with 128 tokens and 3 epochs.
_MRQA = {"newsqa": "NewsQA", "naturalqs": "NaturalQuestions", "triviaqa": "TriviaQA", "searchqa": "SearchQA"}
_VERSIONS = {"v1": "v1.1", "v2": "v2.0"}


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    """Returns the recipe for the tasks in the variant; see above."""
    config = base.get_config()
    config.epochs = 2.0  # Paper table 7, for question answering.
    parts = variant.split("+") if variant else []
    first = parts[0] if parts else ""
    from_tfds = "tfds" in parts
    if first in _VERSIONS:
        config.tasks.squad = _squad(_VERSIONS[parts.pop(0)], from_tfds)
        config.data.directory = "squad"
    elif first == "mrqa" or set(first.split(",")) <= set(_MRQA):
        for name in _MRQA if parts.pop(0) == "mrqa" else dict.fromkeys(first.split(",")):
            config.tasks[name] = _mrqa(_MRQA[name])
        config.data.directory = "mrqa"
        if from_tfds:
            raise ValueError(f"variant {variant!r}: tfds is for v1 and v2; MRQA is read from files")
    left = tuple(part for part in parts if part != "tfds")
    base.with_variant(config, left, expected=f"v1, v2, mrqa, {', '.join(_MRQA)} (several joined by commas), tfds")
    if "quicktest" in left and not from_tfds:
        config.data.directory = "package:finetuning/" + config.data.directory
    return config


def _squad(version: str, from_tfds: bool) -> ml_collections.ConfigDict:
    paths = {"train": f"train-{version}.json", "dev": f"dev-{version}.json"}
    if from_tfds:
        paths = {
            "train": f"tfds:squad/{version}#split=train",
            "dev": f"tfds:squad/{version}#split=validation",
        }
    changes = {"unanswerable": True, "metrics": ("f1", "exact", "best_f1", "best_exact")} if version == "v2.0" else {}
    return base.answering_task(**paths, **changes)


def _mrqa(name: str) -> ml_collections.ConfigDict:
    return base.answering_task(train=f"train/{name}.jsonl.gz", dev=f"dev/{name}.jsonl.gz", format="mrqa")
