"""The compile cache: where it lies, and what becomes of a damaged entry."""

import jax
import jax.numpy as jnp
import pytest
from jax._src import compilation_cache

from electra_jax.errors import InputError
from electra_jax.training.compile_cache import CompiledPrograms, use_compile_cache


@pytest.fixture
def fresh_cache():
    """JAX without a cache, whose settings are restored."""
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    compilation_cache.reset_cache()
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def run_program():
    """Compiles and runs a program; returns how many came from the cache."""
    jax.clear_caches()
    with CompiledPrograms() as programs:

        @jax.jit
        def cached_in_test(x):
            return jnp.tanh(x @ x).sum()

        cached_in_test(jnp.ones((8, 8))).block_until_ready()
    return programs.from_cache


def entries(directory):
    return sorted(path for path in directory.iterdir() if path.name.startswith("jit_cached_in_test-"))


def test_a_damaged_entry_is_replaced(fresh_cache, tmp_path, caplog):
    use_compile_cache(str(tmp_path), "unused")
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    run_program()
    (entry,) = entries(tmp_path)
    whole = entry.read_bytes()
    entry.write_bytes(whole[: len(whole) // 2])
    run_program()
    assert "jit_cached_in_test is damaged" in caplog.text
    assert len(entries(tmp_path)[0].read_bytes()) > len(whole) // 2
    assert run_program() > 0
    assert caplog.text.count(" is damaged ") == 1


def test_an_address_reaches_jax_as_it_is(fresh_cache, object_store):
    use_compile_cache("workdir", "gs://bucket/run")
    assert jax.config.jax_compilation_cache_dir == "gs://bucket/run/compiled"
    use_compile_cache("gs://bucket/cache", "unused")
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    run_program()
    assert any(name.startswith("cache/jit_cached_in_test-") for name in object_store.names("bucket"))
    assert run_program() > 0


def test_a_local_cache_may_begin_with_a_tilde(fresh_cache, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    use_compile_cache("~/compiled", "unused")
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "compiled")


def test_an_address_that_jax_cannot_reach_is_refused():
    with pytest.raises(InputError, match=r"config.compile_cache: found memory://x, expected a local path or"):
        use_compile_cache("memory://x", "unused")
