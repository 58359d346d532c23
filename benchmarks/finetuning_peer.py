"""Fine-tuning with PyTorch and transformers, as a reference for our scores and speed.

    python -m benchmarks.finetuning_peer --config=configs/finetune/glue.py:rte --config.init_from=FOLDER --seeds=3
    python -m benchmarks.finetuning_peer --config=configs/finetune/glue.py:rte --config.init_from=FOLDER --speed

It reads the same config and files as `python -m electra_jax.main`, so that recipe, subset and limits are the same.
Tokenizer, batches, encoder, head and optimizer are independent of ours. FOLDER is a Hugging Face folder of a BERT or an
ELECTRA; --config.random_weights=True uses only its sizes.

Supported are single tasks with one class, a grade or a tag for each word, the head of the paper, the mean loss and the
linear schedule. A batch is padded to a multiple of 8, and its rows are of similar length, as with transformers'
length-grouped sampler. --speed measures updates of both implementations, taking turns in one process, on the same rows
of a fixed length, some of it padding; tokenization and batching are not timed. Memory is kept between updates as in our
entry points, which makes PyTorch slightly faster too.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import transformers
from absl import app, flags

from benchmarks.finetuning_peer_model import Peer, Recipe, network_folder, open_encoder
from electra_jax import allocator, presets
from electra_jax.config import schema
from electra_jax.config.files import typed_finetuning
from electra_jax.config.finetuning import ClassificationConfig, FinetuningConfig, TaggingConfig
from electra_jax.finetuning.data import spans
from electra_jax.finetuning.data.examples import SentenceExample, TextExample, of_kind
from electra_jax.finetuning.data.reading import read_splits
from electra_jax.finetuning.metrics import label_metrics

_CONFIG = presets.define_flag("A preset of fine-tuning or a config file.")
_SEEDS = flags.DEFINE_integer("seeds", 3, "Runs, with the seeds config.seed, config.seed + 1, …", lower_bound=1)
_OUTPUT = flags.DEFINE_string("output", None, "A JSON file for the results.")
_SPEED = flags.DEFINE_bool("speed", False, "Measure updates per second of both implementations instead.")
_LENGTHS = flags.DEFINE_multi_integer("length", [64, 128], "Row length for --speed; may be given several times.")
_ROUNDS = flags.DEFINE_integer("rounds", 5, "Turns of each implementation for --speed.", lower_bound=1)
_STEPS = flags.DEFINE_integer("steps", 5, "Updates in a turn for --speed.", lower_bound=1)

_STRETCH = 16  # Batches that are sorted by length together.
_MULTIPLE = 8  # Padded lengths are multiples of it.
_WARMUP_STEPS = 5  # Not timed: allocations, and the first use of every kernel.

Row = Mapping[str, Any]
Score = Callable[[Sequence[np.ndarray]], dict[str, float]]


@dataclasses.dataclass(frozen=True)
class Prepared:
    """A task with its rows.

    Attributes:
      kind: "classification", "regression" or "tagging".
      outputs: outputs of the head.
      train, dev: rows; "tokens" and "segments" are lists, "label" is a number, "first" and "tag" are lists.
      score: scores from the logits of the dev rows.
      pad_id: id of the padding token.
    """

    kind: str
    outputs: int
    train: Sequence[Row]
    dev: Sequence[Row]
    score: Score
    pad_id: int


def prepare(config: FinetuningConfig, folder: pathlib.Path) -> Prepared:
    """Reads and tokenises the task of a config.

    Raises:
      ValueError: the config asks for something that is not supported here.
    """
    if len(config.tasks) != 1 or config.loss_reduction != "mean":
        raise ValueError(
            f"found tasks {', '.join(config.tasks)} and loss_reduction {config.loss_reduction!r}, expected one task "
            "and the mean loss"
        )
    ((name, task),) = config.tasks.items()
    if task.kind == "multilabel" or task.head != "paper" or not isinstance(task, ClassificationConfig | TaggingConfig):
        raise ValueError(
            f"config.tasks.{name}: found kind {task.kind!r} and head {task.head!r}, which are not supported here"
        )
    splits = read_splits(name, task, config.data.directory, config.data.download_cache).splits
    tokenizer = transformers.AutoTokenizer.from_pretrained(config.data.tokenizer.source or folder)
    if isinstance(task, TaggingConfig):
        sentences = {split: of_kind(splits[split], SentenceExample) for split in ("train", "dev")}
        return _tagging(task, sentences["train"], sentences["dev"], tokenizer)
    texts = {split: of_kind(splits[split], TextExample) for split in ("train", "dev")}
    return _classification(task, texts["train"], texts["dev"], tokenizer)


def _classification(
    task: ClassificationConfig,
    train: Sequence[TextExample],
    dev: Sequence[TextExample],
    tokenizer: transformers.PreTrainedTokenizerBase,
) -> Prepared:
    classes = [] if task.kind == "regression" else list(task.labels) or sorted({str(each.label) for each in train})
    scale = task.label_scale

    def target(example: TextExample) -> float:
        if classes:
            return classes.index(str(example.label))
        if not isinstance(example.label, float):
            raise TypeError(f"{example.place}: found the label {example.label!r}, expected a number")
        return example.label / scale

    def rows(examples: Sequence[TextExample]) -> list[Row]:
        encoded = tokenizer(
            *([example.texts[place] for example in examples] for place in range(len(examples[0].texts))),
            truncation="longest_first",
            max_length=task.max_length,
            return_token_type_ids=True,
        )
        labels = [target(example) for example in examples]
        columns = zip(encoded["input_ids"], encoded["token_type_ids"], labels, strict=True)
        return [{"tokens": tokens, "segments": segments, "label": label} for tokens, segments, label in columns]

    def score(logits: Sequence[np.ndarray]) -> dict[str, float]:
        logits_NxC = np.stack(logits)
        labels_N = np.array([row["label"] for row in dev_rows])
        if classes:
            return label_metrics.classification_scores(labels_N, logits_NxC.argmax(axis=-1), len(classes), task.metrics)
        return label_metrics.regression_scores(labels_N * scale, logits_NxC[:, 0] * scale, task.metrics)

    dev_rows = rows(dev)
    return Prepared(task.kind, len(classes) or 1, rows(train), dev_rows, score, tokenizer.pad_token_id)


def _tagging(
    task: TaggingConfig,
    train: Sequence[SentenceExample],
    dev: Sequence[SentenceExample],
    tokenizer: transformers.PreTrainedTokenizerBase,
) -> Prepared:
    scheme = spans.scheme_of([example.known_tags for example in train]) if task.spans else None

    def trained(example: SentenceExample) -> Sequence[str]:
        return spans.to_bioes(example.known_tags, scheme) if scheme else example.known_tags

    tags = sorted({tag for example in train for tag in trained(example)})
    numbers = {tag: number for number, tag in enumerate(tags)}

    def rows(examples: Sequence[SentenceExample]) -> list[Row]:
        encoded = tokenizer(
            [list(example.words) for example in examples],
            is_split_into_words=True,
            truncation=True,
            max_length=task.max_length,
        )
        made: list[Row] = []
        for number, example in enumerate(examples):
            words = encoded.word_ids(number)
            # Position of each word's first piece; words that were truncated or have no pieces have none.
            places = {word: place for place, word in reversed(list(enumerate(words))) if word is not None}
            own, first, tag = trained(example), np.zeros(len(words), int), np.zeros(len(words), int)
            for word, place in places.items():
                first[place], tag[place] = 1, numbers.get(own[word], 0)
            segments = [task.segment] * len(words)
            tokens = encoded["input_ids"][number]
            made.append({"tokens": tokens, "segments": segments, "first": first, "tag": tag, "places": places})
        return made

    def original(words: Sequence[str]) -> list[str]:
        return list(spans.from_bioes(words) if scheme else words)

    def score(logits: Sequence[np.ndarray]) -> dict[str, float]:
        predictions = []
        for example, row, logits_LxC in zip(dev, dev_rows, logits, strict=True):
            found = {word: tags[logits_LxC[place].argmax()] for word, place in row["places"].items()}
            predictions.append(original([found.get(word, "O") for word in range(len(example.words))]))
        return label_metrics.tagging_scores([original(trained(example)) for example in dev], predictions, task.metrics)

    dev_rows = rows(dev)
    return Prepared("tagging", len(tags), rows(train), dev_rows, score, tokenizer.pad_token_id)


def collate(rows: Sequence[Row], pad_id: int) -> dict[str, torch.Tensor]:
    """A batch of rows, padded to a multiple of 8: int64 [B, L], and "label" [B]."""
    length = -(-max(len(row["tokens"]) for row in rows) // _MULTIPLE) * _MULTIPLE
    batch = {}
    for name in rows[0].keys() & {"tokens", "segments", "first", "tag"}:
        padded_BxL = torch.full((len(rows), length), pad_id if name == "tokens" else 0)
        for padded_L, row in zip(padded_BxL, rows, strict=True):
            padded_L[: len(row[name])] = torch.as_tensor(row[name])
        batch[name] = padded_BxL
    if "label" in rows[0]:
        batch["label"] = torch.tensor([row["label"] for row in rows])
    return batch


def training_order(lengths: Sequence[int], batch_size: int, seed: int) -> Iterator[np.ndarray]:
    """Yields row numbers of batches without end: each row once per epoch, batched with rows of similar length."""
    draw = np.random.default_rng(seed)
    stream = itertools.chain.from_iterable(draw.permutation(len(lengths)) for _ in itertools.count())
    while True:
        stretch = np.fromiter(itertools.islice(stream, _STRETCH * batch_size), int)
        by_length = stretch[np.argsort(np.asarray(lengths)[stretch], kind="stable")]
        yield from draw.permutation(by_length.reshape(_STRETCH, batch_size))


def train(config: FinetuningConfig, prepared: Prepared, folder: pathlib.Path, seed: int) -> dict[str, Any]:
    """Fine-tunes with one seed; returns the scores of the dev split, steps, seconds and speed."""
    model = make_model(config, prepared, folder, seed)
    steps = int(len(prepared.train) // config.batch_size * config.epochs)
    recipe = Recipe(model, config.optimizer, steps)
    order = training_order([len(row["tokens"]) for row in prepared.train], config.batch_size, seed)
    begun, times, losses = time.perf_counter(), [], []
    for step, chosen in enumerate(itertools.islice(order, steps)):
        started = time.perf_counter()
        batch = collate([prepared.train[number] for number in chosen], prepared.pad_id)
        losses.append(recipe.update(model, batch, step))
        times.append(time.perf_counter() - started)
    return {
        "seed": seed,
        "steps": steps,
        "seconds": time.perf_counter() - begun,
        "scores": prepared.score(predict(model, prepared, config.batch_size)),
        "steps_per_second": 1 / statistics.median(times[_WARMUP_STEPS:] or times),
        "last_loss": statistics.fmean(losses[-20:]),
    }


def make_model(config: FinetuningConfig, prepared: Prepared, folder: pathlib.Path, seed: int) -> Peer:
    """The model before its first update, in training mode; the seed also determines dropout."""
    torch.manual_seed(seed)
    encoder = open_encoder(folder, config.model, config.random_weights)
    return Peer(encoder, prepared.kind, prepared.outputs, config.model.classifier_dropout_rate).train()


@torch.no_grad()
def predict(model: Peer, prepared: Prepared, batch_size: int) -> list[np.ndarray]:
    """The logits of each dev row, in the order of the rows."""
    model.eval()
    ascending = sorted(range(len(prepared.dev)), key=lambda number: len(prepared.dev[number]["tokens"]))
    logits: dict[int, np.ndarray] = {}
    for start in range(0, len(ascending), batch_size):
        chosen = ascending[start : start + batch_size]
        batch = collate([prepared.dev[number] for number in chosen], prepared.pad_id)
        logits.update(zip(chosen, model(batch).numpy(), strict=True))
    return [logits[number] for number in range(len(ascending))]


def summary(runs: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Mean and standard deviation (n − 1) of each metric; the latter is 0 for one run."""
    values = {name: [run["scores"][name] for run in runs] for name in runs[0]["scores"]}
    return {
        name: {"mean": statistics.fmean(scores), "sd": statistics.stdev(scores) if len(scores) > 1 else 0.0}
        for name, scores in values.items()
    }


