import concurrent.futures
import dataclasses
import subprocess
import sys

import numpy as np
import pytest

import electra_jax
from electra_jax.errors import InputError
from electra_jax.finetuning.data.examples import Answer, QuestionExample, SentenceExample, TextExample
from electra_jax.inference.predictor import Flush, Predictor
from electra_jax.inference.results import Classification, Grade, MultiClassification, Problem
from electra_jax.interop import checkpoints, export
from electra_jax.interop.model import outputs
from tests.inference import made_predictors
from tests.interop import made, made_finetuned
from tests.running import ROOT

TEXTS = ["ab cd ef", "gh", "Ábc de, fgh!", "a b c d e f g h i j k l m n o p q r s t"]


@pytest.fixture(scope="module")
def pretrained():
    return made_predictors.pretrained()


def reference(rows, network):
    """What `interop` computes for rows of equal length."""
    rows_BxL = np.array(rows, np.int32)
    return outputs(made.model(), rows_BxL, np.zeros_like(rows_BxL))[network]


def row_of(text):
    tokenizer = made.tokenizer()
    return [tokenizer.cls_id, *tokenizer.encode([text])[0], tokenizer.sep_id]


def test_detection_is_the_discriminators(pretrained):
    found = pretrained.detect(TEXTS)[2]
    (logits_L,) = reference([row_of(TEXTS[2])], "discriminator")
    np.testing.assert_allclose(found.probabilities_T, 1 / (1 + np.exp(-logits_L[1:-1])), atol=1e-5)


def test_detection_cuts_the_text_as_it_was_given(pretrained):
    (found,) = pretrained.detect(["Ábc  de!"])
    cuts = ["Ábc  de!"[start:end] for start, end in zip(found.starts_T, found.ends_T, strict=True)]
    assert cuts == ["Á", "b", "c", "d", "e", "!"]
    assert found.tokens == ("a", "##b", "##c", "d", "##e", "!")


def test_masks_are_filled_by_the_generator(pretrained):
    text = "ab [MASK] ef"
    (found,) = pretrained.fill([text], top_k=3)
    tokenizer = made.tokenizer()
    ids = [
        tokenizer.cls_id,
        *tokenizer.encode(["ab"])[0],
        tokenizer.mask_id,
        *tokenizer.encode(["ef"])[0],
        tokenizer.sep_id,
    ]
    logits_V = reference([ids], "generator")[0, ids.index(tokenizer.mask_id)]
    probabilities_V = np.exp(logits_V) / np.exp(logits_V).sum()
    best = np.argsort(-probabilities_V)[:3]
    (mask,) = found.masks
    assert (mask.start, mask.end) == (3, 9)
    assert [each.id for each in mask.candidates] == best.tolist()
    np.testing.assert_allclose([each.probability for each in mask.candidates], probabilities_V[best], rtol=1e-4)
    piece = mask.candidates[0].token
    assert found.text == ("ab" + piece[2:] if piece.startswith("##") else f"ab {piece}") + " ef"


def test_many_masks_are_each_filled(pretrained):
    (found,) = pretrained.fill([" ".join(["[MASK]"] * 20)])
    assert [mask.start for mask in found.masks] == [7 * n for n in range(20)]
    assert all(len(mask.candidates) == 5 for mask in found.masks)


def test_a_score_masks_each_token_in_turn(pretrained):
    (found,) = pretrained.score(["ab cd"])
    ids = np.array(row_of("ab cd"))
    places = np.arange(1, len(ids) - 1)
    rows_TxL = np.tile(ids, (len(places), 1))
    rows_TxL[np.arange(len(places)), places] = made.tokenizer().mask_id
    logits_TxV = reference(rows_TxL, "generator")[np.arange(len(places)), places].astype(np.float64)
    expected = logits_TxV[np.arange(len(places)), ids[places]] - np.log(np.exp(logits_TxV).sum(axis=-1))
    np.testing.assert_allclose(found.log_probabilities_T, expected, atol=1e-4)
    assert found.total == pytest.approx(sum(expected), abs=1e-3)
    assert found.perplexity == pytest.approx(np.exp(-np.mean(expected)), rel=1e-3)


