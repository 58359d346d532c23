"""Exact match and F1 of answers: SQuAD's published rules written a second time, slowly, and cases worked out by hand."""

import itertools
import random

import pytest

from electra_jax.finetuning.metrics import answer_metrics

# Letters, articles and marks that the rules treat in their own ways: ASCII and other punctuation, capitals whose lower case
# is longer, combining accents, spaces of other scripts, words that only hold an article.
PIECES = (
    *("the", "The", "a", "An", "THE", "cat", "Cat", "dog", "dog's", "a-b", "x.y", "!", "...", "«", "»", "—", "the—cat"),
    *(
        "’s",
        "İ",
        "ß",
        "é",
        "e\u0301",
        "\u00a0",
        "\u3000",
        "中文",
        "the中",
        "。",
        "1,000",
        "$5",
        "U.S.",
        "_",
        "the_",
        "theé",
    ),
)


def slowly_normalised(text):
    """Character by character, without regular expressions."""
    punctuation = {chr(code) for code in (*range(33, 48), *range(58, 65), *range(91, 97), *range(123, 127))}
    kept = [character for character in text.lower() if character not in punctuation]
    runs = ["".join(run) for _, run in itertools.groupby(kept, str.isalnum)]
    return " ".join("".join(" " if run in ("a", "an", "the") else run for run in runs).split())


def slow_scores(golds, prediction, version):
    """One question as version 1.1 or 2.0 describes it: the best over right answers, words taken away one by one."""
    pairs = []
    if version == 2:
        golds = [gold for gold in golds if slowly_normalised(gold)] or [""]
    for gold in golds:
        right, words = slowly_normalised(gold).split(), slowly_normalised(prediction).split()
        left, common = list(right), 0
        for word in words:
            if word in left:
                left.remove(word)
                common += 1
        f1 = 2 * common / (len(right) + len(words)) if common else 0.0
        if version == 2 and right == words == []:
            f1 = 1.0
        pairs.append((float(right == words), f1))
    return max(exact for exact, _ in pairs), max(f1 for _, f1 in pairs)


def best_by_trying_all(gold, predictions, scores, odds):
    """The best mean when the first so many questions by their odds are answered, and for how many."""
    order = sorted(odds, key=lambda key: odds[key])
    means = []
    for answered in range(len(order) + 1):
        total = 0.0
        for place, key in enumerate(order):
            gives_answer = place < answered and predictions[key] != ""
            if gold[key]:
                total += scores[key] if place < answered else 0.0
            else:
                total += not gives_answer
        means.append(total / len(order))
    return max(means), {
        0.0 if n == 0 else odds[order[n - 1]] for n in range(len(means)) if max(means) - means[n] < 1e-9
    }


def random_text(generator, most=5):
    return generator.choice([" ", " ", "", "-", "  "]).join(generator.choices(PIECES, k=generator.randint(0, most)))


def random_split(generator, answerable):
    """Right answers, predictions and odds of a few questions; odds are in another order, and often tied."""
    gold, predictions = {}, {}
    for number in range(generator.randint(1, 15)):
        golds = [random_text(generator) for _ in range(generator.randint(1, 4))]
        gold[f"q{number}"] = golds if generator.random() < answerable else []
        predictions[f"q{number}"] = generator.choice([*golds, random_text(generator), ""])
    keys = generator.sample(list(gold), len(gold))
    ties = generator.random() < 0.5
    return gold, predictions, {key: float(generator.randint(-2, 2)) if ties else generator.gauss(0, 3) for key in keys}


def test_thousands_of_random_texts_are_normalised_as_described():
    generator = random.Random(0)
    for _ in range(5000):
        text = random_text(generator, 8)
        assert answer_metrics.normalised(text) == slowly_normalised(text)


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("The  Cat!", "cat"),
        ("a-b", "ab"),
        ("A.", ""),
        ("U.S.A.", "usa"),
        ("the—cat", "—cat"),  # A dash that is not ASCII stays, and ends a word.
        ("theatre an' another", "theatre another"),
        ("l'an 2000", "lan 2000"),
        ("«L'Œuvre»", "«lœuvre»"),
        ("one\u00a0\u3000two\n", "one two"),
        ("?!", ""),
        ("", ""),
    ],
)
def test_normalisation_by_hand(text, normal):
    assert answer_metrics.normalised(text) == normal


