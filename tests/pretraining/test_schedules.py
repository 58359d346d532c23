"""Schedules: values between, before and after their points, and messages for invalid ones."""

import jax
import numpy as np
import pytest

from electra_jax.pretraining.schedules import Schedule, parse, value_at


@pytest.mark.parametrize(
    ("text", "schedule"),
    [
        ("linear 0:50,10000:10", Schedule("linear", (0, 10_000), (50.0, 10.0))),
        ("0:0.4,8000:0.15", Schedule("linear", (0, 8_000), (0.4, 0.15))),
        (" cosine 5:1e-1 ", Schedule("cosine", (5,), (0.1,))),
        ("0:0.25,12.5%:0.2,100%:0.15", Schedule("linear", (0, 12, 100), (0.25, 0.2, 0.15))),
        ("step 0:2,1:3,9:1", Schedule("step", (0, 1, 9), (2.0, 3.0, 1.0))),
    ],
)
def test_points_are_read(text, schedule):
    assert parse(text, 100) == schedule


def test_the_largest_value_may_be_in_the_middle():
    assert parse("0:1,10:3,20:2", 100).largest == 3


@pytest.mark.parametrize(
    ("text", "values"),
    [
        # At 0, 10 (the first point), 15, 20, 25, 30 (the last point) and 99.
        ("linear 10:4,20:2,30:6", [4, 4, 3, 2, 4, 6, 6]),
        ("cosine 10:4,20:2,30:6", [4, 4, 3, 2, 4, 6, 6]),
        ("step 10:4,20:2,30:6", [4, 4, 4, 2, 2, 6, 6]),
        ("linear 10:4", [4] * 7),
        ("cosine 10:4", [4] * 7),
        ("step 10:4", [4] * 7),
    ],
)
def test_values_before_between_and_after_the_points(text, values):
    schedule = parse(text, 100)
    follow = jax.jit(lambda step: value_at(schedule, step))
    np.testing.assert_allclose([follow(step) for step in (0, 10, 15, 20, 25, 30, 99)], values, atol=1e-6)
    assert value_at(schedule, 15) == follow(15)


def test_a_cosine_is_flat_at_both_points():
    schedule = parse("cosine 0:0,100:1", 100)
    quarter = (1 - np.cos(np.pi / 4)) / 2
    np.testing.assert_allclose(
        [value_at(schedule, step) for step in (1, 25, 75, 99)], [0.000247, quarter, 1 - quarter, 0.999753], atol=1e-6
    )


def test_a_step_changes_at_its_point():
    schedule = parse("step 0:50,10:5", 100)
    assert [float(value_at(schedule, step)) for step in (9, 10)] == [50, 5]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cubic 0:1", "'cubic' is not a kind of schedule, expected linear, cosine, step"),
        ("linear", "'linear', expected STEP:VALUE"),
        ("linear 0", "'0', expected STEP:VALUE"),
        ("0:1,", "'', expected STEP:VALUE"),
        ("0.5:1", "'0.5:1', expected STEP:VALUE"),
        ("0:many", "'0:many', expected STEP:VALUE"),
        ("0:nan", "'0:nan', expected STEP:VALUE"),
        ("0:-1", "'0:-1', expected STEP:VALUE with numbers of 0 or more"),
        ("-1:1", "'-1:1', expected STEP:VALUE with numbers of 0 or more"),
        ("10:1,10:2", "'10:1,10:2', expected steps that increase"),
    ],
)
def test_a_bad_schedule_is_named_with_what_was_expected(text, message):
    with pytest.raises(ValueError, match=message.replace(".", r"\.")):
        parse(text, 100)
