"""The dataset card shows a manifest, escaped, with the same bytes each time, and warns of problems."""

import ast
import copy
import html
import json
import re
import shlex

import fsspec
import pytest

from electra_jax import storage
from electra_jax.errors import InputError
from electra_jax.reporting import dataset_card

SOURCES = (
    {
        "source": "livres/*.txt",
        "documents": 900,
        "lines": 9000,
        "characters": 2_500_000,
        "words": 400_000,
        "tokens": 950_000,
    },
    {
        "source": "gs://corpora/fr.jsonl#field=texte",
        "documents": 600,
        "lines": 600,
        "characters": 500_000,
        "words": 100_000,
        "tokens": 250_000,
    },
)


def lengths(**counts):
    """33 bins, of which some are counted: bin_9=500."""
    return [counts.get(f"bin_{index}", 0) for index in range(33)]


def shard(source, rows):
    return {"file": f"train-0000{source}.bin", "rows": rows, "sha256": "0" * 64, "source": source}


MANIFEST = {
    "format_version": 2,
    "data_fingerprint": "f1" * 32,
    "config": {
        "sources": [source["source"] for source in SOURCES],
        "sequence_length": 512,
        "heldout_fraction": 0.1,
        "rows": "segment_pairs",
        "filters": {"drop_copies": True, "shortest_document": 0},
        "tokenizer": {"source": "train", "kind": "unigram", "lowercase": False, "strip_accents": False},
    },
    "length": 512,
    "rows": "segment_pairs",
    "dtype": "<u2",
    "tokenizer_sha256": "70" * 32,
    "tokenizer_kind": "unigram",
    "vocabulary_size": 32_000,
    "sources": [SOURCES[0] | {"dropped": {"copies": 90, "too_short": 9}}, SOURCES[1] | {"dropped": {}}],
    "splits": {
        "train": {
            "documents": 1250,
            "rows": 2000,
            "tokens": 921_600,
            "pieces": 915_000,
            "lengths": lengths(bin_0=25, bin_9=600, bin_10=625),
            "examples": ["[CLS] ▁le ▁pha re [SEP]" + 17 * " [PAD]"],
            "shards": [shard(0, 1000), shard(0, 500), shard(1, 500)],
        },
        "heldout": {
            "documents": 150,
            "rows": 200,
            "tokens": 97_280,
            "pieces": 85_000,
            "lengths": lengths(bin_9=100, bin_10=50),
            "examples": ["[CLS] ▁la ▁mer [SEP]"],
            "shards": [shard(0, 200)],
        },
    },
    "unknown_tokens": 2500,
    "heldout_unigram_entropy": 6.5,
}


@pytest.fixture
def manifest():
    return copy.deepcopy(MANIFEST)


@pytest.fixture
def page_of(tmp_path):
    def make(manifest):
        (tmp_path / "manifest.json").write_text(json.dumps(manifest), "utf-8")
        return storage.read(dataset_card.write_card(str(tmp_path))).decode()

    return make


def facts_of(page):
    return {
        name: (value, remark) for name, value, remark in re.findall(r"<dt>(.*?)</dt><dd>(.*?)<small>(.*?)</s", page)
    }


def warnings_of(page):
    box = re.search(r'<section class="warnings">(.*?)</section>', page)
    return re.findall(r"<li>(.*?)</li>", box[1]) if box else []


def source_rows_of(page):
    table = re.search(r'<table class="sources">(.*?)</table>', page)[1]
    cells = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in re.findall(r"<tr>(.*?)</tr>", table)]
    return [[re.sub(r"<[^>]*>", "|", cell) for cell in row] for row in cells]


def text_of(row):
    return html.unescape(re.sub(r"<[^>]*>", "", row))


def test_headline_facts_follow_from_the_manifest(page_of, manifest):
    page = page_of(manifest)
    facts = facts_of(page)
    assert {name: value for name, (value, _) in facts.items()} == {
        "Training rows": "2,000",
        "Held-out rows": "200",
        "Tokens": "922 k",
        "Documents": "1,250",
        "Text": "3 M",
        "Padding": "10.0%",
        "Tokens a word": "2.40",
        "Unknown": "0.250%",
        "Vocabulary": "32,000",
        "Unigram entropy": "6.50",
    }
    assert facts["Training rows"][1] == "of 512 tokens, segment pairs"
    assert facts["Padding"][1].endswith("5.0% in held-out ones")
    assert facts["Documents"][1] == "to train on, 150 held out"
    assert facts["Vocabulary"][1] == "pieces, SentencePiece unigram; cased, accents kept"
    assert f'<code title="{"f1" * 32}">f1f1f1f1f1f1</code>' in page
    assert f'<code title="{"70" * 32}">707070707070</code>' in page