def test_thousands_of_random_splits_equal_version_1():
    generator = random.Random(1)
    for _ in range(2000):
        gold, predictions, _ = random_split(generator, answerable=1.0)
        expected = [slow_scores(gold[key], predictions[key], 1) for key in gold]
        scores = answer_metrics.answer_scores(gold, predictions, None, None, unanswerable=False)
        assert scores == {
            "exact": pytest.approx(sum(exact for exact, _ in expected) / len(gold), abs=1e-12),
            "f1": pytest.approx(sum(f1 for _, f1 in expected) / len(gold), abs=1e-12),
        }


def test_thousands_of_random_splits_equal_version_2():
    generator = random.Random(2)
    for case in range(2000):
        gold, predictions, odds = random_split(generator, answerable=(0.6, 0.0, 1.0)[case % 3])
        threshold = generator.choice([None, 0.0, *odds.values()])
        raw = {key: slow_scores(gold[key], predictions[key], 2) for key in gold}
        final = {
            key: (float(not gold[key]),) * 2 if threshold is not None and odds[key] > threshold else raw[key]
            for key in gold
        }
        expected = {}
        for prefix, keys in (
            ("", list(gold)),
            ("has_answer_", [key for key in gold if gold[key]]),
            ("no_answer_", [key for key in gold if not gold[key]]),
        ):
            if keys:
                expected[f"{prefix}exact"] = pytest.approx(sum(final[key][0] for key in keys) / len(keys), abs=1e-12)
                expected[f"{prefix}f1"] = pytest.approx(sum(final[key][1] for key in keys) / len(keys), abs=1e-12)
        scores = answer_metrics.answer_scores(gold, predictions, odds, threshold, unanswerable=True)
        for column, name in enumerate(("best_exact", "best_f1")):
            by_key = {key: pair[column] for key, pair in raw.items()}
            best, thresholds = best_by_trying_all(gold, predictions, by_key, odds)
            expected[name] = pytest.approx(best, abs=1e-9)
            assert scores.pop(f"{name}_threshold") in thresholds
        assert scores == expected


def test_f1_counts_a_repeated_word_as_often_as_both_have_it():
    exact, f1 = answer_metrics.exact_and_f1(["big big cat"], "big big big dog", unanswerable=False)
    assert exact == 0.0
    assert f1 == pytest.approx(2 * (2 / 4) * (2 / 3) / (2 / 4 + 2 / 3))


def test_the_best_of_several_right_answers_counts_for_each_score():
    assert answer_metrics.exact_and_f1(["in Paris", "the Paris."], "paris", unanswerable=False) == (1.0, 1.0)
    exact, f1 = answer_metrics.exact_and_f1(["dog", "black cat"], "cat", unanswerable=True)
    assert (exact, f1) == (0.0, pytest.approx(2 / 3))


def test_the_versions_differ_where_nothing_is_left_of_an_answer():
    def both(golds, prediction):
        return [answer_metrics.exact_and_f1(golds, prediction, unanswerable=version) for version in (False, True)]

    assert both(["The"], "a") == [(1.0, 0.0), (1.0, 1.0)]
    assert both(["The"], "") == [(1.0, 0.0), (1.0, 1.0)]
    # Version 2.0 drops the empty right answer next to a full one, so no answer is wrong.
    assert both(["the", "cat"], "!") == [(1.0, 0.0), (0.0, 0.0)]
    assert both(["cat"], "...") == [(0.0, 0.0), (0.0, 0.0)]


