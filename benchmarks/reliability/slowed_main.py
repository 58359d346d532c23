"""`electra_jax.main` that lingers in a phase: `python -m benchmarks.reliability.slowed_main PHASE FILE SECONDS FLAGS…`.

FILE appears when the phase begins. Compiling is not slowed down but compiles for as long as it takes; the other phases
wait at their beginning, as a slow disk or a slow network would make them.
"""

import pathlib
import sys
import time
from collections.abc import Callable
from typing import Any

PHASES = (
    "importing", "joining", "preparing", "restoring", "compiling", "first step", "training", "evaluating", "saving",
    "last save", "probe", "reporting",
)  # fmt: skip
_STEP = 10  # From which on a run is interrupted in the phases that come again and again.


def main() -> None:
    """Slows the phase down, then runs the command."""
    phase, file, seconds = sys.argv[1], pathlib.Path(sys.argv[2]), float(sys.argv[3])
    sys.argv[:] = ["electra_jax.main", *sys.argv[4:]]

    lingered: list[str] = []

    def linger(*_: Any, **__: Any) -> None:
        if not lingered:
            lingered.append(phase)
            file.touch()
            if phase != "compiling":
                time.sleep(seconds)

    slow_down(phase, linger)
    from electra_jax import main as program

    program.run()


def slow_down(phase: str, linger: Callable[..., None]) -> None:
    """Calls `linger` at the beginning of a phase."""
    if phase in ("importing", "joining"):
        # Only what loads quickly: the phase is the loading of the rest.
        from electra_jax import main as program
        from electra_jax.training.multihost import session

        if phase == "importing":
            _before(program, "main", linger)
        else:
            _before(session.Session, "joined", linger)
        return
    from electra_jax.finetuning.probe import Probe
    from electra_jax.runs import final_report
    from electra_jax.text.dataset import writer
    from electra_jax.training import loop
    from electra_jax.training.checkpoint import Checkpoints
    from electra_jax.training.recorder import Recorder
    from electra_jax.training.trainer import Trainer

    late = lambda self, step, *_: linger() if step >= _STEP else None  # noqa: E731
    places: dict[str, tuple[Any, str, Callable[..., None]]] = {
        "preparing": (writer, "ensure", linger),
        "restoring": (Checkpoints, "restore_newest", linger),
        "compiling": (Trainer, "compile", linger),
        "first step": (Recorder, "stepped", linger),
        "training": (Recorder, "stepped", late),
        "evaluating": (loop, "evaluate", lambda _, state, **__: linger() if state.step >= _STEP else None),
        "saving": (Checkpoints, "save", linger),
        "last save": (Checkpoints, "finish", linger),
        "probe": (Probe, "_run", linger),
        "reporting": (final_report, "_write", linger),
    }
    _before(*places[phase])


def _before(owner: Any, name: str, call: Callable[..., None]) -> None:
    """Makes `owner.name` call something first."""
    original = getattr(owner, name)

    def replaced(*arguments: Any, **named: Any) -> Any:
        call(*arguments, **named)
        return original(*arguments, **named)

    setattr(owner, name, replaced)


if __name__ == "__main__":
    main()
