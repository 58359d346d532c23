import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sklearn.metrics

from electra_jax.models import layers
from electra_jax.models.electra import Electra
from electra_jax.models.encoder import EncoderConfig
from electra_jax.pretraining import objectives
from electra_jax.pretraining.corruption import Masked, Row, SpecialTokens
from electra_jax.pretraining.objectives import (
    ElectraOutputs,
    Objective,
    area_under_curve,
    electra_loss,
    electra_metrics,
    electra_outputs,
    mlm_outputs,
    quotient,
    separation_histogram,
)

SPECIAL = SpecialTokens(pad=0, cls=2, sep=3, mask=4)
WORDS = 12
TOKENS_BxL = np.array([[2, 5, 6, 7, 8, 9, 3, 10, 11, 3, 0, 0], [2, 5, 5, 5, 3, 0, 0, 0, 0, 0, 0, 0]], np.int32)


class StandIn:
    """Both networks: the generator predicts one given word everywhere, and inputs are recorded."""

    def __init__(self, word=None, tokens_BxL=None):
        self.word, self.tokens_BxL, self.read = word, tokens_BxL, {}

    corrective = False

    def apply(self, variables, *inputs, method, row_positions_BxL=None, deterministic=True, microbatch=None, rngs=None):
        assert row_positions_BxL is None
        if method == "encode":
            *network, tokens_BxL, _, _ = inputs
            self.read[network[0] if network else "encoder"] = np.asarray(tokens_BxL)
            return jnp.asarray(tokens_BxL, jnp.float32)[..., None]
        if method == "detect":
            return jnp.zeros(inputs[0].shape[:2])
        _, positions_BxM = inputs
        answers = np.full(positions_BxM.shape, self.word)
        if self.tokens_BxL is not None:
            answers = np.take_along_axis(self.tokens_BxL, np.asarray(positions_BxM), 1)
        return 100.0 * jax.nn.one_hot(answers, WORDS)


def outputs_of(model, key=0, mask_fraction=0.4, **settings):
    objective = Objective(SPECIAL, mask_fraction=mask_fraction, **settings)
    return electra_outputs(model, objective, {}, jnp.asarray(TOKENS_BxL), jax.random.key(key), deterministic=True)


def used(outputs):
    """Mask of the used positions, bool [B, L]."""
    masked_BxL = np.zeros(TOKENS_BxL.shape, bool)
    for row, (positions_M, weights_M) in enumerate(
        zip(outputs.masked.positions_BxM, outputs.masked.weights_BxM, strict=True)
    ):
        masked_BxL[row, positions_M[weights_M > 0]] = True
    return masked_BxL


def test_a_sample_equal_to_the_original_counts_as_original():
    outputs = outputs_of(StandIn(tokens_BxL=TOKENS_BxL))
    assert used(outputs).sum() == 4 + 2
    np.testing.assert_array_equal(outputs.corrupted_BxL, TOKENS_BxL)
    assert not outputs.replaced_BxL.any()
    metrics = electra_metrics(outputs)
    assert quotient(metrics["generator_accuracy"]) == 1
    np.testing.assert_array_equal(metrics["replaced_fraction"], [0, 15])


def test_googles_masking_reaches_both_networks():
    """Positions that were drawn twice are fewer than slots; of two samples of one word, the mean is that word."""
    repeated = 0
    for key in range(20):
        model = StandIn(word=11)
        outputs = outputs_of(model, key, masking="with_replacement", kept_fraction=0.0)
        masked_BxL = used(outputs)
        repeated += int(outputs.masked.weights_BxM.sum()) - masked_BxL.sum()
        np.testing.assert_array_equal(model.read["generator"], np.where(masked_BxL, SPECIAL.mask, TOKENS_BxL))
        np.testing.assert_array_equal(outputs.corrupted_BxL, np.where(masked_BxL, 11, TOKENS_BxL))
        assert (
            not outputs_of(StandIn(word=11), key).masked.weights_BxM.sum()
            - used(outputs_of(StandIn(word=11), key)).sum()
        )
    assert repeated > 5


