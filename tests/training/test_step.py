import jax
import numpy as np

from tests.running import run_program


def run(trainer, state, steps):
    """The state after some steps, and the metrics of each."""
    seen = []
    with trainer.placed():
        step = trainer.compile()
        batches = trainer.job.training_batches(int(state.step))
        for _ in range(steps):
            state, metrics = step(state, trainer.put(next(batches)), trainer.root_key)
            seen.append(jax.device_get(metrics))
    return jax.device_get(state), seen


def test_a_step_is_a_function_of_state_batch_and_key(make_trainer):
    trainer = make_trainer()
    first, _ = run(trainer, trainer.initial_state(), 6)
    second, _ = run(trainer, trainer.initial_state(), 6)
    jax.tree.map(np.testing.assert_array_equal, first, second)
    assert int(first.step) == 6


def test_the_seed_changes_the_draws(make_trainer):
    first, _ = run(make_trainer(seed=1), make_trainer().initial_state(), 1)
    second, _ = run(make_trainer(seed=2), make_trainer().initial_state(), 1)
    assert first.metrics["parity_loss"][0] != second.metrics["parity_loss"][0]


def test_metrics_add_up_between_logged_steps_and_then_reset(make_trainer):
    trainer = make_trainer(log_every_steps=3)
    _, seen = run(trainer, trainer.initial_state(), 5)
    assert [metrics["loss"][1] for metrics in seen] == [1, 2, 3, 1, 2]
    assert [metrics["parity_loss"][1] for metrics in seen] == [32, 64, 96, 32, 64]


def test_googles_schedule_gives_the_first_update_the_rate_of_step_1(make_trainer):
    trainer = make_trainer(schedule="warmup_times_decay")
    before = jax.device_get(trainer.initial_state())
    after, _ = run(trainer, trainer.initial_state(), 1)
    # Step 1 of 20, of which 2 are warm-up; biases do not decay; 0.1 / sqrt(0.001) without bias correction.
    expected = 0.01 * (19 / 20) * (1 / 2) * 3.1622777
    np.testing.assert_allclose(np.abs(after.params["bias"] - before.params["bias"]), expected, rtol=1e-3)


def test_the_loss_falls(make_trainer):
    trainer = make_trainer(steps=200, log_every_steps=1, learning_rate=0.05)
    _, seen = run(trainer, trainer.initial_state(), 150)
    assert seen[-1]["loss"][0] < 0.5 * seen[0]["loss"][0]


def test_gradients_may_be_normalised_and_clipped_on_each_device():
    assert run_program("tests.training.programs.per_device_gradients", devices=2).endswith("as expected\n")