def our_updates(config: FinetuningConfig) -> Callable[[int], tuple[Mapping[str, np.ndarray], Callable[[], None]]]:
    """Returns a function from a row length to a batch of random rows and our update on it, compiled."""
    import jax

    from electra_jax.finetuning import run
    from electra_jax.progress import ProgressLine

    line = ProgressLine()
    examples = run.read_examples(config, line).by_task
    with tempfile.TemporaryDirectory() as empty:
        start = run.start(config, pathlib.Path(empty), line)
    tasks = run.make_tasks(config, examples, start.tokenizer)
    job = run.make_job(config, tasks, start)
    trainer = run.make_trainer(config, job, line)
    trainer.start_from(start.params())
    (name, rows), pad_id = next(iter(job.order.rows.items())), start.tokenizer.pad_id

    def updates(length: int) -> tuple[Mapping[str, np.ndarray], Callable[[], None]]:
        draw = np.random.default_rng(length)
        arrays = rows.batch(np.arange(config.batch_size) % len(rows), int(rows.lengths_N.max()), pad_id)
        shape = (config.batch_size, length)
        real_BxL = np.arange(length) < draw.integers(length * 3 // 4, length + 1, shape[0])[:, None]
        for array_name in {"segments", "first", "tag"} & arrays.keys():
            arrays[array_name] = np.resize(arrays[array_name], shape) * real_BxL
        tokens_BxL = draw.integers(pad_id + 1, start.tokenizer.vocabulary_size, shape, dtype=np.int32)
        arrays["tokens"] = np.where(real_BxL, tokens_BxL, pad_id)
        with trainer.placed():
            batch = {name: arrays}
            program = trainer.lower(jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), batch)).compile()
            placed, state = trainer.put(batch), [trainer.initial_state()]

        def update() -> None:
            state[0], measured = program(state[0], placed, trainer.root_key)
            jax.block_until_ready((state[0], measured))

        return arrays, update

    return updates


