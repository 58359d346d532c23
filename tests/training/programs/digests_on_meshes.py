"""Prints how many different digests an array has on several meshes, and whether they are that of one device."""

import json

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from electra_jax.training import partitioning
from electra_jax.training.array_digests import digests

array = np.random.default_rng(0).standard_normal((16, 8, 24)).astype(np.float32)
found = set()
for sizes in ((8, 1, 1), (1, 8, 1), (2, 2, 2), (1, 2, 4)):
    mesh = partitioning.make_mesh(sizes)
    for spec in ((), ("data",), (None, "fsdp", "tensor"), (("data", "fsdp"), None, "tensor")):
        found.add(digests([jax.device_put(array, NamedSharding(mesh, PartitionSpec(*spec)))])["0"])
print(json.dumps([len(found), found == {digests([array])["0"]}]))
