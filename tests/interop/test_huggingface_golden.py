"""Our networks against logits that transformers computed once (`make_golden.py`); needs neither it nor PyTorch."""

import numpy as np

from electra_jax.interop.huggingface import params_from_huggingface
from tests.interop import peer


def test_both_networks_repeat_golden_logits_of_transformers():
    generator, discriminator, inputs, golden = peer.load_golden()
    params = params_from_huggingface(generator, discriminator, **peer.heads(peer.TINY_PAIR))
    ours = peer.our_logits(peer.TINY_PAIR, params, inputs)
    assert peer.largest_difference(ours, golden, inputs) < 1e-5


def test_golden_rows_have_two_segments_and_padding_and_their_logits_differ():
    _, _, (_, segments, real), golden = peer.load_golden()
    assert segments.max() == 1
    assert real.min() == 0
    assert all(np.ptp(logits) > 0.5 for logits in golden)
