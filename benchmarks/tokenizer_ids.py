"""Our ids against transformers', for tokenizer folders that transformers writes, in many languages.

    python -m benchmarks.tokenizer_ids --sentences=FOLDER

FOLDER holds a text file LANGUAGE.txt for each language, a sentence a line. Tokenizers of all kinds are trained on half
of these sentences and written by transformers' `save_pretrained`; nothing is downloaded. Each folder is read by us, and
exported by us and opened by transformers. Prints a Markdown table of folders, sentences and differences, and ends with
exit code 1 if there is any.
"""

import json
import pathlib
import sys
import tempfile
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import tokenizers as library
from absl import app, flags
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers

from electra_jax.interop import tokenizer_files
from electra_jax.text.tokenizers import self_check, tokenizer

_SENTENCES = flags.DEFINE_string("sentences", None, "Folder of LANGUAGE.txt files.", required=True)
_PIECES = 8000
_BERT = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_ROBERTA = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
ADDED = ("[E1]", "<ent>", "東京都", "naïveté")


class Folder(NamedTuple):
    """How one tokenizer folder is made: the trained tokenizer, and the class and arguments that transformers gets."""

    trained: str
    cls: str
    arguments: Mapping[str, Any]
    added: tuple[str, ...] = ()
    without: tuple[str, ...] = ()  # Files that are deleted afterwards, as folders of older versions lack them.


_NAMES = dict(zip(("pad", "unk", "cls", "sep", "mask"), _BERT, strict=True))
_GENERAL = {f"{role}_token": piece for role, piece in _NAMES.items()}
_LIKE_ROBERTA = dict(
    pad_token="<pad>", unk_token="<unk>", cls_token="<s>", sep_token="</s>", mask_token="<mask>", bos_token="<s>"
)
FOLDERS: Mapping[str, Folder] = {
    "BERT uncased": Folder("wordpiece", "BertTokenizer", dict(do_lower_case=True)),
    "BERT cased": Folder("wordpiece", "BertTokenizer", dict(do_lower_case=False)),
    "BERT multilingual: uncased, accents kept": Folder(
        "wordpiece", "BertTokenizer", dict(do_lower_case=True, strip_accents=False)
    ),
    "BERT, Chinese characters off": Folder(
        "wordpiece", "BertTokenizer", dict(do_lower_case=False, tokenize_chinese_chars=False)
    ),
    "ELECTRA": Folder("wordpiece", "ElectraTokenizer", dict(do_lower_case=True)),
    "BERT from vocab.txt alone": Folder(
        "wordpiece", "BertTokenizer", dict(do_lower_case=False, strip_accents=True), without=("tokenizer.json",)
    ),
    "BERT with added tokens": Folder("wordpiece", "BertTokenizer", dict(do_lower_case=True), ADDED),
    "CamemBERT-like unigram": Folder("unigram", "PreTrainedTokenizerFast", _LIKE_ROBERTA),
    "unigram with added tokens": Folder("unigram", "PreTrainedTokenizerFast", _LIKE_ROBERTA, ADDED),
    "byte-level BPE": Folder("byte_level", "PreTrainedTokenizerFast", _LIKE_ROBERTA),
    "byte-fallback BPE": Folder("byte_fallback", "PreTrainedTokenizerFast", _LIKE_ROBERTA),
}


def _wordpiece(lines: list[str]) -> library.Tokenizer:
    made = library.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=False, strip_accents=False)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    # Twice: as it is and lower-cased, for folders of both kinds.
    both = [*lines, *(line.lower() for line in lines)]
    trainer = trainers.WordPieceTrainer(  # type: ignore[no-untyped-call]
        vocab_size=_PIECES, special_tokens=list(_BERT), show_progress=False
    )
    made.train_from_iterator(both, trainer)
    return made


def _marked(made: library.Tokenizer) -> library.Tokenizer:
    cls, sep = made.token_to_id("<s>"), made.token_to_id("</s>")
    made.post_processor = processors.RobertaProcessing(("</s>", sep), ("<s>", cls), add_prefix_space=False)
    return made


def _unigram(lines: list[str]) -> library.Tokenizer:
    made = library.Tokenizer(models.Unigram())
    made.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace(library.Regex(" {2,}"), " ")])
    made.pre_tokenizer = pre_tokenizers.Metaspace()
    made.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(  # type: ignore[no-untyped-call]
        vocab_size=_PIECES, special_tokens=list(_ROBERTA), unk_token="<unk>", show_progress=False
    )
    made.train_from_iterator(lines, trainer)
    return _marked(made)


