"""Formats: the documents of each kind of file, however it is split, and the errors of damaged files."""

import bz2
import gzip
import io
import json
import lzma
import random
import tracemalloc

import pyarrow
import pyarrow.parquet
import pytest
import zstandard

from electra_jax.errors import InputError
from electra_jax.text.dataset import filters
from electra_jax.text.sources import columnar_reader, decompression, line_reader
from electra_jax.text.sources.text_sources import documents, pieces
from tests.text.reading import WHOLE, lines_of

ARTICLE = (
    '<doc id="12" url="https://en.wikipedia.org/wiki?curid=12" title="Anarchism">\nAnarchism\n\nIt has roots.\n</doc>\n'
)
WET = b"".join(
    b"WARC/1.0\r\nWARC-Type: %s\r\nWARC-Target-URI: http://a\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n%s\r\n\r\n"
    % (kind, media, len(text), text)
    for kind, media, text in [
        (b"warcinfo", b"application/warc-fields", b"software: x\r\n"),
        (b"conversion", b"text/plain", b"One\n\n two\n"),
        (b"conversion", b"text/plain; charset=utf-8", "thrée\r\nWARC/1.0".encode()),
    ]
)
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
def test_text_is_split_into_documents_by_the_option(file, boundary, expected):
    assert lines_of(f"{file('a.txt', POEM)}{boundary}") == expected


def test_a_byte_order_mark_is_not_text(file):
    assert lines_of(file("a.txt", b"\xef\xbb\xbfword")) == [("word",)]
    assert lines_of(file("b.txt", b"\xef\xbb\xbf")) == []
    assert lines_of(file("c.txt", b"\xef\xbb\xbf\n\na\n")) == [("a",)]


def expected_documents(content, boundary):
    """The rule in its simplest form, over the complete file at once."""
    stripped = [line.strip() for line in content.decode("utf-8-sig").split("\n")]
    if boundary == "line":
        return [(line,) for line in stripped if line]
    found, gathered = [], []
    for line in [*stripped, ""]:
        if line:
            gathered.append(line)
        elif gathered:
            found.append(tuple(gathered))
            gathered = []
    return found


def random_text(draw):
    parts = [
        "a",
        "bb",
        "é漢",
        "\n",
        "\n",
        "\n\n",
        "\r\n",
        "\r\n\r\n",
        " ",
        "\u3000\n",
        "\u2028",
        "\n" * 5,
        "w" * 30,
        "d\n" * 20,
        "\ufeff",
    ]
    text = "".join(draw.choices(parts, k=draw.randrange(1, 30)))
    return draw.choice([b"", b"\xef\xbb\xbf"]) + text.encode()


@pytest.mark.parametrize("boundary", ["blank_line", "line"])
@pytest.mark.parametrize("block_bytes", [1, 5, 1 << 20])
def test_any_cutting_gives_the_documents_of_the_uncut_text(file, monkeypatch, boundary, block_bytes):
    monkeypatch.setattr(line_reader, "_BLOCK_BYTES", block_bytes)
    draw = random.Random(0)
    for _ in range(40):
        content = random_text(draw)
        path = file("a.txt", content)
        for piece_bytes in (1, 2, 3, 7, 20, len(content)):
            assert lines_of(f"{path}#documents={boundary}", piece_bytes) == expected_documents(content, boundary)


def test_any_cutting_gives_the_records_of_the_uncut_json_lines(file):
    texts = [f"text {number} é" * (1 + 7 * (number % 3)) for number in range(40)]
    content = "".join(json.dumps({"text": text}, ensure_ascii=False) + "\r\n" * (1 + len(text) % 2) for text in texts)
    path = file("a.jsonl", content)
    for piece_bytes in (1, 3, 17, 100, 1000):
        assert lines_of(path, piece_bytes) == [(text,) for text in texts]


