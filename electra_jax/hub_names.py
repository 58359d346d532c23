"""Names of repositories on huggingface.co, which other programs take for paths. Nothing is downloaded here."""

import re

from electra_jax import storage

_SITE = re.compile(r"https://(?:huggingface\.co|hf\.co)/(?:datasets/)?([^/?#]+/[^/?#]+).*")
# An owner and a name, or one of the oldest models, which have no owner.
_FILE = re.compile(r".*\.[a-z]+[0-9]?")
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def advice(path: str, kind: str = "model") -> str:
    """What to do if a path at which nothing is was meant as the name of a repository; "" if it cannot be one.

    Args:
      path: what the user gave.
      kind: "model" or "dataset".

    Returns:
      Text that continues a message, without a full stop.
    """
    page = _SITE.fullmatch(path)
    name = page[1] if page else path
    # Where the first folder exists, it is a path with a typing error.
    if not page and (_FILE.fullmatch(name) or storage.exists(name.partition("/")[0])):
        return ""
    if not _NAME.fullmatch(name):
        return ""
    option, prefix = ("", "") if kind == "model" else (" --repo-type=dataset", "datasets/")
    return (
        f"; if it is a {kind} on huggingface.co, nothing is downloaded here: fetch it with `hf download {name}{option} "
        f"--local-dir={storage.name(name)}` and give its path there, or, with huggingface_hub installed, give "
        f"hf://{prefix}{name}"
    )
