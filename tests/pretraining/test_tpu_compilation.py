"""Sampling, compiled by the TPU's compiler, without a TPU."""

import jax
import jax.numpy as jnp
import pytest

from electra_jax.pretraining.corruption import sample_tokens, sample_tokens_by_gumbel

pytestmark = pytest.mark.tpu_compiler


def compiled(sample, device):
    def placed(shape, dtype):
        return jax.ShapeDtypeStruct(shape, dtype, sharding=jax.sharding.SingleDeviceSharding(device))

    key = placed((), jax.random.key(0).dtype)
    return jax.jit(sample).lower(key, placed((64, 19, 30522), jnp.float32)).compile()


@pytest.mark.parametrize("sample", [sample_tokens, sample_tokens_by_gumbel])
def test_scores_of_words_are_never_rounded_to_bfloat16(v5e_devices, sample):
    assert "bf16" not in compiled(sample, v5e_devices[0]).as_text()


def test_samples_need_no_copy_of_the_logits(v5e_devices):
    memory = compiled(sample_tokens, v5e_devices[0]).memory_analysis()
    assert memory.temp_size_in_bytes < memory.argument_size_in_bytes / 100
