"""Pre-train ELECTRA-style text encoders with JAX and Flax, fine-tune them, and predict: `electra_jax.load(PATH)`."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from electra_jax.inference.predictor import load as load

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def __getattr__(name: str) -> Any:
    # Imported when it is used: JAX takes most of a second.
    if name == "load":
        from electra_jax.inference.predictor import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