def test_vectors_have_length_one_unless_asked(pretrained):
    vectors_NxD = pretrained.embed(TEXTS)
    np.testing.assert_allclose(np.linalg.norm(vectors_NxD, axis=1), 1, atol=1e-5)
    raw_NxD = pretrained.embed(TEXTS, normalize=False, pooling="cls")
    assert raw_NxD.shape == vectors_NxD.shape
    assert not np.allclose(np.linalg.norm(raw_NxD, axis=1), 1)


def test_neighbours_and_batches_change_no_result(pretrained):
    together = pretrained.embed(TEXTS)
    alone = np.concatenate([pretrained.embed([text]) for text in TEXTS[:2]])
    pairs = made_predictors.pretrained(batch_size=2).embed(TEXTS)
    np.testing.assert_allclose(together[:2], alone, atol=1e-5)
    np.testing.assert_allclose(together, pairs, atol=1e-5)


def test_long_texts_are_read_in_windows(pretrained):
    text = "abc def " * 100
    (found,) = pretrained.detect([text])
    assert found.windows > 1
    assert len(found.tokens) == 600
    assert pretrained.embed([text]).shape[0] == 1
    (short,) = made_predictors.pretrained(max_length=8).detect(["ab cd ef gh"])
    assert short.windows == 2


@pytest.mark.parametrize(
    ("kind", "head"), [("classification", "huggingface"), ("multilabel", "paper"), ("regression", "paper")]
)
def test_classes_are_those_of_the_runs_predictions(kind, head):
    texts = [("ab cd", "ef gh"), ("ab",), ("cd ef. gh!",), ("a b c d e f g h " * 12,), ("a b c " * 12, "d e f " * 12)]
    label = made_finetuned.LABELS[kind][0]
    examples = [TextExample("-", str(number), pair, label) for number, pair in enumerate(texts)]
    model, records = made_predictors.fine_tuned(kind, examples, head=head)
    assert model.tasks == ("classify", "embed")
    assert model.task == "classify"
    for found, record in zip(
        model.classify([pair if len(pair) == 2 else pair[0] for pair in texts]), records, strict=True
    ):
        match found:
            case Classification():
                assert found.label == record["prediction"]
            case MultiClassification():
                assert list(found.chosen) == record["prediction"]
            case Grade():
                assert found.grade == pytest.approx(record["prediction"], abs=1e-4)
        if not isinstance(found, Grade):
            np.testing.assert_allclose(found.probabilities_C, list(record["probabilities"].values()), atol=2e-5)
    assert [found.truncated > 0 for found in model.classify(texts)] == [False, False, False, True, True]


def test_windows_of_a_long_text_are_averaged_if_asked():
    model, _ = made_predictors.fine_tuned("classification", [TextExample("-", "0", ("ab",), "no")])
    half, other = " ".join("abcdefghijklmnopqrst"[:15] * 2), " ".join("zyxwvutsrqponm"[:15] * 3)
    long = f"{half} {other}"
    (truncated,) = model.classify([long])
    (whole,) = model.classify([long], long_texts="windows")
    assert (truncated.windows, whole.truncated) == (1, 0)
    assert whole.windows > 1
    assert not np.allclose(whole.probabilities_C, truncated.probabilities_C)


def test_texts_must_be_as_many_as_in_training():
    model, _ = made_predictors.fine_tuned(
        "classification", [TextExample("-", "0", ("ab", "cd"), "no")], text_columns=("premise", "hypothesis")
    )
    found = list(model.stream("classify", ["ab", ("ab", "cd"), ("a", "b", "c"), ("ab", "")]))
    assert [isinstance(one, Problem) for one in found] == [True, False, True, True]
    assert found[0].message == "found 1 text, expected a pair (premise, hypothesis), as the model was trained on"


def test_tags_are_those_of_the_runs_predictions():
    lines = ["ab cd ef gh", "c", "a b c d e, f. g h", "\x07 ab"]
    examples = [SentenceExample("-", str(n), tuple(line.split(" ")), None) for n, line in enumerate(lines)]
    model, records = made_predictors.fine_tuned("tagging", examples)
    found = model.tag([record["words"] for record in records])
    assert [list(one.tags) for one in found] == [record["predictions"] for record in records]
    assert {tag for one in found for tag in one.tags} > {"O"}
    assert [one.words for one in found] == [example.words for example in examples]
    text = lines[2]
    (of_text,) = model.tag([text])
    assert of_text.words == ("a", "b", "c", "d", "e", ",", "f", ".", "g", "h")
    for span in of_text.spans:
        assert span.text == text[span.start : span.end]


