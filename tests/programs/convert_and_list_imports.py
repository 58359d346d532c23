"""Runs `electra_jax.convert` with the arguments, then prints which heavy libraries it imported."""

import runpy
import sys

if __name__ == "__main__":
    try:
        runpy.run_module("electra_jax.convert", run_name="__main__")
    finally:
        print("imported:", [name for name in ("tensorflow", "torch", "transformers") if name in sys.modules])
