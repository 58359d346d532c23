"""The file format: what is written is read, anybody's file is read, and a damaged one is named."""

import json
import struct

import ml_dtypes
import numpy as np
import pytest

from electra_jax.errors import InputError
from electra_jax.interop import safetensors

TENSORS = {
    "b/kernel": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a": np.array([1, 2, 3], np.int64),
    "half": np.array([0.5, -2], np.float16),
    "brain": np.array([0.5, -2], ml_dtypes.bfloat16),
    "scalar": np.array(2.5, np.float64),
    "empty": np.zeros((0, 4), np.float32),
    "flags": np.array([True]),
}


def assert_same(found, expected=TENSORS):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


@pytest.fixture
def path(tmp_path):
    path = str(tmp_path / "model.safetensors")
    safetensors.write(path, TENSORS)
    return path


def test_what_was_written_is_read_in_every_type(path):
    assert_same(safetensors.read(path))


def test_transposed_arrays_are_written_in_their_logical_order(tmp_path):
    array = np.arange(6, dtype=np.float32).reshape(2, 3).T
    safetensors.write(str(tmp_path / "t"), {"x": array})
    np.testing.assert_array_equal(safetensors.read(str(tmp_path / "t"))["x"], array)


def test_bytes_are_where_the_format_says(tmp_path):
    path = tmp_path / "one"
    safetensors.write(str(path), {"x": np.array([1, 2], np.float32)})
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    assert length % 8 == 0
    header = json.loads(content[8 : 8 + length])
    assert header["__metadata__"] == {"format": "pt"}
    assert header["x"] == {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
    assert content[8 + length :] == np.array([1, 2], "<f4").tobytes()


@pytest.mark.parametrize("kept", [0, 7, 8, 60, -1])
def test_a_file_that_was_cut_off_is_refused(path, kept):
    with open(path, "rb") as file:
        content = file.read()
    with open(path, "wb") as file:
        file.write(content[:kept])
    with pytest.raises(InputError, match=r"model\.safetensors: is no safetensors file, or was cut off"):
        safetensors.read(path)


@pytest.mark.parametrize(
    "header",
    [
        b"not json",
        b"[1]",
        b'{"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}',
        b'{"x": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}}',
        b'{"x": {"shape": [1]}}',
    ],
)
def test_a_header_that_makes_no_sense_is_refused(tmp_path, header):
    path = tmp_path / "bad"
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    with pytest.raises(InputError, match="bad: is no safetensors file"):
        safetensors.read(str(path))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match="none: cannot be read"):
        safetensors.read(str(tmp_path / "none"))


def test_a_folder_of_shards_is_read_whole(tmp_path):
    names = sorted(TENSORS)
    shards = {"model-1.safetensors": names[:3], "model-2.safetensors": names[3:]}
    for file, held in shards.items():
        safetensors.write(str(tmp_path / file), {name: TENSORS[name] for name in held})
    weight_map = {name: file for file, held in shards.items() for name in held}
    (tmp_path / safetensors.INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    assert_same(safetensors.read_folder(str(tmp_path)))

    (tmp_path / safetensors.INDEX).write_text(json.dumps({"weight_map": weight_map | {"z": "model-1.safetensors"}}))
    with pytest.raises(InputError, match="no file holds: z"):
        safetensors.read_folder(str(tmp_path))
    (tmp_path / "model-2.safetensors").unlink()
    with pytest.raises(InputError, match=r"model-2\.safetensors: cannot be read"):
        safetensors.read_folder(str(tmp_path))
    (tmp_path / safetensors.INDEX).write_text("[]")
    with pytest.raises(InputError, match="weight_map"):
        safetensors.read_folder(str(tmp_path))


@pytest.mark.interop
def test_the_reference_implementation_reads_our_files_and_we_read_its(tmp_path, path):
    import safetensors.numpy as reference

    kept = {name: array for name, array in TENSORS.items() if name != "brain"}  # NumPy has no such type there.
    ours = str(tmp_path / "ours")
    safetensors.write(ours, kept)
    assert_same(reference.load_file(ours), kept)
    theirs = str(tmp_path / "theirs")
    reference.save_file(kept, theirs)
    assert_same(safetensors.read(theirs), kept)
