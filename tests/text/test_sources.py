"""Sources: what comes out of each kind of file, and what is said when a file is wrong."""

import gzip
import json
import pathlib

import pytest

from electra_jax.errors import InputError
from electra_jax.text.sources import documents, problems


def lines_of(source, cache="unused"):
    return [document.lines for document in documents(str(source), str(cache))]


@pytest.fixture
def file(tmp_path):
    def make(name, content):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return make


POEM = "one\n  two \n\n\nthree\r\n\u3000\nfour"


@pytest.mark.parametrize(
    ("boundary", "expected"),
    [
        ("", [("one", "two"), ("three",), ("four",)]),
        ("#documents=blank_line", [("one", "two"), ("three",), ("four",)]),
        ("#documents=line", [("one",), ("two",), ("three",), ("four",)]),
        ("#documents=file", [("one", "two", "three", "four")]),
    ],
)
def test_text_is_cut_into_documents_as_the_option_says(file, boundary, expected):
    assert lines_of(f"{file('a.txt', POEM)}{boundary}") == expected


def test_origins_name_the_line_where_a_document_begins(file):
    path = file("a.txt", POEM)
    assert [d.origin for d in documents(str(path), "")] == [f"{path}:1", f"{path}:5", f"{path}:7"]


def test_globs_are_read_in_sorted_order_and_gzip_on_the_way(file, tmp_path):
    file("b.txt", "second")
    file("a.txt.gz", gzip.compress(b"first"))
    assert lines_of(tmp_path / "*.txt*") == [("first",), ("second",)]


def test_a_byte_order_mark_is_not_text(file):
    assert lines_of(file("a.txt", b"\xef\xbb\xbfword")) == [("word",)]


def test_json_lines_are_documents_and_their_newlines_separate_lines(file):
    rows = [{"body": "a\n\nb", "text": "no"}, {"body": "c"}]
    path = file("a.jsonl", "\n".join(map(json.dumps, rows)) + "\n\n")
    assert lines_of(f"{path}#field=body") == [("a", "b"), ("c",)]
    assert lines_of(file("b.jsonl", '{"text": "t"}')) == [("t",)]


def test_markdown_is_read_without_markup_and_headings_begin_documents(file):
    text = (
        "# Play\n\n## ACT I\n\n### SCENE I. _A room._\n\n**ANN**  \nSpeak, *speak* <br/>now \\[so\\]; 2 < 3 snake_case \\--\n\n"
        "_Exit_\n### SCENE II\n#hash\n"
    )
    first = ("Play", "ACT I", "SCENE I. A room.", "ANN", "Speak, speak now [so]; 2 < 3 snake_case --", "Exit")
    assert lines_of(file("a.md", text)) == [first, ("SCENE II", "#hash")]


def test_python_modules_give_their_long_strings_and_are_never_run(file, tmp_path):
    trap = tmp_path / "was_run"
    long = "In the beginning\n" + "word " * 120
    source = f"open({str(trap)!r}, 'w')\nshort = 'no text'\ntext = '''{long}\n\nsecond'''\n1 / 0\n"
    path = file("a.py", source)
    assert lines_of(path) == [("In the beginning", ("word " * 120).strip()), ("second",)]
    assert lines_of(f"{path}#documents=line")[0] == ("In the beginning",)
    assert next(documents(str(path), "")).origin == f"{path}:3"
    assert not trap.exists()


