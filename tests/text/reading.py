"""Lines of all documents of a source, for tests of reading."""

from electra_jax.text.sources.text_sources import documents, pieces

WHOLE = 1 << 40  # Bytes in a piece, so that nothing is cut.


def lines_of(source, piece_bytes=WHOLE):
    """The lines of each document of a source, read piece by piece."""
    return [found.lines for piece in pieces(str(source), "", piece_bytes) for found in documents(piece, "")]
