"""A tokenizer whose pieces are in many scripts, and texts that are hard to divide."""

import random

from electra_jax.text.tokenizers import wordpiece
from electra_jax.text.tokenizers.tokenizer import SPECIAL_PIECES

# Letters with and without accents, case and compositions; scripts with and without blanks; digits, marks, symbols.
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789éèñçåüøœßıſÿđжабвгдёйαβγσςωάאבגשابتثक्षमिไทยกาᄒ\u1161ᆫ東京日本語カがﬁ½²™€😀👍🏽𝔘𠀀"
MARKS = "\u0301\u0308\u0323\u030a\u3099\u05b8\u0650\u0e31\u093f\u094d"
PUNCTUATION = ".,!?;:'\"-_()[]{}<>|~`^$+=*&%#@/\\«»“”„–—…¿¡、。！？・٪؟।"
BLANKS = " \t\n\r\u00a0\u2003\u2028\u3000\u1680\u200b\u00ad\ufeff\u0000\u0007\ufffd\x1c\x85"
OTHER = "ÀÉÑÇÅÜØŒẞİǄΣΆЁЖ한국어텍스트豈ﷺ㎏ÅΩ\ue000\U0001d15e\u0378\U000e0041\U0010ffff`´῾;ʼn"


def tokenizer(**casing):
    """A tokenizer of WordPiece; its pieces are of one to three letters."""
    draw = random.Random(0)
    alphabet = sorted(set(LETTERS + MARKS + OTHER))
    pieces = dict.fromkeys([*SPECIAL_PIECES, *PUNCTUATION])
    for letter in alphabet:
        pieces |= dict.fromkeys([letter] if draw.random() < 0.9 else [])
        pieces |= dict.fromkeys([f"##{letter}"] if draw.random() < 0.9 else [])
    for _ in range(3000):
        word = "".join(draw.choices(alphabet, k=draw.choice((2, 2, 3))))
        pieces |= {draw.choice(("", "##")) + word: None}
    options = {"lowercase": True, "strip_accents": True, "add_special_pieces": False} | casing
    vocabulary = [piece for piece in pieces if piece.strip() == piece and piece.isprintable() and piece]
    if options["lowercase"]:
        vocabulary = [piece for piece in vocabulary if piece == piece.lower() or piece in SPECIAL_PIECES]
    if options["strip_accents"]:
        kept = wordpiece.Rules(lowercase=True, strip_accents=True).normalizer()
        vocabulary = [
            piece
            for piece in vocabulary
            if piece in SPECIAL_PIECES
            or kept.normalize_str(piece.removeprefix("##")).replace(" ", "") == piece.removeprefix("##")
        ]
    return wordpiece.from_vocabulary("\n".join(vocabulary), "made", **options)


def texts(count, seed=0):
    """So many texts: of letters and marks of all kinds, and of any characters at all."""
    draw = random.Random(seed)
    plain, mixed = LETTERS[:26] + "  ", LETTERS + MARKS + PUNCTUATION + BLANKS + OTHER
    found = []
    for number in range(count):
        length = draw.choice((0, 1, 3, 10, 40, 40, 250))
        match number % 4:
            case 0:
                found.append("".join(draw.choices(plain, k=length)))
            case 1:
                found.append("".join(draw.choices(mixed + plain * 4, k=length)))
            case 2:
                found.append("".join(draw.choices(mixed, k=length)))
            case 3:
                found.append("".join(chr(any_character(draw)) for _ in range(length)))
    return found


def any_character(draw):
    """The code of any character but halves of surrogate pairs, the lower planes more often."""
    while True:
        code = draw.randrange(draw.choice((0x250, 0x3000, 0x10000, 0x30000, 0x110000)))
        if not 0xD800 <= code < 0xE000:
            return code
