import pathlib

import pytest

from benchmarks.objectives import tasks
from electra_jax.errors import InputError
from tests.benchmarks.made import write_stsb, write_trec


@pytest.mark.parametrize(
    ("raw", "layout", "header", "count"),
    [
        (b"a x\nb y\n\nc z\n\n\nd x\n", "sentences", b"", 3),
        (b"a x\r\nb y\r\n\r\nc z\r\n", "sentences", b"", 2),
        (b"text\tlabel\none\t1\ntwo\t0\nthree\t1", "table", b"text\tlabel\n", 3),
        ("NUM:dist Où ?\nHUM:ind Qui ?\n".encode("latin-1"), "lines", b"", 2),
    ],
)
def test_examples_are_held_out_once_and_nothing_is_lost(raw, layout, header, count):
    train, dev = tasks.split(raw, layout, 1)
    separator = b"\n\n" if layout == "sentences" else b"\n"
    parts = [part.removeprefix(header).split(separator) for part in (train, dev)]
    examples = [[example for example in part if example] for part in parts]
    assert train.startswith(header)
    assert dev.startswith(header)
    assert [len(part) for part in examples] == [count - 1, 1]
    left = raw.replace(b"\r\n", b"\n").removeprefix(header)
    assert sorted(examples[0] + examples[1]) == sorted(e.strip(b"\n") for e in left.split(separator) if e.strip(b"\n"))


def test_the_same_examples_are_held_out_every_time():
    raw = b"".join(b"%d\n" % number for number in range(100))
    train, dev = tasks.split(raw, "lines", 30)
    assert (train, dev) == tasks.split(raw, "lines", 30)
    numbers = [list(map(int, part.split())) for part in (train, dev)]
    assert [part == sorted(part) for part in numbers] == [True, True]
    assert numbers[1] != list(range(30))


def test_dev_comes_from_training_and_test_is_the_official_file(tmp_path):
    write_trec(tmp_path / "trec")
    files = tasks.prepare("trec", tmp_path / "trec", 10, tmp_path / "work")
    lines = (tmp_path / "trec" / "train.txt").read_text().splitlines()
    train, dev = (pathlib.Path(path).read_text().splitlines() for path in (files.train, files.dev))
    assert files.test == str(tmp_path / "trec" / "test.txt")
    assert (len(train), len(dev)) == (86, 10)
    assert sorted(train + dev) == sorted(lines)


def test_an_official_dev_split_is_used_unchanged(tmp_path):
    for split in ("train", "dev", "test"):
        (tmp_path / f"xx_yy-ud-{split}.conllu").write_text(split)
    files = tasks.prepare("ud", tmp_path, 10, tmp_path / "work")
    assert files.dev == str(tmp_path / "xx_yy-ud-dev.conllu")
    assert not (tmp_path / "work").exists()


def test_other_data_and_other_dev_sizes_have_other_hashes(tmp_path):
    write_trec(tmp_path / "trec")

    def sha256(count=10):
        return tasks.prepare("trec", tmp_path / "trec", count, tmp_path / "work").sha256

    first = sha256()
    assert sha256() == first != sha256(11)
    (tmp_path / "trec" / "test.txt").write_text("HUM:ind Who ?\n")
    assert sha256() != first


def test_too_few_examples_are_an_error(tmp_path):
    write_trec(tmp_path / "trec", train=10)
    with pytest.raises(InputError, match=r"tasks\.trec\.dev_examples: .*10 examples cannot be held out of 10"):
        tasks.prepare("trec", tmp_path / "trec", 10, tmp_path / "work")


def test_missing_files_are_reported(tmp_path):
    assert tasks.problems("trec", tmp_path / "no") == [
        f"tasks.trec.directory: {tmp_path / 'no'} is not a folder; give --data=DIR, or leave it out with --tasks"
    ]
    write_stsb(tmp_path / "sts")
    assert tasks.problems("stsb", tmp_path / "sts") == []
    assert [line.split()[-4:] for line in tasks.problems("trec", tmp_path / "sts")] == [
        ["files", "train.txt,", "expected", "one"], ["files", "test.txt,", "expected", "one"],
    ]  # fmt: skip
