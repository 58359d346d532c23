"""Words in columns become sentences, and lines that do not fit are reported."""

import pytest

from electra_jax.configs.finetune import base
from electra_jax.finetuning.data.examples import SentenceExample
from tests.finetuning.labelled_files import problems_of, reading_of, splits_of

GOOD = "U.N. NNP B-ORG\nrests VBZ O\n\nIn IN O\nParis NNP B-LOC\n"
CONLLU = "# text = au lit\n1-2\tau" + "\t_" * 8 + "\n" + "".join(
    f"{number}\t{word}\t_\t{tag}" + "\t_" * 6 + "\n"
    for number, word, tag in (("1", "à", "ADP"), ("2", "le", "DET"), ("2.1", "lit", "X"), ("3", "lit", "NOUN"))
)  # fmt: skip


def task(suffix="txt", **changes):
    return base.tagging_task(**({"train": f"train.{suffix}", "dev": f"dev.{suffix}"} | changes))


@pytest.mark.parametrize(
    "content",
    [
        GOOD,
        GOOD.replace(" ", "\t"),
        GOOD.replace(" B", "  B"),
        GOOD.replace("U.N. ", "U.N.  "),
        GOOD.replace("\n", "\r\n"),
        "-DOCSTART- -X- O\n\n" + GOOD,
        "\n" + GOOD + "\n\n",
        GOOD.replace("\n\n", "\n \n"),
    ],
)
def test_sentences_end_at_empty_lines_and_columns_at_blanks_or_tabs(tmp_path, content):
    sentences = splits_of(tmp_path, task(), train=content, dev=GOOD)["train"]
    assert [(e.key, e.words, e.tags) for e in sentences] == [
        ("0", ("U.N.", "rests"), ("B-ORG", "O")),
        ("1", ("In", "Paris"), ("O", "B-LOC")),
    ]


def test_a_sentence_says_the_line_of_its_first_word(tmp_path):
    assert [e.place for e in splits_of(tmp_path, task(), train=GOOD, dev=GOOD)["train"]] == [
        "train.txt:1",
        "train.txt:4",
    ]


def test_words_may_hold_spaces_that_do_not_break(tmp_path):
    content = "10\u00a0000 CD O\nParis NNP B-LOC\n"
    assert splits_of(tmp_path, task(), train=content, dev=content)["train"][0].words == ("10\u00a0000", "Paris")


def test_columns_are_chosen(tmp_path):
    chosen = task(word_column=1, tag_column=0, spans=False)
    content = "U.N. NNP\nrests VBZ\n"
    assert splits_of(tmp_path, chosen, train=content, dev=content)["train"][0].words == ("NNP", "VBZ")


def test_a_line_with_another_number_of_columns_is_told(tmp_path):
    problems = problems_of(tmp_path, task(), train=GOOD + "Nice NNP\n\n. . O O\n", dev=GOOD)
    assert problems == ["train.txt:6: 2 columns (Nice NNP), expected 3", "train.txt:8: 4 columns (. . O O), expected 3"]


def test_files_without_tags_are_for_prediction_alone(tmp_path):
    words = "In\nParis\n"
    splits = splits_of(tmp_path, task(test="test.txt"), train=GOOD, dev=GOOD, test=words)
    assert splits["test"] == [SentenceExample("test.txt:1", "0", ("In", "Paris"), None)]
    (problem,) = problems_of(tmp_path, task(), train=words, dev=GOOD)
    assert problem.startswith("train.txt:1: found 1 column, expected tags in column -1")
    (problem,) = problems_of(tmp_path, task(tag_column=4), train=GOOD, dev="")[:1]
    assert "expected tags in column 4" in problem


def test_tags_that_mark_no_span_are_told_with_their_line(tmp_path):
    problems = problems_of(tmp_path, task(tag_column=1), train=GOOD, dev=GOOD)
    assert problems[0].startswith("train.txt:1: the tag 'NNP' marks no span")
    assert "--config.tasks.it.spans=False" in problems[0]


def test_ranges_and_words_that_are_not_written_are_no_words_of_a_treebank(tmp_path):
    pos = task("conllu", word_column=1, tag_column=3, spans=False)
    (sentence,) = splits_of(tmp_path, pos, train=CONLLU, dev=CONLLU)["train"]
    assert sentence == SentenceExample("train.conllu:3", "0", ("à", "le", "lit"), ("ADP", "DET", "NOUN"))


def test_a_treebank_without_tags_can_be_predicted_but_not_trained_on(tmp_path):
    pos = task("conllu", word_column=1, tag_column=3, spans=False, test="test.conllu")
    bare = CONLLU.replace("DET", "_")
    assert splits_of(tmp_path, pos, train=CONLLU, dev=CONLLU, test=bare)["test"][0].tags is None
    assert problems_of(tmp_path, pos, train=bare) == ["train.conllu:4: no tag for 'le'"]
    cut = CONLLU.replace("\t_\t_\n", "\n", 3)
    assert "expected 10" in problems_of(tmp_path, pos, train=cut)[0]


def test_splits_must_follow_schemes_that_can_be_read_together(tmp_path):
    bilou = "a B-X\nb L-X\nc U-X\n"
    assert splits_of(tmp_path, task(), train=bilou, dev="a U-X\n")
    (problem,) = problems_of(tmp_path, task(), train="a B-X\nb I-X\n", dev=bilou)
    assert problem == "dev.txt: found the letters L and U of BILOU, expected the scheme of the training split"
    (problem,) = problems_of(tmp_path, task(), train="a S-X\nb L-X\n", dev="a S-X\n")
    assert "belong to two schemes" in problem