def test_a_manifest_without_text_tokens_has_no_tokens_a_word(page_of, manifest):
    del manifest["sources"][1]["tokens"]
    assert facts_of(page_of(manifest))["Tokens a word"][0] == "–"


@pytest.mark.parametrize(
    ("tokenizer", "casing"),
    [
        ({"source": "train", "lowercase": True, "strip_accents": True}, "lower-cased, accents stripped"),
        ({"source": "vocab.txt", "lowercase": True, "strip_accents": False}, "lower-cased, accents kept"),
        ({"source": "camembert.model", "lowercase": True, "strip_accents": True}, "casing set by its file"),
    ],
)
def test_casing_is_shown_only_where_the_config_decides_it(page_of, manifest, tokenizer, casing):
    manifest["config"]["tokenizer"] = tokenizer
    assert facts_of(page_of(manifest))["Vocabulary"][1].endswith(f"; {casing}")


def test_sources_are_counted_with_what_was_dropped_and_which_rows_they_gave(page_of, manifest):
    _, books, web, total = source_rows_of(page_of(manifest))
    assert books == [
        "livres/*.txt",
        "900",
        "9,000",
        "2.50",
        "400,000",
        "99 (11.0%)|90 copies||9 too short|",
        "1,500",
        "75.0%",
    ]
    assert web == ["gs://corpora/fr.jsonl#field=texte", "600", "600", "0.50", "100,000", "0", "500", "25.0%"]
    assert total == ["All", "1,500", "9,600", "3.00", "500,000", "99 (6.6%)|90 copies||9 too short|", "2,000", "100.0%"]


def test_one_source_needs_no_sum(page_of, manifest):
    del manifest["sources"][1], manifest["splits"]["train"]["shards"][2]
    assert len(source_rows_of(page_of(manifest))) == 2


def test_a_healthy_dataset_has_no_warning(page_of, manifest):
    page = page_of(manifest)
    assert warnings_of(page) == []
    assert "Nothing looks wrong" in page
    assert 'class="marked"' not in page


def test_a_source_that_lost_most_documents_is_marked(page_of, manifest):
    manifest["sources"][0]["dropped"] = {"too_short": 51, "copies": 400}
    page = page_of(manifest)
    assert warnings_of(page) == ["livres/*.txt lost 451 of its 900 documents (50%: 400 copies, 51 too short)."]
    assert '<td class="marked">451 (50.1%)' in page
    manifest["sources"][0]["dropped"] = {"copies": 450}
    assert warnings_of(page_of(manifest)) == []


def test_a_source_without_training_rows_is_marked(page_of, manifest):
    manifest["splits"]["train"]["shards"] = [shard(0, 2000)]
    page = page_of(manifest)
    assert warnings_of(page) == ["gs://corpora/fr.jsonl#field=texte gave no training row."]
    assert '<td class="marked">0</td>' in page


def test_padding_above_a_fifth_is_warned_of(page_of, manifest):
    manifest["splits"]["train"]["tokens"] = 819_200
    assert warnings_of(page_of(manifest)) == []
    manifest["splits"]["train"]["tokens"] = 716_800
    (warning,) = warnings_of(page_of(manifest))
    assert warning.startswith("Padding fills 30% of training rows, and teaches nothing.")
    assert "packed" in warning
    manifest["splits"]["heldout"]["tokens"], manifest["rows"] = 51_200, "packed"
    (warning,) = warnings_of(page_of(manifest))
    assert warning == "Padding fills 30% of training rows and 50% of held-out rows, and teaches nothing."


def test_unknown_tokens_above_one_percent_are_warned_of(page_of, manifest):
    manifest["unknown_tokens"] = 10_000
    assert warnings_of(page_of(manifest)) == []
    manifest["unknown_tokens"] = 20_000
    assert warnings_of(page_of(manifest)) == ["2.0% of the tokens are unknown: the tokenizer does not fit this text."]


def test_few_heldout_rows_are_warned_of(page_of, manifest):
    manifest["splits"]["heldout"] |= {"rows": 99, "tokens": 99 * 512}
    (warning,) = warnings_of(page_of(manifest))
    assert warning.startswith("Only 99 rows are held out")
    manifest["splits"]["heldout"] |= {"rows": 100, "tokens": 100 * 512}
    assert warnings_of(page_of(manifest)) == []


def test_many_warnings_are_counted_rather_than_listed(page_of, manifest):
    manifest["sources"] += [SOURCES[1] | {"dropped": {}}] * 20
    warnings = warnings_of(page_of(manifest))
    assert len(warnings) == 9
    assert warnings[-1].startswith("and 12 more")