def _byte_level(lines: list[str]) -> library.Tokenizer:
    made = library.Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(  # type: ignore[no-untyped-call]
        vocab_size=_PIECES,
        special_tokens=list(_ROBERTA),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    made.train_from_iterator(lines, trainer)
    return _marked(made)


def _byte_fallback(lines: list[str]) -> library.Tokenizer:
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    made = library.Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    trainer = trainers.BpeTrainer(  # type: ignore[no-untyped-call]
        vocab_size=_PIECES,
        special_tokens=[*_ROBERTA, *bytes_],
        limit_alphabet=1000,
        max_token_length=16,
        show_progress=False,
    )
    made.train_from_iterator([word for line in lines for word in line.split()], trainer)
    # Bytes are pieces of the model, which no text spells.
    described = json.loads(made.to_str())
    described["added_tokens"] = [piece for piece in described["added_tokens"] if piece["content"] in _ROBERTA]
    return _marked(library.Tokenizer.from_str(json.dumps(described)))


# Trains a tokenizer of each kind on lines of text.
TRAINED: Mapping[str, Callable[[list[str]], library.Tokenizer]] = {
    "wordpiece": _wordpiece,
    "unigram": _unigram,
    "byte_level": _byte_level,
    "byte_fallback": _byte_fallback,
}


def save(folder: Folder, trained: library.Tokenizer, path: pathlib.Path) -> None:
    """Writes a tokenizer folder with transformers."""
    import transformers

    if folder.trained == "wordpiece":
        made = getattr(transformers, folder.cls)(trained.get_vocab(), **folder.arguments)
    else:
        made = getattr(transformers, folder.cls)(tokenizer_object=trained, **folder.arguments)
    if folder.added:
        made.add_special_tokens({"additional_special_tokens": list(folder.added[:2])})
        made.add_tokens(list(folder.added[2:]))
    made.save_pretrained(path)
    if "tokenizer.json" in folder.without:
        vocabulary = sorted(trained.get_vocab().items(), key=lambda item: item[1])
        (path / "vocab.txt").write_text("".join(f"{piece}\n" for piece, _ in vocabulary), "utf-8")
    for name in folder.without:
        (path / name).unlink()


def differences(path: pathlib.Path, exported: pathlib.Path, lines: list[str]) -> tuple[list[str], list[str]]:
    """Lines to which we give other ids than transformers, and those to which transformers does with our export."""
    from transformers import AutoTokenizer

    ours, notes = tokenizer_files.load_beside(str(path))
    if ours is None:
        raise AssertionError(f"{path} has no tokenizer")
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    theirs = AutoTokenizer.from_pretrained(path)
    if len(theirs) != ours.vocabulary_size:
        raise AssertionError(f"{path}: {ours.vocabulary_size} pieces, {len(theirs)} in transformers")
    expected = theirs(lines, add_special_tokens=False).input_ids
    found = self_check.ids_of(tokenizer.load(path), lines)
    tokenizer_files.write_huggingface(ours, str(exported), 512)
    again = AutoTokenizer.from_pretrained(exported)(lines, add_special_tokens=False).input_ids
    return (
        [line for line, a, b in zip(lines, expected, found, strict=True) if a != b],
        [line for line, a, b in zip(lines, expected, again, strict=True) if a != b],
    )


def main(_: list[str]) -> None:
    """Prints the table."""
    texts = {
        path.stem: path.read_text("utf-8").rstrip("\n").split("\n")
        for path in sorted(pathlib.Path(_SENTENCES.value).glob("*.txt"))
    }
    lines = [line for of_language in texts.values() for line in of_language]
    lines += [f"x{piece} {piece}y {line}" for piece in ADDED for line in lines[::400]]
    sample = [line for of_language in texts.values() for line in of_language[::2]]
    trained = {kind: train(sample) for kind, train in TRAINED.items()}
    print("| folder | languages | sentences | other ids when read | other ids when exported |\n|---|---|---|---|---|")
    total = 0
    with tempfile.TemporaryDirectory() as scratch:
        for name, folder in FOLDERS.items():
            path = pathlib.Path(scratch, name.replace(" ", "_").replace(":", "").replace(",", ""))
            save(folder, trained[folder.trained], path)
            read, exported = differences(path, path.with_name(path.name + "_exported"), lines)
            print(f"| {name} | {len(texts)} | {len(lines):,} | {len(read)} | {len(exported)} |", flush=True)
            for line in [*read, *exported][:3]:
                print(f"  {line!r}", file=sys.stderr)
            total += len(read) + len(exported)
    sys.exit(1 if total else 0)


if __name__ == "__main__":
    app.run(main)