def test_a_document_across_many_pieces_is_read_by_one_of_them(file):
    path = file("a.txt", "short\n\n" + "long\n" * 1000 + "\nshort\n")
    counts = [len(list(documents(piece, ""))) for piece in pieces(str(path), "", 100)]
    assert sum(counts) == 3
    assert sorted(counts)[:-2] == [0] * (len(counts) - 2)


def test_lines_of_many_blocks_are_read(file, monkeypatch):
    monkeypatch.setattr(line_reader, "_BLOCK_BYTES", 100)
    long = "é" * 12345
    assert lines_of(file("a.txt", f"{long}\n{long}")) == [(long, long)]


@pytest.mark.parametrize("block_bytes", [1, 3, 1 << 17])
@pytest.mark.parametrize(
    ("suffix", "pack"),
    [(".gz", gzip.compress), (".ZST", zstandard.compress), (".bz2", bz2.compress), (".xz", lzma.compress)],
)
def test_all_members_and_frames_of_packed_text_are_read(file, monkeypatch, suffix, pack, block_bytes):
    monkeypatch.setattr(decompression, "_STORED_BLOCK_BYTES", block_bytes)
    packed = pack(b"one\ntw") + pack(b"") + pack("o\n\nthrée".encode())
    path = file(f"a.txt{suffix}", packed + b"\0" * 512)
    assert lines_of(path) == [("one", "two"), ("thrée",)]
    read = []
    (piece,) = pieces(str(path), "", WHOLE)
    list(documents(piece, "", read.append))
    assert sum(read) == piece.size == path.stat().st_size


def test_articles_of_wikiextractor_are_documents(file):
    second = '<doc id="13" url="x" title="B">\nB <doc> in a line\n</doc>\n'
    path = file("wiki_00", ARTICLE + "\n" + second + '<doc id="14" title="empty">\n\n</doc>\n')
    assert lines_of(f"{path}#format=wikiextractor") == [("Anarchism", "It has roots."), ("B <doc> in a line",)]
    packed = file("wiki_01.bz2", bz2.compress(ARTICLE.encode()))
    assert lines_of(f"{packed}#format=wikiextractor") == [("Anarchism", "It has roots.")]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", 'id,text\n1,"one\n\n two, ""2"""\n\nid,text\n2,\n3,thrée\n'),
        ("a.csv", 'sep=;\r\ntext;id\r\n"one\r\n two, ""2""";1\r\nthrée;2;\r\n'),
        ("a.csv", '"id, number";text\n1;"one\n two, ""2"""\n2;thrée\n'),
        ("a.tsv", 'id\ttext\n1\ttwo, "2"\n3\tthrée\n'),
    ],
)
def test_a_column_of_a_table_is_documents(file, name, content):
    second = ("one", 'two, "2"') if "one" in content else ('two, "2"',)
    assert lines_of(file(name, content)) == [second, ("thrée",)]
    assert lines_of(f"{file('b', content.replace('text', 'body'))}#format={name[2:]}&field=body") == [
        second,
        ("thrée",),
    ]


@pytest.mark.parametrize("block_bytes", [3, 1 << 20])
@pytest.mark.parametrize("name", ["a.warc", "a.warc.wet", "a.warc.wet.gz"])
def test_extracted_text_of_warc_records_is_documents(file, monkeypatch, name, block_bytes):
    monkeypatch.setattr(line_reader, "_BLOCK_BYTES", block_bytes)
    path = file(name, gzip.compress(WET) if name.endswith("gz") else WET)
    assert lines_of(path) == [("One", "two"), ("thrée", "WARC/1.0")]


@pytest.mark.parametrize(
    ("name", "option"),
    [("a.TXT", ""), ("a.text", ""), ("a.dat", "#format=txt"), ("a", "#format=txt"), ("a.md", "#format=txt")],
)
def test_suffix_in_any_case_or_an_option_gives_the_format(file, name, option):
    path = file(name, "# one\n\ntwo")
    assert lines_of(f"{path}{option}") == [("# one",), ("two",)]
    # In pieces, too.
    assert len(pieces(f"{path}{option}", "", 4)) == 3