def test_the_way_of_sampling_can_be_chosen(monkeypatch):
    monkeypatch.setattr(
        objectives, "sample_tokens_by_gumbel", lambda key, logits, temperature, microbatch: logits.argmax(-1) * 0 + 7
    )
    outputs = outputs_of(StandIn(word=5), sampling="google_gumbel")
    np.testing.assert_array_equal(outputs.corrupted_BxL, np.where(used(outputs), 7, TOKENS_BxL))


def test_labels_say_where_the_sample_differs():
    for key in range(5):
        outputs = outputs_of(StandIn(word=5), key)
        masked_BxL = used(outputs)
        np.testing.assert_array_equal(outputs.corrupted_BxL, np.where(masked_BxL, 5, TOKENS_BxL))
        np.testing.assert_array_equal(outputs.replaced_BxL, masked_BxL & (TOKENS_BxL != 5))


def test_the_generator_reads_masks_and_the_discriminator_never_does():
    model = StandIn(word=11)
    outputs = outputs_of(model, kept_fraction=0.0)
    np.testing.assert_array_equal(model.read["generator"], np.where(used(outputs), SPECIAL.mask, TOKENS_BxL))
    assert (model.read["generator"] == SPECIAL.mask).any()
    assert not (model.read["discriminator"] == SPECIAL.mask).any()
    np.testing.assert_array_equal(model.read["discriminator"], outputs.corrupted_BxL)


def test_tokens_that_the_generator_could_read_are_replaced_too():
    model = StandIn(word=11)
    outputs = outputs_of(model, kept_fraction=1.0)
    np.testing.assert_array_equal(model.read["generator"], TOKENS_BxL)
    np.testing.assert_array_equal(outputs.corrupted_BxL, np.where(used(outputs), 11, TOKENS_BxL))


def test_temperature_reaches_the_sampler():
    def shares(temperature):
        drawn = [outputs_of(StandIn(word=11), key, temperature=temperature) for key in range(8)]
        return np.mean([np.asarray(outputs.corrupted_BxL)[used(outputs)] == 11 for outputs in drawn])

    assert shares(1.0) == 1
    assert shares(1000.0) < 0.5


def test_the_step_s_key_alone_decides():
    first, again, other = (outputs_of(StandIn(word=11), key) for key in (1, 1, 2))
    np.testing.assert_array_equal(first.corrupted_BxL, again.corrupted_BxL)
    assert (first.corrupted_BxL != other.corrupted_BxL).any()


# Two rows, three slots; the second row is padded and leaves a slot unused.
GIVEN = ElectraOutputs(
    row=Row(
        tokens_BxL=np.array([[2, 7, 8, 9, 3], [2, 7, 3, 0, 0]]),
        segments_BxL=np.zeros((2, 5), np.int32),
        document_ids_BxL=np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]]),
    ),
    masked=Masked(
        tokens_BxL=np.array([[2, 4, 8, 4, 3], [2, 4, 3, 0, 0]]),
        positions_BxM=np.array([[1, 2, 3], [1, 0, 2]]),
        targets_BxM=np.array([[2, 0, 1], [1, 2, 2]]),
        weights_BxM=np.array([[1.0, 1, 1], [1, 0, 0]]),
    ),
    generator_logits_BxMxV=np.array(
        [[[0.0, 0.5, 2.0], [1.0, -1.0, 0.0], [0.3, 0.2, 0.1]], [[0.0, 3.0, -1.0], [9.0, 9.0, 9.0], [5.0, 1.0, 1.0]]]
    ),
    corrupted_BxL=np.array([[2, 8, 8, 9, 3], [2, 6, 3, 0, 0]]),
    replaced_BxL=np.array([[False, True, False, False, False], [False, True, False, True, False]]),
    discriminator_logits_BxL=np.array([[-2.0, 1.5, 0.5, -0.5, -3.0], [-1.0, -0.25, 0.75, 9.0, -9.0]]),
    generator_hidden_BxLxD=np.zeros((2, 5, 1)),
    discriminator_hidden_BxLxD=np.zeros((2, 5, 1)),
)


def jnp_outputs(outputs):
    return jax.tree.map(jnp.asarray, outputs)


