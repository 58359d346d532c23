from electra_jax.wording import duration, quantity


def test_durations_and_quantities_read_well():
    assert [duration(s) for s in (7, 425, 12000, 1e6)] == ["7 s", "7 min 05 s", "3 h 20 min", "12 days"]
    assert [quantity(n) for n in (950, 13_549_057, 3.42e11)] == ["950", "13.5 M", "342 G"]
