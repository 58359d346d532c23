"""Kernels of attention on meshes of four devices, against plain attention on one; prints each that was compared."""

import dataclasses

import numpy as np

from electra_jax.training import partitioning
from tests.models.attention_cases import assert_equal, attended_in_microbatches, outcome, prepared


def main():
    module, *rest = prepared(4, 64, 128, 0.1, rows=8)
    kernel = dataclasses.replace(module, implementation="fused", interpret=True)
    with partitioning.placed_on(partitioning.make_mesh((2, 1, 2)), "fsdp_tp"):
        parts = attended_in_microbatches(kernel, *rest, 2)
    np.testing.assert_allclose(parts, outcome(module, *rest)["attended"], atol=2e-5)
    for implementation, rate in (("fused", 0.1), ("splash", 0.0)):
        module, *rest = prepared(4, 64, 128, rate)
        kernel = dataclasses.replace(module, implementation=implementation, interpret=True)
        expected = outcome(module, *rest)
        for sizes in ((4, 1, 1), (1, 2, 2)):
            with partitioning.placed_on(partitioning.make_mesh(sizes), "fsdp_tp"):
                assert_equal(outcome(kernel, *rest), expected)
            print(implementation, sizes)


if __name__ == "__main__":
    main()