def test_json_lines_have_several_suffixes(file):
    for name in ("a.jsonl", "a.json", "a.ndjson", "a.JSONL"):
        assert lines_of(file(name, '{"text": "t"}\n{"text": "u"}\n')) == [("t",), ("u",)]


def test_packed_json_lines_and_markdown_are_read(file):
    assert lines_of(file("a.jsonl.zst", zstandard.compress(b'{"text": "t"}'))) == [("t",)]
    assert lines_of(file("a.md.zst", zstandard.compress(b"# *A*\nb"))) == [("A", "b")]


def test_json_lines_are_documents_and_their_newlines_separate_lines(file):
    rows = [{"body": "a\n\nb", "text": "no"}, {"body": "c"}, {"body": None}, {"body": " \n"}]
    path = file("a.jsonl", "\n".join(map(json.dumps, rows)) + "\n\n")
    assert lines_of(f"{path}#field=body") == [("a", "b"), ("c",)]
    assert lines_of(file("b.jsonl", '{"text": "t"}')) == [("t",)]


def test_half_a_character_in_json_becomes_a_replacement_character(file):
    assert lines_of(file("a.jsonl", r'{"text": "a\ud83d b\ud83d\ude00"}')) == [("a\ufffd b\U0001f600",)]


def test_markdown_is_read_without_markup_and_headings_begin_documents(file):
    text = (
        "# Play\n\n## ACT I\n\n### SCENE I. _A room._\n\n**ANN**  \nSpeak, *speak* <br/>now \\[so\\]; 2 < 3 snake_case \\--\n\n"
        "_Exit_\n### SCENE II\n#hash\n"
    )
    first = ("Play", "ACT I", "SCENE I. A room.", "ANN", "Speak, speak now [so]; 2 < 3 snake_case --", "Exit")
    assert lines_of(file("a.md", text)) == [first, ("SCENE II", "#hash")]
    path = file("b.md", "# A\r\n*b*\r\n\r\nc")
    assert lines_of(f"{path}#documents=blank_line") == [("A", "b"), ("c",)]


def test_python_modules_give_their_long_strings_and_are_never_run(file, tmp_path):
    trap = tmp_path / "was_run"
    long = "In the beginning\n" + "word " * 120
    source = f"open({str(trap)!r}, 'w')\nshort = 'no text'\nif trap:\n    text = '''{long}\n\nsecond'''\n1 / 0\n"
    path = file("a.py", source)
    assert lines_of(path) == [("In the beginning", ("word " * 120).strip()), ("second",)]
    assert lines_of(f"{path}#documents=line")[0] == ("In the beginning",)
    assert not trap.exists()


TEXTS = ["a\n\nb", None, "  ", "c é", "d", "e"]


@pytest.mark.parametrize(
    "kind",
    [
        pyarrow.string(),
        pyarrow.large_string(),
        pyarrow.string_view(),
        pyarrow.dictionary(pyarrow.int32(), pyarrow.string()),
    ],
)
def test_parquet_is_read_by_row_groups_whatever_way_its_strings_are_stored(tmp_path, kind):
    path = tmp_path / "a.parquet"
    table = pyarrow.table({"id": range(6), "body": pyarrow.array(TEXTS).cast(kind)})
    pyarrow.parquet.write_table(table, path, row_group_size=2)
    source = f"{path}#field=body"
    (whole,) = pieces(source, "", WHOLE)
    assert (whole.start, whole.stop) == (0, 3)
    cut = pieces(source, "", 1)
    assert [(piece.start, piece.stop) for piece in cut] == [(0, 1), (1, 2), (2, 3)]
    groups = [pyarrow.parquet.read_metadata(path).row_group(number) for number in range(3)]
    assert [piece.size for piece in cut] == [group.column(1).total_compressed_size for group in groups]
    assert sum(piece.size for piece in cut) == whole.size
    expected = [("a", "b"), ("c é",), ("d",), ("e",)]
    assert lines_of(source) == lines_of(source, 1) == expected
    read = []
    list(documents(whole, "", read.append))
    assert sum(read) == whole.size


