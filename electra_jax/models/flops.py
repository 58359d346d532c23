"""Floating-point operations of a model: matrix products only, a multiply-add counted as two.

Table look-ups count nothing and the backward pass twice the forward pass, as is usual now. The paper counts otherwise:
see `paper_training_flops`.
"""

from collections.abc import Mapping

from electra_jax.models.encoder import EncoderConfig

# Operations of one element as the paper counts them (Google's `flops_computation.py`).
_SOFTMAX, _DROPOUT, _ACTIVATION, _LAYER_NORM = 5, 4, 8, 5
# Share of positions at which the paper counts a word head, whatever share is masked: 20 of 128.
_PAPER_HEAD_POSITIONS = 0.15625


def encoder_flops(config: EncoderConfig, length: int) -> float:
    """Forward operations of one encoder on one row, without a head."""
    hidden = config.hidden_size
    projections = 2 * (4 * hidden * hidden + 2 * hidden * config.feed_forward_size)
    attention = 2 * 2 * length * hidden
    project = 2 * config.embedding_size * hidden if config.embedding_size != hidden else 0
    return length * (config.layers * (projections + attention) + project)


def masked_language_model_flops(config: EncoderConfig, length: int, slots: int) -> float:
    """Forward operations of an encoder with its word head at `slots` positions, on one row."""
    return encoder_flops(config, length) + word_head_flops(config, slots)


def word_head_flops(config: EncoderConfig, positions: int) -> float:
    """Forward operations of a word head at some positions."""
    return positions * 2 * config.embedding_size * (config.hidden_size + config.vocabulary_size)


def electra_flops(
    config: EncoderConfig, generator_config: EncoderConfig, length: int, slots: int, corrected: int = 0
) -> float:
    """Forward operations of generator and discriminator on one row.

    Args:
      config: sizes of the discriminator.
      generator_config: sizes of the generator.
      length: positions in a row.
      slots: positions at which the generator predicts words.
      corrected: positions at which the discriminator predicts words too, in the hybrid objective.
    """
    discriminator_head = length * 2 * (config.hidden_size**2 + config.hidden_size)
    return (
        masked_language_model_flops(generator_config, length, slots)
        + encoder_flops(config, length)
        + discriminator_head
        + word_head_flops(config, corrected)
    )


def training_flops(forward_flops: float) -> float:
    """Forward and backward: the backward pass has two products for each one of the forward pass."""
    return 3 * forward_flops


def paper_training_flops(networks: Mapping[str, EncoderConfig], length: int, rows: int) -> float:
    """Operations of a training run as the paper counts them, to compare with its tables.

    Backward counts as much as forward, the look-up of a word as a product with the complete table, and element-wise
    operations count too (ELECTRA paper, appendix on FLOPs; Google's `flops_computation.py`).

    Args:
      networks: by their heads, "words", "replaced" or both joined by "+": the generator and the discriminator, or a
        masked language model.
      length: positions in a row.
      rows: rows in the complete run, steps × batch size.
    """
    return 2 * rows * length * sum(_paper_flops(config, length, head) for head, config in networks.items())


def _paper_flops(config: EncoderConfig, length: int, head: str) -> float:
    """Forward operations of one network for one position."""
    hidden, inner, width, words = (
        config.hidden_size,
        config.feed_forward_size,
        config.embedding_size,
        config.vocabulary_size,
    )
    products = 8 * hidden**2 + 4 * length * hidden + 4 * hidden * inner
    attention = 3 * hidden + (_SOFTMAX + _DROPOUT + 1) * length * config.heads
    outputs = 2 * (hidden + _DROPOUT * hidden + hidden) + _LAYER_NORM * hidden + _LAYER_NORM
    layers = config.layers * (products + attention + outputs + (_ACTIVATION + 1) * inner)

    embeddings = 2 * width * words + 2 * width + (_LAYER_NORM + _DROPOUT) * width
    if width != hidden:
        embeddings += 2 * hidden * width + hidden
    operations: float = layers + embeddings
    for name in head.split("+"):
        if name == "replaced":
            operations += 2 * hidden**2 + (_ACTIVATION + 1) * hidden + 2 * hidden
        else:
            word_head = 2 * hidden * width + (_ACTIVATION + _LAYER_NORM + 1) * width + (2 * width + _SOFTMAX) * words
            operations += _PAPER_HEAD_POSITIONS * word_head
    return operations