def test_generator_loss_is_the_mean_cross_entropy_of_used_slots():
    total = 0.0
    for logits, target in (([0, 0.5, 2], 2), ([1, -1, 0], 0), ([0.3, 0.2, 0.1], 1), ([0, 3, -1], 1)):
        total += np.log(np.exp(logits).sum()) - logits[target]
    metrics = electra_metrics(jnp_outputs(GIVEN))
    np.testing.assert_allclose(metrics["generator_loss"], [total, 4], rtol=1e-6)
    np.testing.assert_array_equal(metrics["generator_accuracy"], [3, 4])


def test_discriminator_loss_is_the_mean_over_all_real_tokens():
    total = 0.0
    for logit, label in ((-2, 0), (1.5, 1), (0.5, 0), (-0.5, 0), (-3, 0), (-1, 0), (-0.25, 1), (0.75, 0)):
        probability = 1 / (1 + np.exp(-logit))
        total -= np.log(probability if label else 1 - probability)
    np.testing.assert_allclose(electra_metrics(jnp_outputs(GIVEN))["discriminator_loss"], [total, 8], rtol=1e-6)


def test_accuracy_precision_recall_and_replaced_fraction_by_hand():
    # Flagged: 1.5 (replaced), 0.5, 0.75; replaced but not flagged: -0.25.
    metrics = electra_metrics(jnp_outputs(GIVEN))
    np.testing.assert_array_equal(metrics["discriminator_accuracy"], [5, 8])
    np.testing.assert_array_equal(metrics["discriminator_precision"], [1, 3])
    np.testing.assert_array_equal(metrics["discriminator_recall"], [1, 2])
    np.testing.assert_array_equal(metrics["replaced_fraction"], [2, 8])
    assert {metric.dtype for metric in metrics.values()} == {jnp.dtype("float32")}


def test_the_loss_is_the_weighted_sum_of_the_means():
    metrics = {"generator_loss": jnp.array([6.0, 4.0]), "discriminator_loss": jnp.array([2.0, 8.0])}
    assert electra_loss(Objective(SPECIAL), metrics) == 1.5 + 50 * 0.25
    objective = Objective(SPECIAL, generator_weight=2.0, discriminator_weight=10.0)
    assert electra_loss(objective, metrics) == 3 + 2.5


def test_a_quotient_of_nothing_is_zero():
    assert quotient(jnp.array([0.0, 0.0])) == 0


def padded(outputs, rows, columns):
    """The same outputs with rows and columns of padding, whose logits are random."""
    rng = np.random.default_rng(0)

    def pad(array, last):
        widths = [(0, rows), (0, last)] + [(0, 0)] * (array.ndim - 2)
        return np.pad(array, widths)

    length = outputs.replaced_BxL.shape[1]
    grown = jax.tree.map(lambda array: pad(array, columns if array.shape[1] == length else 0), outputs)
    logits_BxL = rng.normal(size=grown.discriminator_logits_BxL.shape)
    real_BxL = grown.row.document_ids_BxL > 0
    logits_BxMxV = grown.generator_logits_BxMxV.copy()
    logits_BxMxV[len(outputs.replaced_BxL) :] = rng.normal(size=logits_BxMxV[len(outputs.replaced_BxL) :].shape)
    return grown._replace(
        discriminator_logits_BxL=np.where(real_BxL, grown.discriminator_logits_BxL, logits_BxL),
        generator_logits_BxMxV=logits_BxMxV,
    )


@pytest.mark.parametrize(("rows", "columns"), [(3, 0), (0, 4), (2, 3)])
def test_padding_changes_no_metric(rows, columns):
    before = electra_metrics(jnp_outputs(GIVEN))
    after = electra_metrics(jnp_outputs(padded(GIVEN, rows, columns)))
    for name, metric in before.items():
        np.testing.assert_allclose(after[name], metric, rtol=1e-6, err_msg=name)


def test_sums_over_two_halves_are_the_sums_over_the_batch():
    full = electra_metrics(jnp_outputs(GIVEN))
    halves = [electra_metrics(jnp_outputs(jax.tree.map(lambda a, row=row: a[row : row + 1], GIVEN))) for row in (0, 1)]
    for name, metric in full.items():
        np.testing.assert_allclose(halves[0][name] + halves[1][name], metric, rtol=1e-6, err_msg=name)


def test_a_batch_of_nothing_but_padding_has_finite_losses():
    nothing = jax.tree.map(np.zeros_like, GIVEN)
    metrics = electra_metrics(jnp_outputs(nothing))
    assert electra_loss(Objective(SPECIAL), metrics) == 0
    assert all(np.isfinite(metric).all() for metric in metrics.values())


