"""What is dropped, and why."""

import numpy as np
import pytest

from electra_jax.config.pretraining import FiltersConfig
from electra_jax.text.dataset import filters
from electra_jax.text.sources.text_sources import Document


def test_a_documents_hash_depends_on_its_lines_alone():
    first = filters.content_hash(Document(("one", "two")))
    assert len(first) == filters.HASH_BYTES
    assert first == filters.content_hash(Document(("one", "two")))
    assert first != filters.content_hash(Document(("one", "two ")))


def test_shares_held_out_and_sampled_are_as_asked_and_independent():
    digests = [filters.content_hash(Document((str(number),))) for number in range(20_000)]
    heldout = np.array([filters.is_heldout(digest, 0.1) for digest in digests])
    sampled = np.array([filters.is_sampled(digest, 0.3) for digest in digests])
    assert heldout.mean() == pytest.approx(0.1, abs=0.01)
    assert sampled.mean() == pytest.approx(0.3, abs=0.015)
    assert sampled[heldout].mean() == pytest.approx(0.3, abs=0.04)
    assert all(filters.is_sampled(digest, 1.0) for digest in digests)


def test_lengths_are_counted_in_characters_of_all_lines():
    limits = FiltersConfig(shortest_document=5, longest_document=8)
    faults = [filters.length_fault(Document(("ab", "x" * size)), limits) for size in (2, 3, 6, 7)]
    assert faults == ["too_short", "", "", "too_long"]
    unlimited = FiltersConfig(shortest_document=0, longest_document=0)
    assert filters.length_fault(Document(("x" * 10**6,)), unlimited) == ""


@pytest.mark.parametrize("hashes_in_memory", [4_000_000, 7, 1])
def test_every_later_copy_is_marked_in_whatever_file_it_is(tmp_path, monkeypatch, hashes_in_memory):
    monkeypatch.setattr(filters, "_HASHES_IN_MEMORY", hashes_in_memory)
    rng = np.random.default_rng(0)
    different = rng.integers(0, 2**64, (40, 2), dtype=np.uint64)
    different[1] = different[0] + np.array([0, 1], np.uint64)  # Alike in the first half only.
    drawn = [rng.integers(0, 40, size) for size in (30, 0, 50, 20)]
    paths = [str(tmp_path / f"hashes-{number}.npy") for number in range(4)]
    for path, numbers in zip(paths, drawn, strict=True):
        filters.save(path, different[numbers])
    copies_paths = [path.replace("hashes", "copies") for path in paths]
    filters.write_copies(paths, copies_paths)
    seen, expected = set(), []
    for numbers in drawn:
        marks = []
        for number in numbers:
            marks.append(number in seen)
            seen.add(number)
        expected.append(marks)
    assert [filters.load(path).tolist() for path in copies_paths] == expected
    assert sum(map(sum, expected)) > 50
