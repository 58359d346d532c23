"""How sources are split into units."""

from electra_jax.text.dataset import units
from tests.configs import typed_data


def test_units_cover_every_byte_once_in_about_equal_sizes(data, tmp_path, monkeypatch):
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


def test_the_fingerprint_covers_the_fields_that_determine_rows(data):
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


def test_a_missing_tokenizer_is_a_problem(data):
    data.tokenizer.source = "nowhere/vocab.txt"
    assert "nowhere/vocab.txt does not exist" in "\n".join(units.text_problems(typed_data(data)))
