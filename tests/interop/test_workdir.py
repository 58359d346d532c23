"""Weights out of a workdir: the right checkpoint, without optimizer, under the names of the parts."""

import json
import shutil

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from electra_jax import storage
from electra_jax.config.files import recorded
from electra_jax.errors import InputError, MismatchError
from electra_jax.interop import checkpoints
from electra_jax.interop import workdir as interop_workdir
from electra_jax.interop.tensor_map import flatten
from electra_jax.models.electra import MaskedLanguageModel
from electra_jax.training.checkpoint import Checkpoints
from electra_jax.training.checkpoint_record import Progress
from electra_jax.training.multihost.cluster import Cluster
from electra_jax.training.recent_updates import nothing_yet
from electra_jax.training.state import TrainState
from tests.interop import made, peer
from tests.interop.made_run import pair_of, quicktest, write_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A workdir of ELECTRA with checkpoints 10 and 20, and the parameters at step 1."""
    workdir = tmp_path_factory.mktemp("runs") / "electra"
    params = peer.random_params(pair_of(quicktest()))
    write_run(workdir, quicktest(), params)
    return workdir, params


def test_a_workdir_is_read_at_its_newest_checkpoint(run):
    workdir, params = run
    model = checkpoints.open_model(str(workdir))
    assert (model.discriminator, model.generator) == pair_of(quicktest())
    assert (model.step, model.origin) == (20, "electra_jax run electra")
    assert model.sources == ("package:shakespeare.txt",)
    assert model.tokenizer.sha256 == made.tokenizer().sha256
    assert all(type(leaf) is np.ndarray for leaf in jax.tree.leaves(model.params))
    expected = jax.tree.map(lambda leaf: np.asarray(jnp.asarray(leaf) * 20), params)
    assert jax.tree.structure(model.params) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, model.params, expected)


def test_a_checkpoint_and_the_folder_of_checkpoints_are_found(run):
    workdir, _ = run
    assert interop_workdir.find(f"{workdir}/checkpoints/10") == (str(workdir), 10)
    assert interop_workdir.find(f"{workdir}/checkpoints/") == (str(workdir), None)
    assert interop_workdir.find(f"{workdir}/tokenizer") is None
    assert interop_workdir.find(str(workdir.parent)) is None
    older = checkpoints.open_model(f"{workdir}/checkpoints/10")
    newer = checkpoints.open_model(f"{workdir}/checkpoints")
    assert (older.step, newer.step) == (10, 20)
    table = "embeddings/word_embeddings"
    np.testing.assert_allclose(2 * flatten(older.params)[table], flatten(newer.params)[table], rtol=1e-6)


def test_a_checkpoint_that_is_not_there_is_refused(run, tmp_path):
    workdir, _ = run
    with pytest.raises(InputError, match=r"no checkpoint 15; found \[10, 20\]"):
        interop_workdir.read(str(workdir), 15)
    shutil.copytree(workdir, tmp_path / "young", ignore=shutil.ignore_patterns("10", "20"))
    with pytest.raises(InputError, match="no checkpoint yet"):
        interop_workdir.read(str(tmp_path / "young"))


def test_a_masked_language_model_is_read_as_a_generator_alone(tmp_path):
    config = quicktest()
    config.objective.name = "mlm"
    encoder, _ = pair_of(config)
    params = peer.random_params((encoder, encoder))
    params = {"embeddings": params["embeddings"], "encoder": params["generator"], "head": params["generator_head"]}
    row = jax.ShapeDtypeStruct((1, 8), jnp.int32)
    shapes = jax.eval_shape(MaskedLanguageModel(encoder).init, jax.random.key(0), row, row, row, row)["params"]
    assert jax.tree.structure(nn.unbox(shapes)) == jax.tree.structure(params)
    write_run(tmp_path / "mlm", config, params, steps=(1,))
    model = checkpoints.open_model(str(tmp_path / "mlm"))
    assert (model.discriminator, model.generator) == (None, encoder)
    jax.tree.map(np.testing.assert_array_equal, model.params["generator"], params["encoder"])
    jax.tree.map(np.testing.assert_array_equal, model.params["generator_head"], params["head"])


def test_a_checkpoint_that_is_not_of_its_config_is_refused(run, tmp_path):
    shutil.copytree(run[0], tmp_path / "other")
    path = tmp_path / "other" / "config.json"
    fields = json.loads(path.read_text())
    fields["model"]["layers"] = 3
    path.write_text(json.dumps(fields))
    with pytest.raises(
        MismatchError, match=r"checkpoint 20 does not fit the config next to it:\n  - discriminator/layers/"
    ):
        checkpoints.open_model(str(tmp_path / "other"))


def damage(checkpoint):
    for path in (checkpoint / "state").rglob("d/*"):
        path.write_bytes(path.read_bytes()[:10])


def test_a_damaged_checkpoint_is_passed_over_or_refused_by_name(run, tmp_path):
    workdir = shutil.copytree(run[0], tmp_path / "damaged")
    damage(workdir / "checkpoints" / "20")
    model = checkpoints.open_model(str(workdir))
    assert model.step == 10
    assert "checkpoint 20 is damaged (" in model.notes[0]
    with pytest.raises(MismatchError, match="checkpoints/20: is damaged"):
        checkpoints.open_model(f"{workdir}/checkpoints/20")
    damage(workdir / "checkpoints" / "10")
    with pytest.raises(MismatchError, match=r"(?s)checkpoints/20: is damaged.*checkpoints/10: is damaged"):
        checkpoints.open_model(str(workdir))
    assert {path.name for path in (workdir / "checkpoints").iterdir()} == {"10", "20"}


def test_weights_with_a_flipped_bit_are_not_read(run, tmp_path):
    workdir = shutil.copytree(run[0], tmp_path / "flipped")
    path = max((workdir / "checkpoints" / "20" / "state").rglob("d/*"), key=lambda path: path.stat().st_size)
    content = bytearray(path.read_bytes())
    content[len(content) // 4] ^= 1
    path.write_bytes(content)
    with pytest.raises(MismatchError, match="checkpoints/20: is damaged"):
        checkpoints.open_model(f"{workdir}/checkpoints/20")


def test_names_that_are_no_steps_are_passed_over(run, tmp_path):
    workdir = shutil.copytree(run[0], tmp_path / "odd")
    for name in ("²", "٣", "007", "30.damaged", "40.orbax-checkpoint-tmp"):
        (workdir / "checkpoints" / name).mkdir()
    assert checkpoints.open_model(str(workdir)).step == 20


@pytest.mark.parametrize("content", ["{", json.dumps({"task": "pretraining"}), "[]"])
def test_an_unreadable_config_is_refused(run, tmp_path, content):
    shutil.copytree(run[0], tmp_path / "bad")
    (tmp_path / "bad" / "config.json").write_text(content)
    with pytest.raises(InputError, match=r"bad/config\.json"):
        checkpoints.open_model(str(tmp_path / "bad"))


def test_older_runs_may_lack_fields():
    fields = json.loads(quicktest().to_json_best_effort())
    fields["data"] = {"tokenizer": {"vocabulary_size": 64}, "sources": []}
    assert interop_workdir._sizes(recorded(fields, "config.json")) == pair_of(quicktest())


def test_a_run_in_a_bucket_is_read_like_a_local_one(object_store, run):
    workdir, params = run
    for path in workdir.rglob("*"):
        if path.is_file() and "checkpoints" not in path.parts:
            storage.write(f"gs://bucket/electra/{path.relative_to(workdir)}", path.read_bytes())
    opened = Checkpoints("gs://bucket/electra/checkpoints", keep_last=3, keep_every_steps=0, cluster=Cluster())
    for step in (10, 20):
        arrays = jax.tree.map(jnp.asarray, params)
        optimizer = optax.sgd(1e-3).init(arrays)
        state = TrainState(jnp.int32(step), arrays, optimizer, {"loss": jnp.zeros(2)}, nothing_yet(2))
        opened.save(state, Progress(step, 0.0))
    opened.close()
    # As a kill leaves it.
    storage.remove("gs://bucket/electra/checkpoints/20/commit_success.txt")
    model = checkpoints.open_model("gs://bucket/electra/")
    assert (model.step, model.origin) == (10, "electra_jax run electra")
    jax.tree.map(np.testing.assert_array_equal, model.params, params)
    assert interop_workdir.find("gs://bucket/electra/checkpoints/10") == ("gs://bucket/electra", 10)
    assert interop_workdir.find("gs://bucket/electra/tokenizer") is None


def test_a_checkpoint_is_found_from_within_its_workdir(run, monkeypatch):
    monkeypatch.chdir(run[0])
    assert interop_workdir.find("checkpoints/10") == (".", 10)
    assert checkpoints.open_model("checkpoints/10").origin == "electra_jax run electra"
