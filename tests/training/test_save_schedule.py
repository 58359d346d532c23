from electra_jax.training.multihost.cluster import Cluster
from electra_jax.training.save_schedule import SaveSchedule


class FirstSays(Cluster):
    """A process that receives what process 0 decides, and counts how often it asks."""

    def __init__(self, answer):
        self.answer, self.asked = answer, 0

    def from_first(self, make, seconds=0.0):
        self.asked += 1
        return self.answer


def due(schedule, steps, minutes=lambda step: 0.0):
    found = []
    for step in range(steps + 1):
        due.now = 60 * minutes(step)
        if schedule.is_due(step):
            found.append(step)
    return found


def schedule(every_steps=1000, every_minutes=0.0, log_every_steps=10, cluster=None):
    due.now = 0.0
    return SaveSchedule(every_steps, every_minutes, log_every_steps, cluster or Cluster(), clock=lambda: due.now)


def test_multiples_of_the_interval_are_due_and_the_start_is_not():
    assert due(schedule(every_steps=15), 40) == [15, 30]


def test_minutes_are_counted_from_the_last_save_and_seen_at_logged_steps():
    assert due(schedule(every_minutes=2.5), 70, minutes=lambda step: step / 10) == [30, 60]
    assert due(schedule(every_steps=25, every_minutes=2.5), 60, minutes=lambda step: step / 10) == [25, 50]


def test_process_0_decides_and_is_asked_at_logged_steps_alone():
    first = FirstSays(True)
    assert due(schedule(every_minutes=1e9, cluster=first), 30) == [10, 20, 30]
    assert first.asked == 3
    assert due(schedule(cluster=first), 30) == []
    assert first.asked == 3


def test_clock_that_is_set_back_saves_no_less_than_every_so_many_steps():
    assert due(schedule(every_steps=20, every_minutes=1.0), 40, minutes=lambda step: -step) == [20, 40]