def test_lengths_are_drawn_for_both_splits_with_the_row_and_the_median(page_of, manifest):
    page = page_of(manifest)
    figure = re.search(r'<figure class="histogram">.*?</figure>', page, re.DOTALL)[0]
    assert "training <b>1,250 documents</b>" in figure
    assert "held-out <b>150 documents</b>" in figure
    assert "row <b>512 tokens</b>" in figure
    # 625 of 1250 are at most 511 tokens long.
    assert "The median training document has 256 to 511 tokens." in figure
    assert "stroke-dasharray" in figure
    for tick in ("empty", "256", "512", "1,024"):
        assert f">{tick}</text>" in figure
    assert ">2,048</text>" not in figure


def test_bars_of_both_splits_are_side_by_side(monkeypatch, manifest):
    drawn = []

    class Axes:
        def __getattr__(self, name):
            return lambda *arguments, **_: drawn.append((name, arguments)) or self

        xaxis = yaxis = property(lambda self: self)

    monkeypatch.setattr("electra_jax.reporting.lengths.draw", lambda title, plot, size: plot(Axes()) or "")
    from electra_jax.reporting.lengths import histogram

    histogram(manifest)
    bars = [
        {round(x, 2): share for x, share in zip(*entry[1][:2], strict=True) if share}
        for entry in drawn
        if entry[0] == "bar"
    ]
    # Bin i reaches from i - 1 to i, and the row's end is 2^9 = 512 tokens.
    assert bars == [{-0.72: 0.02, 8.28: 0.48, 9.28: 0.5}, {8.72: 100 / 150, 9.72: 50 / 150}]
    assert ("axvline", (9.0,)) in drawn


def test_a_dataset_without_documents_has_no_drawing(page_of, manifest):
    for split in manifest["splits"].values():
        split["lengths"] = lengths()
    assert "No document was kept." in page_of(manifest)


def test_rows_are_readable_with_padding_collapsed_and_special_pieces_dim(page_of, manifest):
    row = re.search(r'<p class="row" dir="auto">(.*?)</p>', page_of(manifest))[1]
    assert text_of(row) == "[CLS] le phare [SEP] [PAD] × 17"
    assert "<span>pha</span><span>re</span>" in row
    assert '<bdi class="special">[SEP]</bdi>' in row
    assert '<bdi class="special">[PAD] × 17</bdi>' in row


@pytest.mark.parametrize(
    ("pieces", "read"),
    [
        ("[CLS] un ##believ ##able , [SEP] [PAD]", "[CLS] unbelievable , [SEP] [PAD]"),
        ("<s> ▁l ' été ▁ ou ou </s> <pad> <pad>", "<s> l'été ouou </s> <pad> × 2"),
        ("[CLS] ha ha ha [SEP]", "[CLS] ha ha ha [SEP]"),
        ("[CLS] ## a ##b [SEP]", "[CLS] ab [SEP]"),
    ],
)
def test_pieces_of_every_tokenizer_join_to_words(page_of, manifest, pieces, read):
    manifest["splits"]["train"]["examples"] = [pieces]
    row = re.search(r'<p class="row" dir="auto">(.*?)</p>', page_of(manifest))[1]
    assert text_of(row) == read


def test_unknown_pieces_stand_out(page_of, manifest):
    manifest["splits"]["train"]["examples"] = ["[CLS] le [UNK] [SEP]"]
    assert '<bdi class="unknown">[UNK]</bdi>' in page_of(manifest)


def test_two_training_rows_are_open_and_the_others_folded_away(page_of, manifest):
    manifest["splits"]["train"]["examples"] *= 5
    page = page_of(manifest)
    assert page[: page.index("<details>")].count('<p class="row"') == 2
    folded = re.findall(r"<details><summary>(.*?) <small>(\d)</small></summary>(.*?)</details>", page)
    assert [(heading, int(count), rows.count("<p ")) for heading, count, rows in folded] == [
        ("More of the training split", 3, 3),
        ("Of the held-out split", 1, 1),
    ]


def test_the_command_gives_back_every_field(page_of, manifest):
    manifest["config"]["sources"] = ["it's <here>/*.txt", 'a "b"']
    page = page_of(manifest)
    command = re.search(r"<pre><code>(.*?)</code></pre>", page, re.DOTALL)[1]
    words = shlex.split(html.unescape(command).replace("\\\n", ""))
    assert words[:4] == ["python", "-m", "electra_jax.prepare", "--config=configs/base.py"]
    given = dict(word.removeprefix("--config.data.").split("=", 1) for word in words[4:])
    assert ast.literal_eval(given.pop("sources")) == ("it's <here>/*.txt", 'a "b"')
    assert given == {
        "directory": "DIRECTORY",
        "sequence_length": "512",
        "heldout_fraction": "0.1",
        "rows": "segment_pairs",
        "filters.drop_copies": "True",
        "filters.shortest_document": "0",
        "tokenizer.source": "train",
        "tokenizer.kind": "unigram",
        "tokenizer.lowercase": "False",
        "tokenizer.strip_accents": "False",
    }