def test_tags_of_spans_are_joined_to_spans():
    model, _ = made_predictors.fine_tuned("tagging", [SentenceExample("-", "0", ("ab",), None)])
    tagging = model._prediction("tag", [])
    assert tagging.labels == ("O", "B-X", "I-X", "E-X", "S-X")
    found = tagging._tagging(
        "ab cd ef gh", np.array([0, 3, 6, 9]), np.array([2, 5, 8, 11]), np.array([1, 3, 0, 4]), np.full(4, 0.5), 1
    )
    assert found.tags == ("B-X", "I-X", "O", "B-X")
    assert [(span.label, span.text, span.first_word, span.last_word) for span in found.spans] == [
        ("X", "ab cd", 0, 1), ("X", "gh", 3, 3),
    ]  # fmt: skip


@pytest.mark.parametrize(("head", "unanswerable"), [("paper", True), ("huggingface", False)])
def test_answers_are_those_of_the_runs_predictions(head, unanswerable):
    contexts = ["cd ef gh", "ab cd. ef gh! ij kl", "a b c d e f g h i j k l m n o p " * 6]
    examples = [
        QuestionExample("-", str(n), "ab cd?", context, (Answer(context[:2], 0),)) for n, context in enumerate(contexts)
    ]
    model, records = made_predictors.fine_tuned("answering", examples, head=head, unanswerable=unanswerable)
    found = model.answer([(example.question, example.context) for example in examples])
    for one, record in zip(found, records, strict=True):
        assert one.text == record["prediction"]
        assert one.probability == pytest.approx(record["probability"], abs=1e-4)
        assert [each.text for each in one.candidates] == [each["text"] for each in record["candidates"]]
        assert [each.start for each in one.candidates] == [each["start"] for each in record["candidates"]]
    assert found[2].windows > 1
    (none,) = model.answer([(examples[2].question, examples[2].context)], null_threshold=-1000.0)
    assert (none.text, none.start, none.end) == ("", 0, 0)
    assert none.candidates == found[2].candidates


def test_what_a_model_cannot_do_is_said_with_what_it_can(pretrained):
    assert pretrained.tasks == ("detect", "fill", "embed", "score")
    with pytest.raises(InputError, match=r"cannot tag, which needs .*; it can detect, fill, embed, score"):
        pretrained.tag(["ab"])
    with pytest.raises(InputError, match="task: found 'sing', expected one of detect"):
        pretrained.stream("sing", ["ab"])
    with pytest.raises(InputError, match="choose one of detect, fill, embed, score"):
        pretrained.task  # noqa: B018


def test_a_run_of_several_tasks_asks_for_one():
    model, _ = made_predictors.fine_tuned("classification", [TextExample("-", "0", ("ab",), "no")])
    several = Predictor(dataclasses.replace(model._opened, head=None, heads=("one", "two")))
    with pytest.raises(InputError, match=r"name one with head=… \(--head=…\), one of one, two"):
        several.classify(["ab"])
    with pytest.raises(InputError, match="one of one, two"):
        several.task  # noqa: B018


def test_a_masked_language_model_fills_and_scores():
    model = Predictor(made_predictors.opened(made.masked_language_model()))
    assert model.tasks == ("fill", "embed", "score")
    assert model.task == "fill"


def test_a_single_text_is_not_taken_for_letters(pretrained):
    with pytest.raises(InputError, match=r"write detect\(\[text\]\)"):
        pretrained.detect("ab cd")


def test_a_text_that_cannot_be_used_is_named(pretrained):
    with pytest.raises(InputError, match="input 1: is empty"):
        pretrained.detect(["ab", ""])


def test_a_stream_has_a_result_for_each_input_in_order(pretrained):
    texts = ["ab", "", "cd ef", None, "\ud800", "x" * 5000, "\u200b", Problem("said before"), "gh"]
    found = list(pretrained.stream("detect", texts))
    assert [isinstance(one, Problem) for one in found] == [False, True, False, True, True, False, True, True, False]
    assert found[7].message == "said before"
    assert found[5].windows == 1  # A word of so many letters is one unknown token.


