"""Health of representations and of detection, measured on held-out text.

A small discriminator may collapse: its states lie in a narrow cone, with a few directions in use, and it flags nothing.
Losses hardly show it. What shows it is the cosine of two random tokens, the effective rank, and the recall.
"""

import jax
import jax.numpy as jnp
import numpy as np

Moments = dict[str, jax.Array]


def moments(hidden_BxLxD: jax.Array, weights_BxL: jax.Array) -> Moments:
    """Sums over the hidden states of a batch, from which `geometry` follows once they are added up.

    Args:
      hidden_BxLxD: hidden states.
      weights_BxL: float32, 1 on tokens that count and 0 on others.

    Returns:
      float32: "count" scalar, "unit_D" of states scaled to length 1, "sum_D", and "outer_DxD" of the states.
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
    """Mean cosine of two different tokens, and effective rank, of all the states that `moments` summed up.

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
      histogram: counts by bin of the logit, [2, bins], of negatives and positives: `objectives.separation_histogram`.
    """
    flagged, hits = _flagged(histogram)
    if not hits[-1]:
        return 0.0
    gained = np.diff(hits, prepend=0.0)
    return float((gained * hits / np.maximum(flagged, 1e-12)).sum() / hits[-1])


def recall_at_base_rate(histogram: np.ndarray) -> float:
    """The recall, which is the precision too, of flagging as many words as were replaced, the likeliest ones.

    Within the bin where that number is reached, words count in proportion.
    """
    flagged, hits = _flagged(histogram)
    if not hits[-1]:
        return 0.0
    return float(np.interp(hits[-1], np.append(0.0, flagged), np.append(0.0, hits)) / hits[-1])


def _flagged(histogram: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How many words lie above each threshold, from the highest down, and how many of them were replaced."""
    negatives, positives = np.asarray(histogram, np.float64)[:, ::-1]
    return np.cumsum(negatives + positives), np.cumsum(positives)
