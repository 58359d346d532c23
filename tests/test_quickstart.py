"""The quickstart's recipe at its own size, for some of its steps and on the shipped excerpt of Shakespeare."""

import pytest

from tests.running import learned, main

# The paper's weights, masks and optimizer, and the attention bias: the quickstart's plain ELECTRA.
PLAIN_ELECTRA = (
    "--config.objective.name=electra",
    "--config.objective.corrective_weight=0.0",
    "--config.objective.discriminator_weight=50.0",
    "--config.objective.schedules.mask_fraction=",
    "--config.optimizer.name=adam",
    "--config.optimizer.learning_rate=1e-3",
    "--config.optimizer.beta2=0.999",
    "--config.model.generator_depth=1.0",
    "--config.model.position_start=random",
    "--config.model.attention_bias=distance_decay",
)


def short_quickstart(directory, steps, *flags):
    """Runs the recipe; returns the scores of the last evaluation and the output."""
    workdir = directory / "run"
    printed = main(
        "--config=configs/quickstart.py",
        f"--workdir={workdir}",
        f"--config.data.directory={directory / 'data'}",
        "--config.data.sources=('tests/data/shakespeare.txt',)",
        f"--config.steps={steps}",
        f"--config.evaluation.every_steps={steps}",
        "--config.optimizer.warmup_steps=100",
        "--config.probe={}",
        *flags,
        XLA_FLAGS="",  # Hundreds of steps gain more from the compiler's passes than these take.
    )
    return learned(workdir)[-1], printed


@pytest.mark.slow
def test_the_recipe_detects_words_and_keeps_its_directions(tmp_path):
    scores, printed = short_quickstart(tmp_path, 600)
    assert scores["step"] == 600
    # 0.70, 0.73 and 16 when this was written; a full run comes to far more, docs/results.md.
    assert scores["eval/discriminator_auc"] > 0.6
    assert scores["eval/discriminator_auc_unigram"] > 0.65
    assert scores["eval/discriminator_rank"] > 12
    assert "has collapsed" not in printed


# test_collapse.py has the decision, from the figures of such runs.
@pytest.mark.slow
@pytest.mark.release
def test_plain_electra_of_this_size_collapses_with_a_warning(tmp_path):
    scores, printed = short_quickstart(tmp_path, 300, *PLAIN_ELECTRA)
    assert scores["eval/discriminator_rank"] < 0.05 * 128
    assert "Warning: The discriminator has collapsed: its hidden states use" in printed
    assert "--config.objective.name=hybrid" in printed
