import io
import threading
import time

from electra_jax.progress import ProgressLine
from electra_jax.stop_signals import StopSignals
from electra_jax.training import loop
from electra_jax.training.hang_watch import HangWatch
from electra_jax.training.run_context import RunContext
from tests.training.stand_in import ParityJob

_MINUTES = 0.2 / 60


class StuckJob(ParityJob):
    """Takes long to read a batch."""

    def training_batches(self, start):
        for number, batch in enumerate(super().training_batches(start), start):
            time.sleep(0.6 if number == 3 else 0)
            yield batch


class Asked(StopSignals):
    """Keeps the requests."""

    def __init__(self):
        super().__init__()
        self.asked, self.was_asked = [], threading.Event()

    def request(self, name, *, at_once=False):
        self.asked.append((name, at_once))
        self.was_asked.set()


def test_stacks_of_all_threads_are_reported_once_and_the_run_ends(tmp_path, capsys):
    stop = Asked()
    with HangWatch(RunContext(str(tmp_path), stop=stop), _MINUTES, ends_run=True) as watch:
        watch.start()
        assert stop.was_asked.wait(10)
        time.sleep(0.3)
    ((headline, at_once),) = stop.asked
    assert "no update has ended for" in headline
    assert at_once
    written = (tmp_path / "hang_of_process_0.txt").read_text()
    assert written.startswith(headline)
    assert "test_stacks_of_all_threads_are_reported" in written
    assert written.partition("\n")[2] in capsys.readouterr().err


def test_progress_is_not_taken_for_a_hang(tmp_path):
    with HangWatch(RunContext(str(tmp_path)), _MINUTES, ends_run=False) as watch:
        watch.start()
        for _ in range(40):
            time.sleep(0.01)
            watch.beat()
        assert list(tmp_path.iterdir()) == []


def test_no_minutes_watch_nothing(tmp_path):
    with HangWatch(RunContext(str(tmp_path)), 0, ends_run=False) as watch:
        watch.start()
        time.sleep(0.05)
    assert list(tmp_path.iterdir()) == []


def test_loop_that_waits_for_a_batch_is_reported_and_goes_on(make_trainer, tmp_path, capsys):
    trainer = make_trainer(StuckJob(), steps=5, hang_minutes=_MINUTES)
    loop.train(trainer, RunContext(str(tmp_path), ProgressLine(io.StringIO())))
    assert "in training_batches" in (tmp_path / "hang_of_process_0.txt").read_text()
    assert (tmp_path / "checkpoints" / "5").exists()
    capsys.readouterr()