@pytest.mark.parametrize(
    ("name", "content", "option", "said"),
    [
        ("a.txt", b"good\ncaf\xe9 noir\n", "", ["line 2", "byte 8", "0xe9", "iconv"]),
        ("a.txt", b"\xef\xbb\xbfab\xe9", "", ["line 1", "byte 5", "0xe9"]),
        ("a.txt", "wide".encode("utf-16"), "", ["line 1", "byte 0", "0xff"]),
        ("a.txt.gz", gzip.compress(b"text\n" * 1000)[:-12], "", ["gzip data is damaged", "again"]),
        ("a.txt.gz", b"not gzip", "", ["gzip data is damaged"]),
        ("a.jsonl", '{"text": "a"}\n{"text": ', "", ["line 2", "not a JSON value"]),
        ("a.jsonl", "[1]", "", ["line 1", "JSON list", '{"text"']),
        ("a.jsonl", '{"body": "a", "id": 1}', "", ["line 1", "'text'", "found body, id", "#field="]),
        ("a.jsonl", '{"text": 3}', "", ["line 1", "holds 3", "expected a string"]),
        ("a.py", "def (", "", ["not a Python module", "line 1"]),
        ("a.csv", "a,b", "", [".csv", ".txt, .jsonl, .md, .py"]),
        ("a", "a", "", ["no suffix"]),
        ("a.txt", "a", "#field=x", ["field=", ".txt"]),
        ("a.jsonl", "{}", "#documents=line", ["documents=", "one document"]),
        ("a.txt", "", "", ["is empty"]),
    ],
)
def test_bad_content_is_refused_with_file_and_place(file, name, content, option, said):
    path = file(name, content)
    with pytest.raises(InputError) as error:
        lines_of(f"{path}{option}")
    for part in [str(path), *said]:
        assert part in str(error.value)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("none/*.txt", "no file matches none/*.txt"),
        ("a.txt#document=line", "did you mean 'documents'? Known: documents, field, sha256"),
        ("a.txt#documents=lines", "did you mean 'line'?"),
        ("a.txt#documents=", "needs exactly one value"),
        ("a.txt#documents=line&documents=file", "needs exactly one value"),
        ("a.txt#sha256=" + "0" * 64, "belongs to pypi:"),
        ("#documents=line", "names no file"),
        ("pypi:thing!x.txt", "not of the form pypi:NAME==VERSION!GLOB#sha256=HEX"),
        ("pypi:thing==1", "not of the form"),
        ("pypi:--pre==1!a.txt", "not of the form"),
        ("pypi:a==1!x.txt#sha256=12", "64 hexadecimal digits"),
        ("pypi:a==1!x.csv", ".csv"),
    ],
)
def test_bad_sources_are_named_before_any_work(source, said, file, monkeypatch, tmp_path):
    file("a.txt", "text")
    monkeypatch.chdir(tmp_path)
    (problem,) = problems((source,))
    assert problem.startswith("config.data.sources: ")
    assert said in problem


def test_problems_come_all_at_once_and_none_for_good_sources(file, tmp_path):
    file("a.txt", "text")
    file("b.txt", "")
    good = str(tmp_path / "a.txt")
    assert problems((good, "pypi:a-b==1.0!a/**/*.md#sha256=" + "0" * 64)) == []
    assert len(problems((str(tmp_path / "b.txt"), "missing.txt", good))) == 2
    assert "is a folder; name its files" in problems((str(tmp_path),))[0]
    assert "no text is named" in problems(())[0]
    assert "expected a tuple" in problems(good)[0]


def test_a_file_that_may_not_be_read_is_a_problem(tmp_path, monkeypatch):
    def refuse(path, mode):
        raise PermissionError(13, "Permission denied", path)

    path = tmp_path / "a.txt"
    path.write_text("text")
    monkeypatch.setattr("builtins.open", refuse)  # Permissions do not bind a root user.
    assert "cannot be read (Permission denied)" in problems((str(path),))[0]


def test_documents_are_streamed(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"good\n\n" * 100_000 + b"\xff")
    assert next(documents(str(path), "")).lines == ("good",)


def test_the_house_text_reads_as_scenes():
    path = pathlib.Path(__file__).parents[1] / "data" / "shakespeare.txt"
    found = lines_of(path)
    assert len(found) > 40
    assert found[0][:3] == ("Macbeth", "ACT I", "SCENE I. A desert place.")
