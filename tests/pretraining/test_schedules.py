import jax
import jax.numpy as jnp
import numpy as np
import pytest

from electra_jax.pretraining.schedules import parse, value_at


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0:2", {0: 2, 7: 2}),
        ("10:4,20:8", {0: 4, 10: 4, 15: 6, 20: 8, 99: 8}),
        ("linear 10:4,20:8", {15: 6}),
        ("cosine 10:4,20:8,30:0", {0: 4, 15: 6, 12: 4 + 4 * (1 - np.cos(0.2 * np.pi)) / 2, 20: 8, 25: 4, 99: 0}),
        ("step 0:50,10:5,20:1", {0: 50, 9: 50, 10: 5, 19: 5, 20: 1, 99: 1}),
        ("step 10:5", {0: 5, 10: 5}),
    ],
)
def test_values_at_between_before_and_after_the_points(text, expected):
    traced = jax.jit(lambda step: value_at(parse(text), step))
    for step, value in expected.items():
        assert float(traced(jnp.int32(step))) == pytest.approx(value, rel=1e-6), step


def test_the_largest_value_is_known():
    assert parse("0:0.15,5:0.4,9:0.2").largest == 0.4


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("quadratic 0:1", "'quadratic' is no kind of schedule, expected linear, cosine, step"),
        ("0:1,5", "'5', expected STEP:VALUE"),
        ("0:1,x:2", "'x:2', expected STEP:VALUE"),
        ("0:nan", "'0:nan', expected STEP:VALUE"),
        ("0:-1", "'0:-1', expected STEP:VALUE with numbers of 0 or more"),
        ("5:1,5:2", "expected steps that increase"),
    ],
)
def test_a_schedule_that_cannot_be_read_is_explained(text, says):
    with pytest.raises(ValueError, match=says):
        parse(text)