def measure_speed(config: FinetuningConfig, prepared: Prepared, folder: pathlib.Path) -> list[dict[str, Any]]:
    """Seconds per update of both implementations for each length, measured in turns."""
    make_update, results = our_updates(config), []
    for length in _LENGTHS.value:
        begun = time.perf_counter()
        arrays, our_update = make_update(length)
        compiled = time.perf_counter() - begun
        model = make_model(config, prepared, folder, config.seed)
        recipe = Recipe(model, config.optimizer, steps=10_000)
        batch = {name: torch.as_tensor(array) for name, array in arrays.items()}
        pytorch_update = functools.partial(recipe.update, model, batch, step=0)
        sides: dict[str, Callable[[], object]] = {"electra_jax": our_update, "pytorch": pytorch_update}
        times: dict[str, list[float]] = {side: [] for side in sides}
        for update in sides.values():
            update()
        for _ in range(_ROUNDS.value):
            for side, update in sides.items():
                for _ in range(_STEPS.value):
                    started = time.perf_counter()
                    update()
                    times[side].append(time.perf_counter() - started)
        medians = {side: statistics.median(seconds) for side, seconds in times.items()}
        for side, seconds in times.items():
            print(
                f"length {length}, batch {config.batch_size}: {side} {1 / medians[side]:.3f} updates/s, "
                f"{medians[side] * 1e3:.0f} ms ({min(seconds) * 1e3:.0f} to {max(seconds) * 1e3:.0f})"
            )
        ratio = medians["pytorch"] / medians["electra_jax"]
        print(f"length {length}: electra_jax is {ratio:.2f} times as fast; {compiled:.1f} s to its first update")
        results.append({"length": length, "seconds": medians, "ratio": ratio, "first_update_after": compiled})
    return results


