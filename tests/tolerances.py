"""Tolerances that come from the sample, not from taste: five standard errors, or a p-value above one in a million."""

import numpy as np
from scipy import stats

SIGMAS, RAREST = 5, 1e-6


def assert_mean(per_episode: np.ndarray, expected: float) -> None:
    """Independent episodes, one number each: their mean is what it should be, within five standard errors."""
    error = per_episode.std(ddof=1) / np.sqrt(len(per_episode))
    assert error > 0, "a constant sample has no standard error: compare it exactly"
    gap = abs(per_episode.mean() - expected)
    assert gap <= SIGMAS * error, f"mean {per_episode.mean():.6g}, expected {expected:.6g}, {gap / error:.1f} s.e. away"


def assert_frequency(hits: int, trials: int, probability: float) -> None:
    """So many hits in independent trials are plausible at that probability."""
    p = stats.binomtest(hits, trials, probability).pvalue
    assert p > RAREST, f"{hits} of {trials} at probability {probability:.4g}: p = {p:.2g}"


def assert_distribution(values: np.ndarray, support: np.ndarray, probabilities: np.ndarray) -> None:
    """Chi-square goodness of fit of whole numbers; what lies outside the support counts as impossible."""
    assert np.isin(values, support).all(), f"outside the support: {np.setdiff1d(values, support)[:5]}"
    counts = np.array([(values == k).sum() for k in support])
    expected = probabilities / probabilities.sum() * len(values)
    assert abs(probabilities.sum() - 1) < 1e-9
    rare = expected < 10  # the test needs a few in each class, so rare ones are pooled
    if rare.any():
        counts = np.append(counts[~rare], counts[rare].sum())
        expected = np.append(expected[~rare], expected[rare].sum())
    p = stats.chisquare(counts, expected).pvalue
    assert p > RAREST, f"p = {p:.2g}: counts {counts}, expected {expected.round(1)}"


def floored_normal(mean: np.ndarray, sd: float, floor: float) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of ``max(floor, N(mean, sd))``."""
    z = (floor - mean) / sd
    below, density = stats.norm.cdf(z), stats.norm.pdf(z)
    first = floor * below + mean * (1 - below) + sd * density
    second = floor**2 * below + (mean**2 + sd**2) * (1 - below) + sd * (mean + floor) * density
    return first, second - first**2
