"""Pre-train ELECTRA-style text encoders with JAX and Flax."""

__version__ = "0.1.0"
