import jax.numpy as jnp
import numpy as np

from electra_jax.training.diagnosis import module_norms


def test_norms_are_of_modules_and_of_each_stacked_layer():
    tree = {
        "generator": {"layers": {"kernel": jnp.array([[3.0, 0.0], [5.0, 12.0]]), "bias": jnp.array([[4.0], [0.0]])}},
        "embeddings": {"words": {"table": jnp.array([[1.0, 2.0], [2.0, 4.0]])}, "zero": jnp.zeros(3)},
        "bias": jnp.array(-2.0),
    }
    norms = module_norms(tree)
    assert set(norms) == {"generator/layers", "embeddings/words", "embeddings/zero", "bias"}
    np.testing.assert_allclose(norms["generator/layers"], [5.0, 13.0])
    np.testing.assert_allclose([norms["embeddings/words"], norms["embeddings/zero"], norms["bias"]], [5.0, 0.0, 2.0])


def test_norm_of_parameters_that_ran_away_is_finite():
    np.testing.assert_allclose(module_norms({"kernel": jnp.array([3e30, 4e30])})["kernel"], 5e30, rtol=1e-6)
    assert np.isnan(module_norms({"kernel": jnp.array([1.0, jnp.nan])})["kernel"])