def test_a_split_by_hand():
    gold = {"right": ["cat"], "half": ["black cat"], "silent": ["dog"], "none": [], "invented": []}
    predictions = {"right": "The cat", "half": "cat", "silent": "bird", "none": "", "invented": "fish"}
    odds = {"right": -3.0, "half": -2.0, "silent": 1.0, "none": 2.0, "invented": 3.0}
    scores = answer_metrics.answer_scores(gold, predictions, odds, None, unanswerable=True)
    assert scores == {
        "exact": pytest.approx(2 / 5),
        "f1": pytest.approx((1 + 2 / 3 + 1) / 5),
        "has_answer_exact": pytest.approx(1 / 3),
        "has_answer_f1": pytest.approx((1 + 2 / 3) / 3),
        "no_answer_exact": 0.5,
        "no_answer_f1": 0.5,
        "best_exact": pytest.approx(3 / 5),
        "best_exact_threshold": -3.0,  # "half" adds nothing to exact match.
        "best_f1": pytest.approx((2 + 1 + 2 / 3) / 5),
        "best_f1_threshold": -2.0,
    }
    fixed = answer_metrics.answer_scores(gold, predictions, odds, -2.0, unanswerable=True)
    assert fixed["f1"] == scores["best_f1"]
    assert fixed["no_answer_exact"] == 1.0
    assert fixed["best_exact"] == scores["best_exact"]


def test_only_odds_above_the_threshold_take_an_answer_away():
    arguments = ({"q": ["cat"]}, {"q": "cat"}, {"q": 1.5})
    assert answer_metrics.answer_scores(*arguments, 1.5, unanswerable=True)["exact"] == 1.0
    assert answer_metrics.answer_scores(*arguments, 1.4, unanswerable=True)["exact"] == 0.0


def test_an_answer_of_articles_is_an_answer_for_the_threshold():
    # Taken away, it is wrong, although "" compares equal to it.
    scores = answer_metrics.answer_scores({"q": ["the"]}, {"q": ""}, {"q": 1.0}, 0.0, unanswerable=True)
    assert (scores["exact"], scores["has_answer_f1"]) == (0.0, 0.0)


def test_the_search_keeps_the_official_habits():
    # It may stop between questions of the same odds …
    tied = answer_metrics.answer_scores(
        {"a": ["cat"], "b": []}, {"a": "cat", "b": "dog"}, {"a": 1.0, "b": 1.0}, None, unanswerable=True
    )
    assert (tied["best_exact"], tied["best_exact_threshold"]) == (1.0, 1.0)
    # … in the order in which the odds come …
    other = answer_metrics.answer_scores(
        {"a": ["cat"], "b": []}, {"a": "cat", "b": "dog"}, {"b": 1.0, "a": 1.0}, None, unanswerable=True
    )
    assert (other["best_exact"], other["best_exact_threshold"]) == (0.5, 0.0)
    # … and calls the threshold 0 if no question should be answered.
    silent = answer_metrics.answer_scores({"a": []}, {"a": "cat"}, {"a": -5.0}, None, unanswerable=True)
    assert (silent["best_exact"], silent["best_exact_threshold"]) == (1.0, 0.0)


def test_predictions_and_odds_of_other_questions_are_ignored():
    alone = answer_metrics.answer_scores({"q": []}, {"q": "x"}, {"q": 1.0}, 0.0, unanswerable=True)
    with_others = answer_metrics.answer_scores(
        {"q": []}, {"q": "x", "z": "y"}, {"z": 0.5, "q": 1.0}, 0.0, unanswerable=True
    )
    assert alone == with_others


@pytest.mark.parametrize(
    ("arguments", "unanswerable", "message"),
    [
        (({}, {}, None, None), False, "no questions"),
        (
            ({"q": ["x"], "r": ["x"]}, {"q": "x"}, None, None),
            False,
            "1 of 2 questions without prediction; the first is 'r'",
        ),
        (({"q": ["x"]}, {"q": "x"}, {}, None), True, "1 of 1 questions without odds"),
        (({"q": ["x"]}, {"q": "x"}, None, 0.0), True, "a threshold needs odds"),
        (({"q": ["x"]}, {"q": "x"}, {"q": 0.0}, None), False, "1.1 has no odds"),
        (({"q": []}, {"q": "x"}, None, None), False, "without a right answer"),
    ],
)
def test_what_cannot_be_scored_is_refused(arguments, unanswerable, message):
    with pytest.raises(ValueError, match=message):
        answer_metrics.answer_scores(*arguments, unanswerable=unanswerable)
