"""How many floating-point operations a model needs: matrix products only, a multiply-add counted as two.

Table look-ups count nothing and the backward pass twice the forward pass, as is usual now; the paper's own script
counts look-ups as dense products and the backward pass once, so its figures differ (docs say by how much).
"""

from electra_jax.models.encoder import EncoderConfig


def encoder_flops(config: EncoderConfig, length: int) -> float:
    """Forward operations of one encoder on one row, without head."""
    hidden = config.hidden_size
    projections = 2 * (4 * hidden * hidden + 2 * hidden * config.feed_forward_size)
    attention = 2 * 2 * length * hidden
    project = 2 * config.embedding_size * hidden if config.embedding_size != hidden else 0
    return length * (config.layers * (projections + attention) + project)


def masked_language_model_flops(config: EncoderConfig, length: int, slots: int) -> float:
    """Forward operations of an encoder with its word head at `slots` positions, on one row."""
    head = 2 * config.embedding_size * (config.hidden_size + config.vocabulary_size)
    return encoder_flops(config, length) + slots * head


def electra_flops(config: EncoderConfig, generator_config: EncoderConfig, length: int, slots: int) -> float:
    """Forward operations of generator and discriminator on one row."""
    discriminator_head = length * 2 * (config.hidden_size**2 + config.hidden_size)
    return (
        masked_language_model_flops(generator_config, length, slots)
        + encoder_flops(config, length)
        + discriminator_head
    )


def training_flops(forward_flops: float) -> float:
    """Forward and backward: two products with the weights' size behind each one in front."""
    return 3 * forward_flops
