"""Trains tokenizers of a KIND, wordpiece or sentencepiece, on the lines of a FILE; prints their checksums."""

import pathlib
import sys

from electra_jax.text.tokenizers import sentencepiece_tokenizer, wordpiece


def main():
    kind, path = sys.argv[1:]
    lines = pathlib.Path(path).read_text("utf-8").splitlines()
    if kind == "wordpiece":
        for size in (300, 1024, 4096):
            print(wordpiece.train(lines, vocabulary_size=size, lowercase=True, strip_accents=True).sha256)
    else:
        options = dict(vocabulary_size=1500, lowercase=True, character_coverage=0.9995)
        for algorithm in ("unigram", "bpe"):
            print(sentencepiece_tokenizer.train(lines, kind=algorithm, **options).sha256)


if __name__ == "__main__":
    main()