def test_a_row_group_is_decoded_in_parts(monkeypatch):
    monkeypatch.setattr(columnar_reader, "_ROWS", 2)
    content = packed_parquet(text=TEXTS)
    ((start, stop, size),) = columnar_reader.stretches(io.BytesIO(content), "a.parquet", "parquet", "text", WHOLE)
    read = []
    found = list(columnar_reader.texts(io.BytesIO(content), "a.parquet", "parquet", "text", start, stop, read.append))
    assert found == [text or "" for text in TEXTS]
    assert len(read) == 3
    assert sum(read) == size


def test_damaged_text_late_in_a_row_group_is_reported_with_its_row(monkeypatch):
    monkeypatch.setattr(columnar_reader, "_ROWS", 1)
    content = io.BytesIO(packed_parquet(text=NOT_TEXT))
    with pytest.raises(InputError, match="row group 0, row 2: byte 0"):
        list(columnar_reader.texts(content, "a.parquet", "parquet", "text", 0, 1, lambda count: None))


def test_a_long_line_takes_no_more_memory_than_many_short_ones(tmp_path):
    line = "a word and another one " * 10_000
    peaks = []
    for text in ("\n".join([line] * 20), " ".join([line] * 20)):
        (tmp_path / "a.txt").write_text(text + "\n\nthe next document\n")
        (piece,) = pieces(str(tmp_path / "a.txt"), "", WHOLE)
        tracemalloc.start()
        assert [len(filters.content_hash(document)) for document in documents(piece, "")] == [16, 16]
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.02 * peaks[0]


def packed_parquet(**columns):
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), sink)
    return sink.getvalue()


def damaged_parquet():
    content = bytearray(packed_parquet(text=[f"text number {number}" for number in range(1000)]))
    content[100:3000] = bytes(2900)
    return bytes(content)


NOT_TEXT = pyarrow.Array.from_buffers(
    pyarrow.string(), 2, [None, pyarrow.py_buffer(b"\0\0\0\0\2\0\0\0\4\0\0\0"), pyarrow.py_buffer(b"ab\xe9\xff")]
)


