"""A tokenizer described by sample text, as lines for the terminal."""

from collections.abc import Sequence

from electra_jax.text.tokenizers.tokenizer import Tokenizer

_SAMPLES = 10
_LONGEST_SAMPLE = 100  # Characters, to fit a terminal's line.
_LONGEST_TEXT = 48


def describe(tokenizer: Tokenizer, texts: Sequence[str]) -> list[str]:
    """Describes a tokenizer: its casing, tokens per word, unknown tokens, and ten samples of these texts.

    Args:
      tokenizer: any.
      texts: lines of text; the samples are spread over them evenly.

    Returns:
      Lines of at most about 100 characters; casing alone if the texts hold no word.
    """
    lines = [casing(tokenizer)]
    words = sum(len(text.split()) for text in texts)
    ids, _ = tokenizer.encode(texts)
    if not (words and len(ids)):
        return lines
    unknown = 100 * (ids == tokenizer.unknown_id).mean()
    characters = sum(map(len, texts))
    lines.append(
        f"{len(ids) / words:.2f} tokens per word, {characters / len(ids):.2f} characters per token, "
        f"{unknown:.3g} % unknown"
    )
    filled = [text for text in texts if text.strip()]
    chosen = (filled[(2 * n + 1) * len(filled) // (2 * _SAMPLES)] for n in range(_SAMPLES))
    return lines + [_sample(tokenizer, text) for text in dict.fromkeys(chosen)]


def casing(tokenizer: Tokenizer) -> str:
    """Describes what a tokenizer does to capitals and accents, found by trying."""
    seen = tokenizer.normalize("É")
    capitals = "kept" if seen in ("É", "E") else "lower-cased"
    accents = "kept" if seen in ("É", "é") else "stripped"
    return f"capitals {capitals}, accents {accents}"


def _sample(tokenizer: Tokenizer, text: str) -> str:
    """The beginning of a text and its pieces: "Il était là → ▁Il ▁était ▁là"."""
    text = " ".join(text.split())
    if len(text) > _LONGEST_TEXT:
        # Whole words, if that leaves any: not every language has blanks.
        text = text[:_LONGEST_TEXT].rpartition(" ")[0] or text[:_LONGEST_TEXT]
    ids, _ = tokenizer.encode([text])
    shown = f"{text} → {' '.join(tokenizer.pieces(ids))}"
    if len(shown) <= _LONGEST_SAMPLE:
        return shown
    shorter = text.rpartition(" ")[0] or text[: len(text) // 2]
    return _sample(tokenizer, shorter) if shorter else f"{shown[:_LONGEST_SAMPLE]}…"
