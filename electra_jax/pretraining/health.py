"""Scores of representations and of detection on held-out text, which show a collapse.

A small discriminator may collapse: its states lie in a narrow cone with few directions in use, and it flags nothing.
Losses hardly show it; the cosine of two random tokens, the effective rank and the recall do.
"""

import jax
import jax.numpy as jnp
import numpy as np

Moments = dict[str, jax.Array]


def moments(hidden_BxLxD: jax.Array, weights_BxL: jax.Array) -> Moments:
    """Sums over the hidden states of a batch, to be added up over batches for `geometry`.

    Args:
      hidden_BxLxD: hidden states.
      weights_BxL: float32, 1 on tokens that count and 0 on others.

    Returns:
      float32 sums: "count", a scalar; "unit_D", states scaled to length 1; "sum_D", states; "outer_DxD", outer
      products of states.
    """
    hidden_BxLxD = hidden_BxLxD.astype(jnp.float32)
    lengths_BxLx1 = jnp.linalg.norm(hidden_BxLxD, axis=-1, keepdims=True)
    weighted_BxLxD = hidden_BxLxD * weights_BxL[..., None]
    return {
        "count": weights_BxL.sum(),
        "unit_D": (weighted_BxLxD / jnp.maximum(lengths_BxLx1, 1e-12)).sum((0, 1)),
        "sum_D": weighted_BxLxD.sum((0, 1)),
        "outer_DxD": jnp.einsum("bld,ble->de", weighted_BxLxD, hidden_BxLxD),
    }


def geometry(sums: dict[str, np.ndarray]) -> tuple[float, float]:
    """Mean cosine of two different tokens, and effective rank, from the sums of `moments`.

    The rank is the participation ratio of the covariance's eigenvalues, (Σ λ)² / Σ λ²: the width for states that vary
    in all directions alike, 1 for states on a line.

    Returns:
      cosine and rank; 0 and 0 with fewer than two states.
    """
    count = float(sums["count"])
    if count < 2:
        return 0.0, 0.0
    unit_D, mean_D, outer_DxD = (np.asarray(sums[name], np.float64) for name in ("unit_D", "sum_D", "outer_DxD"))
    mean_D = mean_D / count
    cosine = (unit_D @ unit_D - count) / (count * (count - 1))
    covariance_DxD = outer_DxD / count - np.outer(mean_D, mean_D)
    squares = np.square(covariance_DxD).sum()
    return float(cosine), float(np.trace(covariance_DxD) ** 2 / squares) if squares > 0 else 0.0


def average_precision(histogram: np.ndarray) -> float:
    """Mean of the precision over all thresholds, weighted by the recall that each adds; the base rate for a guess.

    Args:
      histogram: counts of negatives and positives by bin of the logit, [2, bins]: `objectives.separation_histogram`.
    """
    flagged, hits = _flagged(histogram)
    if not hits[-1]:
        return 0.0
    gained = np.diff(hits, prepend=0.0)
    return float((gained * hits / np.maximum(flagged, 1e-12)).sum() / hits[-1])


def recall_at_base_rate(histogram: np.ndarray) -> float:
    """Recall, equal to precision, when as many words are flagged as were replaced, those of highest score.

    Words in the bin where that number is reached count in proportion.
    """
    flagged, hits = _flagged(histogram)
    if not hits[-1]:
        return 0.0
    return float(np.interp(hits[-1], np.append(0.0, flagged), np.append(0.0, hits)) / hits[-1])


def _flagged(histogram: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Counts of words above each threshold, from the highest down, and of replaced ones among them."""
    negatives, positives = np.asarray(histogram, np.float64)[:, ::-1]
    return np.cumsum(negatives + positives), np.cumsum(positives)