def test_a_sentence_a_line_has_tags_behind_its_words(tmp_path):
    tokens = task(format="tokens", spans=False)
    content = "the/DT 1/2/CD cat/NN\n\n  sat/VBD\r\n"
    sentences = splits_of(tmp_path, tokens, train=content, dev=content)["train"]
    assert [(e.place, e.words, e.tags) for e in sentences] == [
        ("train.txt:1", ("the", "1/2", "cat"), ("DT", "CD", "NN")),
        ("train.txt:3", ("sat",), ("VBD",)),
    ]


def test_what_follows_a_sentence_in_its_line_is_left_out_if_the_task_says_so(tmp_path):
    content = "fly:O at:O 8:30:B-time <=> flight\n"
    tokens = task(format="tokens", tag_separator=":", line_until="<=>")
    (sentence,) = splits_of(tmp_path, tokens, train=content, dev=content)["train"]
    assert (sentence.words, sentence.tags) == (("fly", "at", "8:30"), ("O", "O", "B-time"))
    tokens.line_until = ""
    assert problems_of(tmp_path, tokens, train=content, dev=content)[0] == (
        "train.txt:1: found '<=>', expected a word and a tag joined by ':'; set --config.tasks.it.tag_separator=…, or "
        "--config.tasks.it.line_until=… if the sentence ends before it"
    )


@pytest.mark.parametrize(
    "content",
    ["EU\tB-ORG \nrejects\tO\n \t \nNATO\tB-ORG\n", "EU\tB-ORG\t\n rejects\tO\t\n\t\nNATO\tB-ORG\t\n"],
)
def test_blanks_around_cells_are_no_part_of_them(tmp_path, content):
    sentences = splits_of(tmp_path, task(), train=content, dev=content)["train"]
    assert [(e.words, e.tags) for e in sentences] == [(("EU", "rejects"), ("B-ORG", "O")), (("NATO",), ("B-ORG",))]


def test_comments_before_a_sentence_are_no_words(tmp_path):
    content = "# id 7f domain=en\nEU _ _ B-ORG\n# _ _ O\n\n# _ _ O\n1 _ _ O\n"
    sentences = splits_of(tmp_path, task(), train=content, dev=content)["train"]
    assert [e.words for e in sentences] == [("EU", "#"), ("#", "1")]


@pytest.mark.parametrize("tags", [("EU-B", "EU-I", "X-Y-B"), ("EU_B", "EU_I", "X-Y_B"), ("B_EU", "I_EU", "B_X-Y")])
def test_other_spellings_of_spans_are_understood_and_noted(tmp_path, tags):
    content = "a {}\nb {}\nc {}\nd O\n".format(*tags)
    reading = reading_of(tmp_path, task(), train=content, dev=content.replace("a ", "e "))
    assert reading.splits["train"][0].tags == ("B-EU", "I-EU", "B-X-Y", "O")
    assert f"train.txt: tags such as {tags[0]!r} are read as 'B-EU'" in reading.notes


def test_advice_on_tags_that_mark_no_span_can_be_followed(tmp_path):
    content = "a NOUN\nb VERB\n"
    problem = problems_of(tmp_path, task(), train=content, dev=content)[0]
    assert """--config.tasks.it.spans=False --config.tasks.it.metrics='("accuracy",)'""" in problem
    assert splits_of(tmp_path, task(spans=False, metrics=("accuracy",)))["train"][0].tags == ("NOUN", "VERB")


def test_sentences_may_be_lines_of_json(tmp_path):
    lines = '{"tokens": ["EU", "rejects"], "tags": ["B-ORG", "O"]}\n{"tokens": ["it"], "tags": ["O"]}\n'
    splits = splits_of(tmp_path, task("jsonl", test="test.jsonl"), train=lines, dev=lines, test='{"tokens": ["a"]}\n')
    assert [(e.place, e.words, e.tags) for e in splits["train"] + splits["test"]] == [
        ("train.jsonl:1", ("EU", "rejects"), ("B-ORG", "O")),
        ("train.jsonl:2", ("it",), ("O",)),
        ("test.jsonl:1", ("a",), None),
    ]


def test_tags_of_json_lines_may_be_numbers_of_names(tmp_path):
    lines = '{"words": ["EU", "rejects"], "ner_tags": [1, 0]}\n'
    keys = dict(word_key="words", tag_key="ner_tags")
    named = task("jsonl", labels=("O", "B-ORG"), **keys)
    assert splits_of(tmp_path, named, train=lines, dev=lines)["train"][0].tags == ("B-ORG", "O")
    assert problems_of(tmp_path, task("jsonl", **keys))[0] == (
        "train.jsonl:1: found the tag 1, a number; name the tags in the order of their numbers: "
        "--config.tasks.it.labels=…"
    )
    assert "expected a number from 0 to 1" in problems_of(tmp_path, named, train=lines.replace("[1, 0]", "[2, 0]"))[0]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"text": "a"}', "found 'text', expected 'tokens' with a list of words"),
        ('{"tokens": ["a"], "tags": "O"}', "found 'tags' \"O\", expected a list of tags"),
        ('{"tokens": ["a"], "tags": ["O", "O"]}', "found 1 words and 2 tags, expected equal numbers"),
    ],
)
def test_lines_of_json_that_hold_no_sentence_are_told(tmp_path, line, problem):
    good = '{"tokens": ["EU"], "tags": ["B-ORG"]}\n'
    assert problem in problems_of(tmp_path, task("jsonl"), train=good + line + "\n", dev=good)[0]
