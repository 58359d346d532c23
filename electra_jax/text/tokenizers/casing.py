"""Whether a tokenizer lower-cases text and strips accents: decided from a sample of it, and found by trying."""

import dataclasses
import functools
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable

from electra_jax.config.schema import AUTO, BoolOrAuto

# From this share of the words on, accents of Latin letters are kept: English has them in 0.0 to 0.3 % of its words,
# Dutch in 0.5 %, Italian in 2.7 %, German in 7 %, French in 17 %, Vietnamese in 28 % and more.
_MOST_ACCENTS = 0.01
# The same for marks of any other script, and for dotless i: a foreign name in a thousand words is no reason.
_MOST_MARKS = 0.001
_EXAMPLES = 3

# What stripping would take from a script, completing "which …".
_MARKS = {
    "LATIN": "tell words apart",
    "CYRILLIC": "make letters of their own, such as й",
    "HANGUL": "stripping would take apart into letters",
    "HIRAGANA": "tell か from が",
    "KATAKANA": "tell カ from ガ",
}
_OTHER_MARKS = "are vowels, tones or other signs"
_DOTLESS = frozenset("ıİ")


@dataclasses.dataclass(frozen=True)
class Casing:
    """What a tokenizer does to capitals and accents.

    Attributes:
      lowercase: whether text is lower-cased.
      strip_accents: whether accents, and marks of any other script, are stripped.
      reason: why, in a line for the terminal; "" where nothing was decided.
    """

    lowercase: bool
    strip_accents: bool
    reason: str = ""


def decide(texts: Iterable[str], *, lowercase: BoolOrAuto, strip_accents: BoolOrAuto, kind: str) -> Casing:
    """Decides what is "auto" from a sample of the text.

    Lower-casing is what the published models do. It harms where a capital of i has a dot: "ILIK" and "ilik" are words
    of Turkish. Stripping harms where many words have marks, by which words differ.

    Args:
      texts: lines of text.
      lowercase, strip_accents: as in the config.
      kind: of the tokenizer, "wordpiece" or another, which keeps accents.
    """
    words = Counter(word for text in texts for word in unicodedata.normalize("NFC", text).split())
    # Chinese characters are words of their own, so that a line without blanks is not one word.
    total = max(1, sum(count * max(1, sum(map(_is_chinese, word))) for word, count in words.items()))
    reasons = []
    if lowercase == AUTO:
        dotless = [word for word, _ in words.most_common() if not _DOTLESS.isdisjoint(word)]
        share = sum(words[word] for word in dotless) / total
        lowercase = share < _MOST_MARKS
        reasons.append(
            "capitals lower-cased, as in the published models"
            if lowercase
            else f"capitals kept, since {_percent(share)} of the words have ı or İ ({_shown(dotless)})"
        )
    if strip_accents == AUTO:
        strip_accents, reason = _strips(words, total, lowercase, kind)
        reasons.append(reason)
    return Casing(lowercase, strip_accents, "; ".join(reasons))


def _strips(words: Counter[str], total: int, lowercase: bool, kind: str) -> tuple[bool, str]:
    if kind != "wordpiece":
        return False, "accents kept, as SentencePiece does"
    if not lowercase:
        return False, "accents kept, as Google's tokenizer does with capitals"
    marked: dict[str, list[str]] = {}
    for word, _ in words.most_common():
        for script in _scripts_with_marks(word):
            marked.setdefault(script, []).append(word)
    shares = {script: sum(map(words.__getitem__, found)) / total for script, found in marked.items()}
    kept = [script for script in shares if shares[script] >= (_MOST_ACCENTS if script == "LATIN" else _MOST_MARKS)]
    if not kept:
        return True, f"accents stripped, as {_percent(max(shares.values(), default=0.0))} of the words have any"
    script = max(kept, key=shares.__getitem__)
    what = "syllables" if script == "HANGUL" else "marks"
    return False, (
        f"accents kept, since {_percent(shares[script])} of the words have {what} of {script.capitalize()} script "
        f"({_shown(marked[script])}), which {_MARKS.get(script, _OTHER_MARKS)}"
    )


def small_letters(words: Counter[str]) -> dict[int, str]:
    """For `str.translate`: the small letters of I and İ in Turkish and Azeri, if these words are theirs."""
    dotless = sum(count for word, count in words.items() if not _DOTLESS.isdisjoint(word))
    return {ord("I"): "ı", ord("İ"): "i"} if dotless >= _MOST_MARKS * words.total() > 0 else {}


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _shown(words: list[str]) -> str:
    return ", ".join(word[:20] for word in words[:_EXAMPLES])


def _scripts_with_marks(word: str) -> set[str]:
    """The scripts whose letters of a word stripping would change, in Unicode's names: "LATIN"."""
    if word.isascii():
        return set()
    found = {_script_with_marks(letter) for letter in set(word)}
    if "COMBINING" in found:  # A mark that no composed letter has, such as the stress of Russian.
        found |= {unicodedata.name(letter, " ").split(" ")[0] for letter in word if letter.isalpha()}
    return found - {"", "COMBINING"}


@functools.cache
def _script_with_marks(letter: str) -> str:
    """The script of a letter that stripping would change: one with a mark, a mark, a syllable of Hangul; or ""."""
    parts = unicodedata.normalize("NFD", letter)
    kinds = [unicodedata.category(part) for part in parts]
    changes = "Mn" in kinds or (len(parts) > 1 and all(kind == "Lo" for kind in kinds))
    name = unicodedata.name(parts[0], "").split(" ")[0]
    return name if changes and kinds[0][0] in "LM" and name != "VARIATION" else ""


def _is_chinese(letter: str) -> bool:
    return "\u4e00" <= letter <= "\u9fff"


def observed(normalize: Callable[[str], str]) -> dict[str, bool]:
    """How a tokenizer treats capitals and accents: arguments of `tokenizer.load` for a vocab.txt.

    Args:
      normalize: the tokenizer's method of that name, which is tried.
    """
    seen = normalize("É")
    lowercase = seen in ("é", "e")
    return {"lowercase": lowercase, "strip_accents": lowercase and seen == "e"}


def described(normalize: Callable[[str], str]) -> str:
    """Says how a tokenizer treats capitals and accents; see `observed`."""
    seen = normalize("É")
    capitals = "kept" if seen in ("É", "E") else "lower-cased"
    accents = "kept" if seen in ("É", "é") else "stripped"
    return f"capitals {capitals}, accents {accents}"
