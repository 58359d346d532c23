"""Extracted text in WARC files (ISO 28500), such as Common Crawl's .warc.wet.gz."""

from collections.abc import Iterable, Iterator

from electra_jax.errors import InputError

# A record is kept in memory; text of web pages ends at a few MB.
_LARGEST_RECORD_BYTES = 1 << 28
_LONGEST_HEADER_LINE = 1 << 16

# Records that hold text by themselves, and those that describe others.
_TEXT = ("conversion", "resource")
_DESCRIPTIONS = ("warcinfo", "metadata", "request", "revisit", "continuation")


def texts(chunks: Iterable[bytes], name: str) -> Iterator[str]:
    """Yields the text of each record that holds text, in order; the others describe it and are passed over.

    Args:
      chunks: the decompressed file.
      name: its path, which messages quote.

    Raises:
      InputError: it is no WARC file, is cut short, or holds pages as they were fetched, whose HTML is no text.
    """
    content = _Content(chunks, name)
    while True:
        line = content.line()
        while line in (b"\r\n", b"\n"):
            line = content.line()
        if not line:
            return
        content.record += 1
        if not line.startswith(b"WARC/"):
            raise content.error(
                f"found {line[:40]!r}, expected the header of a WARC record, which begins with WARC/1.0"
            )
        fields = _fields(content)
        length, kind = fields.get("content-length", ""), fields.get("warc-type", "")
        if not (length.isascii() and length.isdigit()) or int(length) > _LARGEST_RECORD_BYTES:
            raise content.error(
                f"found Content-Length {length!r}, expected at most {_LARGEST_RECORD_BYTES >> 20} MiB in bytes"
            )
        if kind in _DESCRIPTIONS:
            content.take(int(length))
            continue
        media = fields.get("content-type", "no Content-Type")
        if kind not in _TEXT or media.partition(";")[0].strip().lower() != "text/plain":
            raise content.error(
                f"found a {kind or 'record without WARC-Type'} of {media:.60}, expected text that was extracted: "
                "conversion records of text/plain, as in Common Crawl's .warc.wet.gz; extract the text of pages "
                "first, for example with trafilatura"
            )
        data = content.take(int(length))
        try:
            text = data.decode()
        except UnicodeDecodeError as error:
            address = fields.get("warc-target-uri", "no address")
            raise content.error(f"byte {error.start} of {address:.80} is not UTF-8, expected text in UTF-8") from error
        del data
        yield text


def _fields(content: "_Content") -> dict[str, str]:
    """The fields of a record's header, up to its blank line; names in lower case."""
    fields = {}
    while (line := content.line()).strip():
        name, _, value = line.decode("utf-8", "replace").partition(":")
        fields[name.strip().lower()] = value.strip()
    if not line:
        raise content.cut_short()
    return fields


class _Content:
    """The bytes of a file, by lines and by lengths; `record` counts its records from 1."""

    def __init__(self, chunks: Iterable[bytes], name: str) -> None:
        self._chunks, self._name = iter(chunks), name
        self._current, self._at = b"", 0
        self.record = 0

    def line(self) -> bytes:
        """The next line with its end; empty at the end of the file."""
        parts, size = [], 0
        while self._has_more():
            end = self._current.find(b"\n", self._at) + 1
            parts.append(self._current[self._at : end or len(self._current)])
            self._at += len(parts[-1])
            size += len(parts[-1])
            if size > _LONGEST_HEADER_LINE:
                raise self.error(f"found a line of more than {_LONGEST_HEADER_LINE:,} bytes, expected a WARC header")
            if end:
                break
        return b"".join(parts)

    def take(self, count: int) -> bytes:
        """The next so many bytes."""
        parts = []
        while count and self._has_more():
            parts.append(self._current[self._at : self._at + count])
            self._at += len(parts[-1])
            count -= len(parts[-1])
        if count:
            raise self.cut_short()
        return b"".join(parts)

    def _has_more(self) -> bool:
        while self._at == len(self._current):
            chunk = next(self._chunks, None)
            if chunk is None:
                return False
            self._current, self._at = chunk, 0
        return True

    def error(self, problem: str) -> InputError:
        """An error with the place of the current record."""
        return InputError(f"{self._name}, record {max(self.record, 1)}: {problem}.")

    def cut_short(self) -> InputError:
        """The error of a file that ends within a record."""
        return self.error("the file ends within this record; fetch it again")