def main(arguments: Sequence[str]) -> None:
    """Trains or measures speed, depending on the flags."""
    del arguments
    config = typed_finetuning(_CONFIG.value)
    if _SPEED.value:
        allocator.keep_freed_memory()
    folder = network_folder(config.init_from)
    prepared = prepare(config, folder)
    threads = torch.get_num_threads()
    print(f"{len(prepared.train):,} training and {len(prepared.dev):,} dev examples; {threads} threads")
    if _SPEED.value:
        results: dict[str, Any] = {"speed": measure_speed(config, prepared, folder)}
    else:
        runs = []
        for seed in range(config.seed, config.seed + _SEEDS.value):
            runs.append(run := train(config, prepared, folder, seed))
            print(
                f"seed {seed}: {_worded(run['scores'])}; {run['steps']} steps in {run['seconds']:.0f} s, "
                f"{run['steps_per_second']:.3f} steps/s; loss {run['last_loss']:.4f}",
                flush=True,
            )
        results = {"runs": runs, "summary": summary(runs)}
        for name, values in results["summary"].items():
            print(f"{name}: mean {values['mean']:.4f}, sd {values['sd']:.4f}, {len(runs)} runs")
    if _OUTPUT.value:
        results |= {"config": schema.as_tree(config), "threads": threads}
        results |= {"torch": torch.__version__, "transformers": transformers.__version__}
        pathlib.Path(_OUTPUT.value).write_text(json.dumps(results, indent=2) + "\n", "utf-8")


def _worded(scores: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in scores.items())


if __name__ == "__main__":
    flags.mark_flag_as_required("config")
    app.run(main)
