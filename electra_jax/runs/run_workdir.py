"""The directory of a run, and its config.json, which records the config."""

import contextlib
import dataclasses
from collections.abc import Iterator
from typing import Any

from electra_jax import foreign_json, ownership, storage
from electra_jax.config import identity
from electra_jax.errors import InputError, MismatchError
from electra_jax.runs.run_options import RunOptions
from electra_jax.training.multihost import shared_storage
from electra_jax.training.run_context import RunContext

_LOCK = "lock.json"


class Workdir:
    """A run's directory: made by its first start, and opened again by the same config only.

    Attributes:
      path: path of the directory.
    """

    def __init__(self, context: RunContext, options: RunOptions) -> None:
        """Reads and writes nothing before `opened`."""
        self.path = context.workdir
        self._context, self._cluster, self._options = context, context.cluster, options

    @contextlib.contextmanager
    def opened(self, fields: dict[str, Any]) -> Iterator[RunContext]:
        """Opens the workdir in process 0, once all have read what they need of it, and checks that all see the same.

        While the block runs, process 0 owns the workdir, unless the run is only evaluated; the context that the block
        gets tells if it lost it.

        Args:
          fields: the config as nested plain values, which config.json records.

        Raises:
          InputError: the directory cannot be written, belongs to something else or to another process, holds no run to
            evaluate, or a process does not see what process 0 wrote.
          MismatchError: it belongs to a run with another config.
        """
        self._cluster.barrier("the opening of the workdir")
        with contextlib.ExitStack() as resources:
            self._cluster.from_first(lambda: self._open(fields, resources))
            self._check_shared()
            yield self._context

    def _check_shared(self) -> None:
        if not shared_storage.appears(lambda: storage.exists(self._config_path)):
            raise InputError(
                f"--workdir={self.path}: {self._cluster.name()} does not see what {self._cluster.name(0)} wrote there; "
                "use storage that all hosts share"
            )

    @property
    def _complaint(self) -> str:
        return (
            f"--workdir={self.path}: another run works there ({{owner}}). Wait for it, stop it, or give another "
            "--workdir."
        )

    @property
    def _config_path(self) -> str:
        return storage.join(self.path, "config.json")

    def _open(self, fields: dict[str, Any], resources: contextlib.ExitStack) -> None:
        """Compares the fields with what is recorded; if the run is to be trained, owns the workdir and records them."""
        try:
            if storage.is_file(self.path):
                raise InputError(f"--workdir={self.path}: is a file, expected a folder of a run, or a new one")
            if storage.exists(self._config_path):
                fix = "restore the file, or give another --workdir"
                recorded = foreign_json.read_as(dict[str, Any], self._config_path, fix)
                self._compare(recorded, fields)
                fields = identity.with_recorded_casing(recorded, fields)
            elif any(name != _LOCK and not name.startswith(storage.ACCESS_CHECK) for name in storage.names(self.path)):
                raise InputError(
                    f"--workdir={self.path}: is not empty and holds no config.json, so it is not the workdir of a run"
                )
            elif self._options.evaluates:
                raise InputError(f"--workdir={self.path}: no run to evaluate there")
            if not self._options.evaluates:
                storage.make_directory(self.path)
                note, stop = self._context.line.print, self._context.stop
                owns = resources.enter_context(ownership.owned(self.path, _LOCK, self._complaint, note, stop))
                self._context = dataclasses.replace(self._context, owns_workdir=owns)
                storage.write_json(self._config_path, fields | {"fingerprint": identity.fingerprint(fields)})
        except (OSError, ValueError) as error:
            raise InputError(f"--workdir={self.path}: cannot be used: {error}") from error

    def _compare(self, recorded: dict[str, Any], fields: dict[str, Any]) -> None:
        """Raises MismatchError if fields have changed that must not."""
        recorded.pop("fingerprint", None)
        allowed = {name.removeprefix("config.") for name in self._options.allowed_changes}
        changes = [
            change
            for change in identity.difference(recorded, fields)
            if change.split(":")[0].removeprefix("config.") not in allowed
        ]
        if changes:
            raise MismatchError(
                f"{self.path} belongs to a run with another config:\n"
                + "\n".join(f"  {change}" for change in changes)
                + "\nGive another --workdir, or the old values; or name the fields in --allow_config_change."
            )
