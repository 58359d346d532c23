"""Models out of the workdirs of our own runs: the weights alone, on whatever machine."""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np

from electra_jax.errors import InputError, MismatchError
from electra_jax.interop import tokenizer_files
from electra_jax.interop.model import Model, in_float32

_CHECKPOINTS = "checkpoints"
# The masked language model has one network, which is a generator at full size.
_MLM_PARTS = (("embeddings", "embeddings"), ("generator", "encoder"), ("generator_head", "head"))


def find(path: str) -> tuple[str, int | None] | None:
    """The workdir, and the step if the path names one; None if the path is not in a workdir.

    Args:
      path: a workdir, its folder of checkpoints, or one checkpoint.
    """
    path = os.path.normpath(path)
    if _is_workdir(path):
        return path, None
    parent, name = os.path.split(path)
    if name == _CHECKPOINTS and _is_workdir(parent):
        return parent, None
    workdir, folder = os.path.split(parent)
    if folder == _CHECKPOINTS and name.isdigit() and _is_workdir(workdir):
        return workdir, int(name)
    return None


def read(workdir: str, step: int | None = None) -> Model:
    """Reads the weights of a run's newest checkpoint, or of the one of a step.

    Raises:
      InputError: there is no such checkpoint, or config.json is no pre-training config.
      MismatchError: the checkpoint is damaged.
    """
    config = _config(workdir)
    directory = os.path.join(workdir, _CHECKPOINTS)
    # Orbax writes under another name and renames what is complete.
    steps = sorted(int(name) for name in os.listdir(directory) if name.isdigit())
    if not steps or (step is not None and step not in steps):
        raise InputError(f"{directory}: has no checkpoint {'yet' if step is None else step}; found {steps or 'none'}")
    step = steps[-1] if step is None else step
    params = _params(os.path.join(directory, str(step)))
    discriminator, generator = _sizes(config, workdir)
    if config.objective.name == "mlm":
        params = {ours: params[theirs] for ours, theirs in _MLM_PARTS if theirs in params}
    return Model(
        discriminator=discriminator,
        generator=generator,
        params=params,
        tokenizer=tokenizer_files.load_saved(os.path.join(workdir, "tokenizer")),
        step=step,
        origin=f"electra_jax run {os.path.basename(os.path.abspath(workdir))}",
        sources=tuple(map(str, config.data.sources)),
    )


def _is_workdir(path: str) -> bool:
    return os.path.isfile(os.path.join(path, "config.json")) and os.path.isdir(os.path.join(path, _CHECKPOINTS))


def _config(workdir: str) -> Any:
    import ml_collections

    path = os.path.join(workdir, "config.json")
    try:
        with open(path, encoding="utf-8") as file:
            fields = json.load(file)
        return ml_collections.ConfigDict(fields)
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from error


def _sizes(config: Any, workdir: str) -> tuple[Any, Any]:
    """Sizes of discriminator and generator; of a masked language model None and the encoder."""
    from electra_jax.pretraining.job import encoder_config

    try:
        encoder = in_float32(encoder_config(config, "cpu"))
        if config.objective.name == "mlm":
            return None, encoder
        return encoder, encoder.scaled(config.model.generator_width, config.model.generator_depth)
    except (AttributeError, KeyError, TypeError) as error:
        raise InputError(f"{workdir}/config.json: is not the config of a pre-training run ({error})") from error


def _params(checkpoint: str) -> dict[str, Any]:
    """The parameters of a checkpoint as NumPy arrays; nothing else of it is read."""
    import jax
    import orbax.checkpoint as ocp

    state = os.path.join(os.path.abspath(checkpoint), "state")
    handler = ocp.PyTreeCheckpointHandler()
    try:
        present = handler.metadata(_path(state)).tree["params"]
        wanted = {"params": jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), present)}
        as_numpy = {"params": jax.tree.map(lambda leaf: ocp.RestoreArgs(restore_type=np.ndarray), present)}
        arguments = ocp.args.PyTreeRestore(item=wanted, restore_args=as_numpy, partial_restore=True)
        return handler.restore(_path(state), args=arguments)["params"]
    except (ValueError, KeyError, TypeError, FileNotFoundError, OSError) as error:
        raise MismatchError(f"{checkpoint}: is damaged ({error}); name another checkpoint of the run") from error
    finally:
        handler.close()


def _path(directory: str) -> Any:
    from etils import epath

    return epath.Path(directory)