@pytest.mark.parametrize("shift", [0.0, 0.5, 3.0])
def test_area_under_the_curve_is_scikit_learn_s(shift):
    rng = np.random.default_rng(0)
    positives = rng.random((40, 100)) < 0.1
    logits = 2 * rng.normal(size=(40, 100)) + shift * positives
    weights = (rng.random((40, 100)) < 0.8).astype(np.float32)
    # Where the weight is 0, perfect predictions, which would inflate the area.
    logits = np.where(weights > 0, logits, np.where(positives, 15, -15))
    histogram = sum(
        separation_histogram(*map(jnp.asarray, half))
        for half in zip(*(np.split(a, 2) for a in (logits, positives, weights)), strict=True)
    )
    counted = weights > 0
    expected = sklearn.metrics.roc_auc_score(positives[counted], logits[counted])
    assert area_under_curve(np.asarray(histogram)) == pytest.approx(expected, abs=1e-3)
    assert abs(sklearn.metrics.roc_auc_score(positives.ravel(), logits.ravel()) - expected) > 0.01


def test_auc_of_equal_logits_and_of_one_class_is_a_half():
    logits, weights = jnp.full((1, 4), 0.3), jnp.ones((1, 4))
    for positives in ([True, False, False, True], [False] * 4, [True] * 4):
        assert area_under_curve(np.asarray(separation_histogram(logits, jnp.array([positives]), weights))) == 0.5


def test_auc_is_1_beyond_the_ends_of_the_histogram():
    logits, positives = jnp.array([[-100.0, -16.0, 16.0, 1e9]]), jnp.array([[False, False, True, True]])
    histogram = np.asarray(separation_histogram(logits, positives, jnp.ones((1, 4))))
    assert area_under_curve(histogram) == 1
    assert area_under_curve(histogram[::-1]) == 0
    np.testing.assert_array_equal(histogram.sum(1), [2, 2])


def test_mlm_metrics_by_hand():
    # Logits 100 for the word 5 and 0 for the eleven others: no loss where 5 was masked, 100 elsewhere.
    _, _, metrics = mlm_outputs(
        StandIn(word=5),
        Objective(SPECIAL, mask_fraction=0.4),
        {},
        jnp.asarray(TOKENS_BxL),
        jax.random.key(0),
        deterministic=True,
    )
    masked = used(outputs_of(StandIn(word=5)))
    right, count = (masked & (TOKENS_BxL == 5)).sum(), masked.sum()
    assert count == 6
    np.testing.assert_allclose(metrics["mlm_loss"], [100 * (count - right), count], rtol=1e-6)
    np.testing.assert_array_equal(metrics["mlm_accuracy"], [right, count])


def test_no_two_dropouts_of_a_step_share_a_key(monkeypatch):
    keys = set()
    bits = layers.dropout_bits

    def seen(words):
        keys.add(tuple(words.tolist()))
        return words

    def watched(key, shape, microbatch):
        words = jax.random.key_data(key)
        # Pure, since Flax allows no effects in the layers that it scans; the bits need its result, so it runs.
        words = jax.pure_callback(seen, jax.ShapeDtypeStruct(words.shape, words.dtype), words)
        return bits(jax.random.wrap_key_data(words), shape, microbatch)

    monkeypatch.setattr(layers, "dropout_bits", watched)
    config = EncoderConfig(
        vocabulary_size=WORDS, embedding_size=4, hidden_size=4, layers=2, heads=1, feed_forward_size=4, positions=12
    )
    model, objective = Electra(config, config), Objective(SPECIAL)
    abstract = jax.eval_shape(model.init, jax.eval_shape(lambda: jax.random.key(0)), *[TOKENS_BxL] * 4)
    params = jax.tree.map(lambda leaf: jnp.ones(leaf.shape), abstract)["params"]

    @jax.jit
    def step(key):
        return electra_outputs(model, objective, params, jnp.asarray(TOKENS_BxL), key, deterministic=False)

    jax.block_until_ready(step(jax.random.key(0)))
    # For each network: embeddings, and attention weights, attention and feed-forward of each layer.
    assert len(keys) == 2 * (1 + 3 * config.layers)
