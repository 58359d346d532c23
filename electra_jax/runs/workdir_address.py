"""Which addresses may be a run's directory. Imports no library: a mistyped flag answers at once."""

from electra_jax import storage
from electra_jax.errors import InputError

# Orbax writes the arrays of checkpoints to local paths and to Google Cloud Storage alone.
_PROTOCOL = "gs"
_PATTERN_CHARACTERS = "*?[]#"


def address_problem(workdir: str) -> str:
    """Why an address cannot be the directory of a run; "" if it can, and for local paths."""
    if not storage.is_remote(workdir):
        return ""
    protocol, _, place = workdir.partition("://")
    bucket, _, name = place.partition("/")
    if problem := storage.problem(workdir):
        return problem.removeprefix(f"{workdir}: ")
    if protocol != _PROTOCOL:
        return (
            f"found {protocol}://, expected a local path or gs://BUCKET/NAME; checkpoints can be written to no other "
            "address. Mount that storage, and give the path"
        )
    if not bucket or not name.strip("/"):
        return "expected a name within a bucket, as in gs://BUCKET/runs/NAME"
    if found := sorted(set(name) & set(_PATTERN_CHARACTERS)):
        return f"found {' '.join(found)}, which tools of object stores take for a pattern; give another name"
    return ""


def check_access(workdir: str) -> None:
    """Checks that a run may use the address of its directory, before anything slow.

    Raises:
      InputError: the bucket does not exist, or the run may not read, write, list or delete there.
    """
    try:
        storage.check_access(workdir)
    except OSError as error:
        raise InputError(
            f"--workdir={workdir}: cannot be used: {error}. Make the bucket, or give the account of this machine the "
            "roles Storage Object Admin and Storage Legacy Bucket Reader on it."
        ) from error
