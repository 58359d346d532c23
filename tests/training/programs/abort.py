"""Aborts as JAX does when the coordination service is gone: HOST:PORT of process 0."""

import os
import sys

from electra_jax.training.multihost import coordinator_loss

coordinator_loss.exit_if_lost(sys.argv[1])
os.abort()