@pytest.mark.parametrize(
    ("name", "content", "option", "message"),
    [
        ("a.txt", b"good\ncaf\xe9 noir\n", "", ["line 2", "byte 8", "0xe9", "iconv", "/a.txt > a.utf8.txt"]),
        (
            "a.txt",
            "good".encode("utf-16"),
            "",
            ["as UTF-16 does", "--from-code=UTF-16 --to-code=UTF-8", "> a.utf8.txt"],
        ),
        ("a.txt", "é\n".encode() * 5 + b"\xe9\n", "", ["line 6", "byte 15", "0xe9"]),
        ("a.txt", b"\xef\xbb\xbfab\xe9", "", ["line 1", "byte 5", "0xe9"]),
        ("a.txt", "wide".encode("utf-16"), "", ["line 1", "byte 0", "0xff"]),
        ("a.txt", b"cut \xc3", "", ["line 1", "byte 4", "0xc3"]),
        ("a.txt.gz", gzip.compress(b"a\n\xe9"), "", ["line 2", "byte 2", "decompressed", "gzip -dc", "> a.utf8.txt"]),
        ("a.txt.gz", gzip.compress(b"text\n" * 1000)[:-12], "", ["gzip data is damaged after line", "again"]),
        ("a.txt.gz", gzip.compress(b"text\n" * 1000)[:-8], "", ["gzip data is damaged after line 1000", "ends early"]),
        ("a.txt.gz", gzip.compress(b"a\nb\n") + b"rest", "", ["gzip data is damaged after line 2"]),
        ("a.txt.gz", b"not gzip", "", ["gzip data is damaged"]),
        ("a.txt.zst", zstandard.compress(b"a\n" * 9)[:-1], "", ["zstd data is damaged after line", "ends early"]),
        ("a.txt.zst", zstandard.compress(b"a\nb\n") + b"rest", "", ["zstd data is damaged after line 2"]),
        ("a.txt.zst", b"not zstd", "", ["zstd data is damaged after line 0"]),
        ("a.jsonl", '{"text": "a"}\n{"text": ', "", ["line 2", "not a JSON value"]),
        ("a.jsonl", "[" * 100_000, "", ["line 1", "not a JSON value"]),
        ("a.jsonl", '{"text": "a"}\n\n[1]', "", ["line 3", "JSON list", '{"text"']),
        ("a.jsonl", "3", "", ["line 1", "JSON int"]),
        ("a.jsonl", '{"body": "a", "id": 1}', "", ["line 1", "'text'", "found body, id", "#field="]),
        ("a.jsonl", '{"text": 3}', "", ["line 1", "holds 3", "expected a string"]),
        ("a.jsonl.gz", gzip.compress(b'{"text": "a"}\n{}'), "", ["line 2", "no field at all"]),
        ("a.py", "def (", "", ["not a Python module", "line 1"]),
        ("a.csv", "a,b", "", ["line 1", "no column 'text' (found 'a', 'b')", "#field="]),
        ("a.csv", "text,text", "", ["line 1", "2 columns 'text'"]),
        ("a.csv", "text,id\n\na,1\nb", "", ["line 4", "found 1 cells, expected 2"]),
        ("a.csv", 'id,text\n1,"a\n\n', "", ["line 2", "quotes do not match"]),
        ("a.tsv", "text\tid\na\tb\t1", "", ["line 2", "found 3 cells, expected 2", "#format=csv"]),
        ("a.csv", "text\na", "#documents=line", ["documents=", "row of a table"]),
        ("a.warc", "a\n", "", ["record 1", "found b'a", "WARC/1.0"]),
        ("a.warc", WET[:-9], "", ["record 3", "ends within"]),
        ("a.warc", WET.replace(b"conversion", b"response"), "", ["record 2", "a response of text/plain", ".wet.gz"]),
        ("a.warc", WET.replace(b"/plain", b"/html"), "", ["record 2", "a conversion of text/html"]),
        ("a.warc", WET.replace(b"th: 10", b"th: x"), "", ["record 2", "Content-Length 'x'"]),
        ("a.warc", WET.replace(b"One", b"On\xe9"), "", ["record 2", "byte 2 of http://a", "not UTF-8"]),
        ("a.exe", "a,b", "", [".exe", ".txt, .text, .jsonl, .ndjson, .json, .md", "#format="]),
        ("a", "a", "", ["no suffix", "one of txt, jsonl, md, py, parquet, arrow, csv, tsv, warc, wikiextractor"]),
        ("a.txt.lz4", b"a", "", ["'.lz4'", ".gz, .zst, .bz2 or .xz"]),
        ("a.txt.bz2", bz2.compress(b"a\nb\n")[:-4], "", ["bzip2 data is damaged after line", "ends early"]),
        ("a.txt.bz2", bz2.compress(b"a\nb\n") + b"rest", "", ["bzip2 data is damaged after line 2"]),
        ("a.txt.xz", lzma.compress(b"a\nb\n")[:-4], "", ["xz data is damaged after line", "ends early"]),
        ("a.txt.xz", b"not xz", "", ["xz data is damaged after line 0"]),
        ("wiki_00", "a", "#format=wiki", ["format=wiki is not known", "did you mean 'wikiextractor'"]),
        ("wiki_00", "a", "#format=wikiextractor&documents=line", ["each article of WikiExtractor is one document"]),
        ("wiki_00", f"{ARTICLE}x", "#format=wikiextractor", ["line 6", "found x, expected <doc id="]),
        ("wiki_00", ARTICLE[:-8], "#format=wikiextractor", ["the last article has no </doc>"]),
        ("a.txt", ARTICLE, "", ["as files of WikiExtractor do", "#format=wikiextractor"]),
        ("a.parquet.gz", gzip.compress(b"a"), "", ["decompress it"]),
        ("a.txt", "a", "#field=x", ["field=", ".txt"]),
        ("a.jsonl", "{}", "#documents=line", ["documents=", "one document"]),
        ("a.txt", "", "", ["is empty"]),
        ("a.parquet", b"PAR1 no more", "", ["not a Parquet file that can be read"]),
        ("a.parquet", packed_parquet(text=["a"])[:-9], "", ["not a Parquet file that can be read"]),
        ("a.parquet", damaged_parquet(), "", ["not a Parquet file that can be read"]),
        ("a.parquet", packed_parquet(body=["a"], id=[1]), "", ["no column 'text'", "found body, id", "#field="]),
        ("a.parquet", packed_parquet(text=[1]), "", ["holds int64, expected string", "strings: none"]),
        ("a.parquet", packed_parquet(text=[["a"]], body=["a"]), "", ["expected string", "strings: body"]),
        ("a.parquet", packed_parquet(text=["a"]), "#documents=line", ["documents=", "row of a .parquet file"]),
        ("a.parquet", packed_parquet(text=NOT_TEXT), "", ["row group 0, row 2", "byte 0", "0xe9"]),
    ],
    # gzip writes the time into its header: names made of it would differ between the workers of one test run.
    ids=lambda value: "content" if isinstance(value, bytes) else None,
)
def test_bad_content_is_refused_with_file_and_place(file, name, content, option, message):
    path = file(name, content)
    with pytest.raises(InputError) as error:
        lines_of(f"{path}{option}")
    for part in [str(path), *message]:
        assert part in str(error.value)


