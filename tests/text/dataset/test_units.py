"""How sources are dealt out into units."""

from electra_jax.text.dataset import units
from tests.configs import typed_data


def test_every_byte_is_in_exactly_one_unit_and_units_are_about_as_large_as_asked(data, tmp_path, monkeypatch):
    monkeypatch.setattr(units, "_SMALLEST_UNIT_BYTES", 1000)
    for number in range(30):
        (tmp_path / f"{number:02d}.txt").write_text("a line of text\n\n" * 20)
    (tmp_path / "long.txt").write_text("a line of text\n\n" * 1000)
    data.sources = (f"{tmp_path}/[0-9]*.txt", f"{tmp_path}/long.txt")
    made = units.make_units(typed_data(data))
    assert [unit.number for unit in made] == list(range(len(made)))
    assert [unit.source for unit in made] == sorted(unit.source for unit in made)
    assert {unit.source for unit in made} == {0, 1}
    pieces = [piece for unit in made for piece in unit.pieces]
    assert sum(piece.size for piece in pieces) == 30 * 320 + 16_000
    assert all(0 < unit.size <= 1000 for unit in made)
    assert len(made) < 2 * 25_600 / 1000


def test_the_number_of_units_stays_small_when_there_is_much_text(data, tmp_path, monkeypatch):
    monkeypatch.setattr(units, "_SMALLEST_UNIT_BYTES", 100)
    monkeypatch.setattr(units, "_UNITS", 16)
    (tmp_path / "long.txt").write_text("a line of text\n\n" * 1000)
    data.sources = (f"{tmp_path}/long.txt",)
    assert 16 <= len(units.make_units(typed_data(data))) <= 20


def test_the_fingerprint_follows_from_what_rows_follow_from_and_nothing_else(data):
    before = units.fingerprint(typed_data(data))
    for field, value in [("directory", "x"), ("download_cache", "x"), ("mixture_temperature", 3.0)]:
        changed = data.copy_and_resolve_references()
        changed[field] = value
        assert units.fingerprint(typed_data(changed)) == before
    for field, value in [("seed", 1), ("rows", "packed"), ("sources", ("other.txt",))]:
        changed = data.copy_and_resolve_references()
        changed[field] = value
        assert units.fingerprint(typed_data(changed)) != before
    changed = data.copy_and_resolve_references()
    changed.filters.shortest_document = 3
    assert units.fingerprint(typed_data(changed)) != before


def test_accents_cannot_be_stripped_by_sentencepiece(data):
    data.tokenizer.kind = "unigram"
    (problem,) = units.field_problems(data)
    assert "config.data.tokenizer.strip_accents" in problem
    data.tokenizer.strip_accents = False
    assert units.field_problems(data) == []


def test_a_tokenizer_that_is_not_there_is_a_problem(data):
    data.tokenizer.source = "nowhere/vocab.txt"
    assert "nowhere/vocab.txt does not exist" in "\n".join(units.problems(data))
