"""Tagging words: chunks, named entities, parts of speech.

    python -m electra_jax.main --config=configs/finetune/tagging.py:conll2000 --config.init_from=runs/base \
        --config.data.directory=conll2000 --workdir=runs/chunking

Variants: none for your own files, train.txt and dev.txt, with a word per line, its tag in the last column and an empty
line between sentences; `pos` for such files whose tags mark no spans; `conll2000` for chunks, `conll2002` and
`conll2003` for named entities, `ud` for parts of speech in a Universal Dependencies treebank (CoNLL-U). Then, each
after a +, in any order: the model's size (`small`, `base`, `large`), `google_compat`, `quicktest`.

CoNLL-2000 has no dev split; as in Google's code, the test split is scored instead. The files of a treebank are
named after it: `:ud --config.tasks.pos.train=fr_sequoia-ud-train.conllu --config.tasks.pos.dev=…`. TensorFlow Datasets
has CoNLL-2003: `--config.tasks.ner.train='tfds:conll2003#split=train&tags=ner'`.

Expected, span F1 on CoNLL-2000's test split (Google's README, released models): Small 96.5, Base 97.1, Large 97.2.

Hardware: one GPU or TPU core is enough; Small also runs on a laptop.
"""

import ml_collections

from electra_jax.configs.finetune import base

# Task name and fields of each variant.
_TASKS = {
    "own": ("tagging", dict(train="train.txt", dev="dev.txt")),
    "conll2000": ("chunk", dict(train="train.txt", dev="test.txt")),
    "conll2002": ("ner", dict(train="esp.train", dev="esp.testa", test="esp.testb", format="columns")),
    "conll2003": ("ner", dict(train="eng.train", dev="eng.testa", test="eng.testb", format="columns")),
    "pos": ("pos", dict(train="train.txt", dev="dev.txt", spans=False, metrics=("accuracy",))),
    "ud": (
        "pos",
        dict(
            train="train.conllu", dev="dev.conllu", test="test.conllu",
            word_column=1,  # FORM.
            tag_column=3,  # UPOS.
            spans=False,  # Every word has a separate tag …
            metrics=("accuracy",),  # … and is scored by itself.
        ),
    ),
}  # fmt: skip


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    """Returns the recipe for the task of the variant; see above."""
    config = base.get_config()  # Three epochs, as in the paper for all tasks but question answering, RTE and STS.
    parts = variant.split("+") if variant else []
    chosen = parts.pop(0) if parts and parts[0] in _TASKS else "own"
    name, fields = _TASKS[chosen]
    config.tasks[name] = base.tagging_task(**fields)
    config.data.directory = "." if chosen in ("own", "pos") else chosen
    base.with_variant(config, tuple(parts), expected=", ".join(list(_TASKS)[1:]))
    if "quicktest" in parts:
        # Names mark spans there, and are as good as any other tags.
        config.data.directory = f"package:finetuning/{'own' if chosen == 'pos' else chosen}"
    return config