@pytest.mark.parametrize("block_bytes", [4, 1 << 20])
@pytest.mark.parametrize("piece_bytes", [1, 50, 120, WHOLE])
@pytest.mark.parametrize("boundary", ["blank_line", "line"])
def test_a_bad_byte_is_found_at_its_line_in_the_middle_of_a_file(file, monkeypatch, block_bytes, piece_bytes, boundary):
    monkeypatch.setattr(line_reader, "_BLOCK_BYTES", block_bytes)
    path = file("a.txt", b"good\n\n" * 50 + b"good\nb\xe9d\n" + b"good\n\n" * 50)
    with pytest.raises(InputError, match=r"line 102: byte 306 \(0xe9\)"):
        lines_of(f"{path}#documents={boundary}", piece_bytes)


@pytest.mark.parametrize("piece_bytes", [1, 50, 500, WHOLE])
def test_a_bad_record_is_found_at_its_line_in_the_middle_of_a_file(file, monkeypatch, piece_bytes):
    monkeypatch.setattr(line_reader, "_BLOCK_BYTES", 100)
    path = file("a.jsonl", '{"text": "a"}\n\n' * 70 + "{}\n" + '{"text": "a"}\n' * 70)
    with pytest.raises(InputError, match="line 141: no field 'text'"):
        lines_of(path, piece_bytes)


@pytest.mark.parametrize(("option", "message"), [("documents=file", "line 3"), ("documents=line", "byte 9")])
def test_a_read_error_is_reported_with_its_place(file, monkeypatch, option, message):
    class Failing(io.BytesIO):
        def read(self, size=-1):
            if self.tell() >= 6:
                raise OSError(5, "Input/output error")
            return super().read(3)

    path = file("a.txt", b"a\nb\nc\nd\ne\n")
    monkeypatch.setattr("electra_jax.storage.open_to_read", lambda path: Failing(b"a\nb\nc\nd\ne\n"))
    (piece,) = pieces(f"{path}#{option}", "", WHOLE)
    with pytest.raises(InputError, match=rf"a\.txt: cannot be read after {message} \(.*Input/output error"):
        list(documents(piece, ""))
