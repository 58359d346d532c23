"""The format is told by the files; where nothing can be read, the answer says what was found and what can be."""

import numpy as np
import pytest

from electra_jax import storage
from electra_jax.errors import InputError
from electra_jax.interop import (
    checkpoints,
    export,
    google_checkpoint,
    huggingface_folder,
    native_format,
    tensor_files,
)
from electra_jax.text.tokenizers import tokenizer
from tests.interop import made


@pytest.mark.parametrize("writer", [native_format, google_checkpoint, huggingface_folder])
def test_every_format_is_told_by_its_files(tmp_path, writer):
    writer.write(made.model(), str(tmp_path / "model"))
    read = checkpoints.open_model(f"{tmp_path}/model/")
    table = made.model().params["embeddings"]["word_embeddings"]
    np.testing.assert_array_equal(read.params["embeddings"]["word_embeddings"], table)


def test_heads_are_stated_behind_the_path_of_a_google_checkpoint(tmp_path):
    google_checkpoint.write(made.model(), str(tmp_path))
    (tmp_path / "electra_jax.json").unlink()
    for path in (str(tmp_path), f"{tmp_path}/", f"{tmp_path}/model.ckpt-1000", f"{tmp_path}/model.ckpt-1000.index"):
        assert checkpoints.open_model(f"{path}#heads=8").discriminator.heads == 8
    with pytest.raises(InputError, match=r"model\.ckpt-1000: found a network of width 32, .*PATH#heads=1"):
        checkpoints.open_model(str(tmp_path))


@pytest.mark.parametrize("number", ["", "0", "-4", "four", "4.0"])
def test_heads_that_are_no_number_are_refused(tmp_path, number):
    with pytest.raises(InputError, match=rf"found heads={number}, expected a number of attention heads above 0"):
        checkpoints.open_model(f"{tmp_path}#heads={number}")


@pytest.mark.parametrize("writer", [native_format, huggingface_folder])
def test_heads_of_a_model_that_says_them_itself_are_refused(tmp_path, writer):
    writer.write(made.model(), str(tmp_path))
    with pytest.raises(InputError, match=r"found #heads=4, which is only for Google's checkpoints"):
        checkpoints.open_model(f"{tmp_path}#heads=4")


@pytest.mark.parametrize("writer", [native_format, huggingface_folder])
def test_a_remote_folder_is_read(tmp_path, writer):
    writer.write(made.model(), str(tmp_path / "model"))
    for path in (tmp_path / "model").rglob("*"):
        if path.is_file():
            storage.write(f"memory://{tmp_path.name}/{path.relative_to(tmp_path)}", path.read_bytes())
    read = checkpoints.open_model(f"memory://{tmp_path.name}/model")
    assert read.tokenizer.sha256 == made.model().tokenizer.sha256
    assert list(read.networks) == ["generator", "discriminator"]


def test_a_path_without_a_model_says_what_is_there_and_what_is_expected(tmp_path):
    with pytest.raises(InputError, match=r"none: found nothing; expected a workdir .* Hugging Face .* TensorFlow 1"):
        checkpoints.open_model(str(tmp_path / "none"))
    with pytest.raises(InputError, match="found an empty folder"):
        checkpoints.open_model(str(tmp_path))
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(InputError, match=r"found notes\.txt"):
        checkpoints.open_model(str(tmp_path))


def test_all_weights_of_the_wrong_size_are_listed_and_a_long_list_is_cut(tmp_path):
    native_format.write(made.model(), str(tmp_path))
    path = str(tmp_path / "model.safetensors")
    tensors = {name: array[..., :-1] for name, array in tensor_files.read(path).items()}
    tensor_files.write(path, tensors)
    with pytest.raises(InputError, match=r"do not fit the sizes next to them:\n(  - .*\n){8}  … and \d+ more$"):
        checkpoints.open_model(str(tmp_path))


def test_missing_and_foreign_weights_are_listed(tmp_path):
    native_format.write(made.model(), str(tmp_path))
    path = str(tmp_path / "model.safetensors")
    tensors = dict(tensor_files.read(path))
    tensors["generator_head/scale"] = tensors.pop("generator_head/bias")
    tensor_files.write(path, tensors)
    with pytest.raises(
        InputError,
        match=r"generator_head/bias: is missing.*\n.*generator_head/scale: is not a parameter of this network",
    ):
        checkpoints.open_model(str(tmp_path))


def test_what_is_given_in_place_of_a_folder_is_named(tmp_path):
    for name, advice in (("model.safetensors", ", give the folder that it is in"), ("notes", "")):
        (tmp_path / name).write_text("a")
        with pytest.raises(InputError, match=f"{name}: found a file{advice}; expected a workdir"):
            checkpoints.open_model(str(tmp_path / name))
    with pytest.raises(InputError, match=r"found nothing; if it is a model on huggingface\.co, nothing is downloaded"):
        checkpoints.open_model("google/electra-small-discriminator")
    with pytest.raises(InputError, match=r"^foo://a/b: foo:// cannot be used"):
        checkpoints.open_model("foo://a/b")


@pytest.mark.parametrize("spare", [1, 3])
def test_rows_of_a_word_table_without_a_piece_are_kept(tmp_path, spare):
    export.write(made.model(), str(tmp_path / "whole"), "huggingface")
    for network in ("generator", "discriminator"):
        folder = tmp_path / "whole" / network
        (folder / "tokenizer.json").unlink()
        (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in made.vocabulary(64 - spare)))
        (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer", "do_lower_case": true}')
    model = checkpoints.open_model(str(tmp_path / "whole"))
    assert [note for note in model.notes if note.startswith(f"tokenizer: {spare} row")]
    text = ["ab [spare row 63] cd"]
    own = tokenizer.load(tmp_path / "whole" / "discriminator")
    assert model.tokenizer.encode(text)[0].tolist() == own.encode(text)[0].tolist()
    export.write(model, str(tmp_path / "again"), "huggingface")
    again = checkpoints.open_model(str(tmp_path / "again"))
    assert again.tokenizer.sha256 == model.tokenizer.sha256
    assert again.vocabulary_size == again.tokenizer.vocabulary_size == 64
