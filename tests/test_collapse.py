"""A discriminator counts as collapsed by its rank or its recall; others and healthy ones are left alone."""

import pytest

from electra_jax import collapse


@pytest.mark.parametrize(
    "scores",
    [
        {},
        {"mlm_loss": 4.0, "encoder_rank": 1.0},  # There is no discriminator.
        {"discriminator_rank": 20.5, "discriminator_recall": 0.158},
        {"discriminator_rank": 6.4, "discriminator_recall": 0.01},  # At the bounds.
    ],
)
def test_a_healthy_discriminator_has_no_symptoms(scores):
    assert collapse.symptoms(scores, 128) == []
    assert collapse.warning(scores, 128) == ""


def test_few_directions_are_a_symptom():
    (symptom,) = collapse.symptoms({"discriminator_rank": 2.44, "discriminator_recall": 0.2}, 128)
    assert "2.4 of 128 directions" in symptom
    assert "healthy is 6 or more" in symptom


def test_finding_nothing_is_a_symptom():
    (symptom,) = collapse.symptoms({"discriminator_rank": 30.0, "discriminator_recall": 0.007}, 128)
    assert symptom == "it finds 0.7% of the replaced words (healthy is 1% or more)"


def test_the_warning_joins_both_with_advice():
    text = collapse.warning({"discriminator_rank": 2.4, "discriminator_recall": 0.0}, 128)
    assert text.startswith("The discriminator has collapsed: its hidden states use 2.4 of 128 directions")
    assert " and it finds 0.0% of the replaced words" in text
    assert "--config.objective.name=hybrid" in text
