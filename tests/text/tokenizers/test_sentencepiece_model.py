"""Reading and changing the bytes of a SentencePiece model."""

import io
import pathlib

import pytest
import sentencepiece

from electra_jax.text.tokenizers import sentencepiece_model

SHAKESPEARE = pathlib.Path(__file__).parents[2] / "data" / "shakespeare.txt"


def trained(**options):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SHAKESPEARE.read_text().splitlines()[:2000]),
        model_writer=model,
        **{"vocab_size": 200, "minloglevel": 2} | options,
    )
    return model.getvalue()


def processor(model):
    made = sentencepiece.SentencePieceProcessor()
    made.LoadFromSerializedProto(model)
    return made


def test_pieces_and_their_types_are_those_of_the_library():
    model = trained(user_defined_symbols=["<mask>"], control_symbols=["<pad>"], byte_fallback=True, vocab_size=500)
    library, ours = processor(model), sentencepiece_model.read(model)
    assert [piece for piece, _ in ours.pieces] == [library.id_to_piece(index) for index in range(len(library))]
    for index, (_, kind) in enumerate(ours.pieces):
        assert (kind == sentencepiece_model.CONTROL) == library.is_control(index)
        assert (kind == sentencepiece_model.UNKNOWN) == library.is_unknown(index)
    assert dict(ours.pieces)["<mask>"] == sentencepiece_model.USER_DEFINED


@pytest.mark.parametrize("kind", ["unigram", "bpe"])
def test_the_kind_is_found(kind):
    assert sentencepiece_model.read(trained(model_type=kind)).kind == kind


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, True),
        ({"normalization_rule_name": "identity"}, True),
        ({"split_by_whitespace": False, "vocab_size": 500}, False),
        ({"treat_whitespace_as_suffix": True}, False),
        ({"remove_extra_whitespaces": False}, False),
        ({"add_dummy_prefix": False}, False),
        ({"user_defined_symbols": ["of the"]}, False),
    ],
)
def test_words_stand_alone_where_nothing_crosses_a_blank(options, expected):
    assert sentencepiece_model.read(trained(**options)).splits_at_blanks == expected


def test_a_control_piece_is_not_found_in_text():
    model = trained(user_defined_symbols=["<mask>", "<other>"])
    before, mask = processor(model), processor(model).piece_to_id("<mask>")
    after = processor(sentencepiece_model.with_control_pieces(model, {mask}))
    assert mask in before.encode("a <mask>")
    assert mask not in after.encode("a <mask>")
    assert after.is_control(mask)
    text = "Shall I compare <other> thee to a summer's day"
    assert after.encode(text) == before.encode(text)
    assert sentencepiece_model.with_control_pieces(model, ()) == model