def test_an_archive_s_hash_is_shortened_with_the_full_one_as_title(page_of, manifest):
    source = "pypi:livres==1!*.txt#sha256=" + "ab" * 32
    manifest["sources"][0]["source"] = source
    assert f'title="{source}">pypi:livres==1!*.txt#sha256=abababab…</th>' in page_of(manifest)


def test_everything_from_the_manifest_is_escaped(page_of, manifest):
    evil = '<script>alert("1")</script>\\1$title'
    manifest["config"] |= {evil: evil, "sources": [evil]}
    manifest |= {"data_fingerprint": evil, "tokenizer_sha256": evil, "tokenizer_kind": evil, "rows": evil}
    for source in manifest["sources"]:
        source |= {"source": evil, "dropped": {evil: 800}}
    for split in manifest["splits"].values():
        split["examples"] = [evil, f"[CLS] ▁{evil} [SEP]"]
    page = page_of(manifest)
    assert "<script" not in page
    assert '="1")' not in page
    assert page.count("&lt;script&gt;") > 15


def test_the_name_of_the_directory_is_escaped(tmp_path, manifest):
    directory = tmp_path / "<b>&"
    directory.mkdir()
    (directory / "manifest.json").write_text(json.dumps(manifest))
    page = storage.read(dataset_card.write_card(directory)).decode()
    assert "<h1>Dataset · &lt;b&gt;&amp;</h1>" in page
    assert "<title>Dataset · &lt;b&gt;&amp;</title>" in page


def test_page_needs_nothing_from_the_network_and_its_ids_are_unique(page_of, manifest):
    page = page_of(manifest)
    addresses = set(re.findall(r"https?://[^\s\"'<]*", page))
    assert {re.sub(r"^https?://www\.w3\.org/.*", "", address) for address in addresses} <= {""}
    assert not re.search(r"<link|@import|url\((?!#)|<script", page)
    ids = re.findall(r' id="([^"]*)"', page)
    assert len(ids) == len(set(ids))


def test_same_manifest_gives_the_same_bytes_and_no_other_file(tmp_path, page_of, manifest):
    assert page_of(manifest) == page_of(manifest)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["card.html", "manifest.json"]


def test_a_card_is_written_where_the_dataset_is(manifest):
    system = fsspec.filesystem("memory")
    system.pipe_file("/cards/fr/manifest.json", json.dumps(manifest).encode())
    try:
        path = dataset_card.write_card("memory://cards/fr")
        assert path == "memory://cards/fr/card.html"
        assert b"<h1>Dataset \xc2\xb7 fr</h1>" in storage.read(path)
    finally:
        storage.remove("memory://cards")


def test_a_path_that_is_not_utf8_is_shown(page_of, manifest):
    manifest["sources"][0]["source"] = "livres/\udce9t\udce9.txt"
    assert "livres/\ufffdt\ufffd.txt" in page_of(manifest)


def test_missing_foreign_and_damaged_manifests_are_named(tmp_path, manifest):
    path = tmp_path / "manifest.json"
    with pytest.raises(InputError, match=r"cannot read .*manifest\.json \(No such file.*electra_jax\.prepare"):
        dataset_card.write_card(tmp_path)
    for content, found in (
        ("{", r"cannot be read \(it is not JSON: Expecting"),
        ("[]", "found format_version null"),
        ('{"format_version": 1}', "found format_version 1, expected 2"),
    ):
        path.write_text(content)
        with pytest.raises(InputError, match=rf"manifest\.json: {found}"):
            dataset_card.write_card(tmp_path)
    del manifest["splits"]["train"]["pieces"]
    path.write_text(json.dumps(manifest))
    with pytest.raises(
        InputError, match=r"manifest\.json: the dataset is damaged: splits\.train\.pieces: found nothing"
    ):
        dataset_card.write_card(tmp_path)


def test_a_failed_write_keeps_the_old_card_and_is_reported(tmp_path, page_of, manifest, monkeypatch):
    page_of(manifest)
    old = (tmp_path / "card.html").read_bytes()

    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(storage.os, "replace", fail)
    with pytest.raises(
        InputError, match=r"card\.html: the card cannot be written \(No space left.*dataset itself is complete"
    ):
        dataset_card.write_card(tmp_path)
    assert (tmp_path / "card.html").read_bytes() == old
    assert sorted(path.name for path in tmp_path.iterdir()) == ["card.html", "manifest.json"]