def test_a_stream_answers_what_was_read_when_asked(pretrained):
    asked = []

    def texts():
        for text in ("ab", "cd", Flush.FLUSH, "ef"):
            asked.append(text)
            yield text

    stream = pretrained.stream("detect", texts())
    next(stream)
    assert asked == ["ab", "cd", Flush.FLUSH]


def test_a_stream_reads_no_further_than_a_group(pretrained):
    read = 0

    def texts():
        nonlocal read
        while True:
            read += 1
            yield "ab"

    stream = pretrained.stream("detect", texts())
    for _ in range(33):
        next(stream)
    assert read <= 32 + 256


def test_threads_share_a_model(pretrained):
    texts = [text * (1 + n % 3) for n in range(12) for text in TEXTS]
    expected = pretrained.embed(texts)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for found in pool.map(pretrained.embed, [texts] * 8):
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("options", "problem"), [({"batch_size": 0}, "batch_size"), ({"max_length": 4000}, "expected 8 to")]
)
def test_arguments_that_do_not_fit_are_said(options, problem):
    with pytest.raises(InputError, match=problem):
        made_predictors.pretrained(**options)


@pytest.mark.parametrize(
    ("task", "options", "problem"),
    [
        ("embed", {"pooling": "max"}, "pooling: found 'max', expected one of mean, cls"),
        ("fill", {"top_k": 0}, "top_k: found 0"),
        ("score", {"network": "corrective"}, "network: found 'corrective', expected one that the model has: generator"),
    ],
)
def test_options_that_do_not_fit_are_said_at_once(pretrained, task, options, problem):
    with pytest.raises(InputError, match=problem):
        pretrained.stream(task, ["ab"], **options)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "form"),
    [
        ("classification", "huggingface"),
        ("tagging", "huggingface"),
        ("answering", "huggingface"),
        ("answering", "electra_jax"),
    ],
)
def test_exports_predict_what_the_run_does(tmp_path, kind, form):
    examples = {
        "classification": [TextExample("-", "0", ("ab cd",), "no")],
        "tagging": [SentenceExample("-", "0", ("ab", "cd"), None)],
        "answering": [QuestionExample("-", "0", "ab?", "cd ef gh", (Answer("ef", 3),))],
    }[kind]
    changes = {"answering": {"head": "huggingface", "stride": 5, "longest_answer": 3}, "tagging": {"segment": 1}}
    _, job, params = made_predictors.job_of(kind, examples, **changes.get(kind, {}))
    made_finetuned.write_run(tmp_path / "run", job, params, steps=(10,), reported=10)
    run = electra_jax.load(tmp_path / "run")
    export.write(checkpoints.open_model(str(tmp_path / "run")), str(tmp_path / "export"), form)
    copy = electra_jax.load(tmp_path / "export")
    assert copy.tasks == run.tasks
    assert copy._opened.head.settings == run._opened.head.settings
    given = ["ab cd. ef gh " * 8] if kind != "answering" else [("ab?", "a b c d e f g h i j k " * 8)]
    for one, other in zip(run.stream(run.task, given), copy.stream(run.task, given), strict=True):
        for field in dataclasses.fields(one):
            value, theirs = getattr(one, field.name), getattr(other, field.name)
            if isinstance(value, (np.ndarray, float)):
                np.testing.assert_allclose(value, theirs, atol=1e-4)
            elif field.name not in ("spans", "candidates"):
                assert value == theirs


@pytest.mark.slow
def test_loading_a_model_needs_neither_tensorflow_nor_flags(tmp_path):
    export.write(made.model(), str(tmp_path / "export"), "electra_jax")
    program = (
        "import sys, electra_jax; assert 'jax' not in sys.modules and 'numpy' not in sys.modules; "
        f"model = electra_jax.load({str(tmp_path / 'export')!r}); model.detect(['ab']); from absl import flags; "
        "ours = [name for name in flags.FLAGS.flags_by_module_dict() if 'electra_jax' in name]; "
        "heavy = {'tensorflow', 'clu', 'ml_collections.config_flags', 'optax', 'sklearn', 'electra_jax.entry_point'}; "
        "print(ours, heavy & set(sys.modules))"
    )
    finished = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert finished.stdout == "[] set()\n"
