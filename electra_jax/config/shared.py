"""Config sections that pre-training and fine-tuning have in common."""

import dataclasses

from electra_jax.config.schema import (
    ABOVE_ZERO,
    FACTOR,
    FRACTION,
    NOT_NEGATIVE,
    Range,
    at_least,
    one_of,
    setting,
)

SHARDINGS = ("dp", "fsdp", "fsdp_tp")
DOWNLOAD_CACHE = "~/.cache/electra_jax"

_DEVICES = Range("a number of devices, or -1 for all that are left", low=-1, excluded=(0,))


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """The devices and what is sharded over them."""

    data: int = setting(-1, "devices that split the batch; -1 takes what the other axes leave", _DEVICES)
    fsdp: int = setting(1, "devices that split batch and weights", _DEVICES)
    tensor: int = setting(1, "devices that split heads, feed-forward units and words", _DEVICES)
    sharding: str = setting(
        "dp", "which weights are sharded: dp (none), fsdp, fsdp_tp; docs/sharding.md", one_of(*SHARDINGS)
    )
    rules: str = setting(
        "", 'changes to that, from logical to mesh axes: "embed:fsdp,mlp:tensor,vocab:none"; "" makes none'
    )
    shard_optimizer: bool = setting(
        False, "shard the optimizer state over data and fsdp too (ZeRO-1), for less memory", synonyms=("zero",)
    )
    slices: int = setting(1, "TPU slices, connected by a slower network; the data axis spans them", ABOVE_ZERO)


@dataclasses.dataclass(frozen=True)
class OptimizerFields:
    """Settings of Adam or Muon that do not depend on the length of the run."""

    learning_rate: float = setting(2e-4, "peak learning rate", ABOVE_ZERO, synonyms=("lr", "peak_learning_rate"))
    schedule: str = setting(
        "linear",
        'linear rises to the peak and falls to zero; "warmup_times_decay" is Google\'s',
        one_of("linear", "warmup_times_decay"),
        synonyms=("lr_schedule", "learning_rate_schedule"),
    )
    decay_power: float = setting(1.0, "exponent of the decay, (1 - step/steps)^power; 1 is linear", NOT_NEGATIVE)
    weight_decay: float = setting(
        0.01, "decoupled weight decay, not applied to LayerNorm and biases", NOT_NEGATIVE, synonyms=("wd",)
    )
    beta1: float = setting(0.9, "decay of Adam's first moment", FRACTION, synonyms=("adam_beta1",))
    beta2: float = setting(0.999, "decay of Adam's second moment", FRACTION, synonyms=("adam_beta2",))
    epsilon: float = setting(1e-6, "added to Adam's denominator", ABOVE_ZERO, synonyms=("eps", "adam_epsilon"))
    clip_norm: float = setting(
        1.0, "largest norm of the gradient over all parameters", ABOVE_ZERO, synonyms=("max_grad_norm", "grad_clip")
    )
    gradient_scope: str = setting(
        "global",
        'losses and clipping over the whole batch; "per_device" normalises and clips on each device, as Google on TPUs',
        one_of("global", "per_device"),
    )
    layer_decay: float = setting(
        1.0, "factor of the learning rate from a layer to the one below; 1 moves all alike", FACTOR
    )
    top_layer_exponent: int = setting(1, "exponent of that decay in the top layer; 2 is Google's", one_of(1, 2))


@dataclasses.dataclass(frozen=True)
class DivergenceConfig:
    """Which updates are skipped, and when a run goes back; those that are not finite are always skipped."""

    spike_deviations: float = setting(
        0.0,
        "an update is skipped if a loss or its gradient's norm is so many standard deviations above the mean of recent "
        "ones; 0 skips none",
        NOT_NEGATIVE,
    )
    max_skipped: int = setting(
        10,
        "skipped updates among a hundred, with more of which the run goes back to a checkpoint from before them and "
        "passes over the batches since",
        Range("0 to 63", low=0, high=63),
        unit="updates",
    )
    rollbacks: int = setting(3, "how often it goes back before it ends with exit code 76", at_least(0))


@dataclasses.dataclass(frozen=True)
class ComputationFields:
    """How the encoder is computed, whatever its size."""

    dropout_rate: float = setting(0.1, "dropout of embeddings and layer outputs", FRACTION, synonyms=("dropout",))
    attention_dropout_rate: float = setting(0.1, "dropout of attention weights", FRACTION)
    attention: str = setting(
        "auto",
        "implementation: the fastest that computes what is asked for, or plain, fused, splash, cudnn; docs/tpu.md",
        one_of("auto", "plain", "fused", "splash", "cudnn"),
        free=True,
    )
    saved_activations: str = setting(
        "all",
        'activations kept for the backward pass; "products", then "layer_inputs", take less memory',
        one_of("all", "products", "layer_inputs"),
        free=True,
        synonyms=("remat", "gradient_checkpointing"),
    )
    unrolled_layers: int = setting(
        0, "layers in one turn of the loop: more run faster; 0 is all on TPU, 1 elsewhere", at_least(0), free=True
    )
    compute_dtype: str = setting(
        "auto",
        "auto is bfloat16 on TPU and GPU, float32 on CPU; parameters and losses are float32",
        one_of("auto", "float32", "bfloat16"),
        synonyms=("dtype", "precision"),
    )


def seed(reason: str) -> int:
    """The field of a root seed."""
    return setting(42, reason, NOT_NEGATIVE)


def accumulation() -> int:
    """The field for gradient accumulation."""
    return setting(
        1,
        "microbatches that a batch is worked through in (gradient accumulation); gradients stay equal",
        ABOVE_ZERO,
        free=True,
        synonyms=("gradient_accumulation_steps", "microbatches"),
    )


def compile_cache() -> str:
    """The field for compiled programs."""
    return setting(
        f"{DOWNLOAD_CACHE}/compiled",
        'compiled programs; "workdir" is the run\'s own; on a pod, gs://… or other shared storage',
        free=True,
    )


def download_cache() -> str:
    """The field for downloaded packages."""
    return setting(DOWNLOAD_CACHE, "where packages of pypi: sources are kept between runs", free=True)
