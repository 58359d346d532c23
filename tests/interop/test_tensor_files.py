"""The file format: what is written is read, anybody's file is read, and a damaged one is named."""

import json
import struct

import ml_dtypes
import numpy as np
import pytest

from electra_jax import storage
from electra_jax.errors import InputError
from electra_jax.interop import tensor_files

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
    tensor_files.write(path, TENSORS)
    return path


def test_what_was_written_is_read_in_every_type(path):
    assert_same(tensor_files.read(path))


def test_transposed_arrays_are_written_in_their_logical_order(tmp_path):
    array = np.arange(6, dtype=np.float32).reshape(2, 3).T
    tensor_files.write(str(tmp_path / "t"), {"x": array})
    np.testing.assert_array_equal(tensor_files.read(str(tmp_path / "t"))["x"], array)


def test_bytes_are_where_the_format_says(tmp_path):
    path = tmp_path / "one"
    tensor_files.write(str(path), {"x": np.array([1, 2], np.float32)})
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
    with pytest.raises(InputError, match=r"model\.safetensors: is not a safetensors file or is truncated"):
        tensor_files.read(path)


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
    with pytest.raises(InputError, match="bad: is not a safetensors file"):
        tensor_files.read(str(path))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match="none: cannot be read"):
        tensor_files.read(str(tmp_path / "none"))


def test_a_folder_of_shards_is_read_whole(tmp_path):
    names = sorted(TENSORS)
    shards = {"model-1.safetensors": names[:3], "model-2.safetensors": names[3:]}
    for file, held in shards.items():
        tensor_files.write(str(tmp_path / file), {name: TENSORS[name] for name in held})
    weight_map = {name: file for file, held in shards.items() for name in held}
    (tmp_path / tensor_files.INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    assert_same(tensor_files.read_folder(str(tmp_path)))

    (tmp_path / tensor_files.INDEX).write_text(json.dumps({"weight_map": weight_map | {"z": "model-1.safetensors"}}))
    with pytest.raises(InputError, match="that are in no file: z"):
        tensor_files.read_folder(str(tmp_path))
    (tmp_path / "model-2.safetensors").unlink()
    with pytest.raises(InputError, match=r"model-2\.safetensors: cannot be read"):
        tensor_files.read_folder(str(tmp_path))
    (tmp_path / tensor_files.INDEX).write_text("[]")
    with pytest.raises(InputError, match="weight_map"):
        tensor_files.read_folder(str(tmp_path))


def test_a_type_that_numpy_has_not_is_named(tmp_path):
    header = b'{"x": {"dtype": "F8_E4M3", "shape": [4], "data_offsets": [0, 4]}}'
    (tmp_path / "eight").write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    with pytest.raises(InputError, match=r"eight: has a tensor of a type that NumPy does not support .*float8"):
        tensor_files.read(str(tmp_path / "eight"))


def test_remote_files_are_written_and_read():
    path = "memory://tensors/model.safetensors"
    try:
        tensor_files.write(path, TENSORS)
        assert_same(tensor_files.read(path))
        with pytest.raises(InputError, match="memory://tensors/none: cannot be read"):
            tensor_files.read("memory://tensors/none")
    finally:
        storage.remove("memory://tensors")
