"""How sure a mean is: bootstrap intervals by group, and paired differences.

Images of one patient or video resemble each other, so whole groups are drawn with replacement (the
cluster bootstrap; Field and Welsh, J. R. Statist. Soc. B 69, 2007), and the interval is the middle
95 % of the means (percentile method; Efron and Tibshirani 1993, chapter 13). With one group there
is nothing to draw from and the interval is None.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

DRAWS = 2000
SEED = 0
"""Equal input gives equal output."""

Interval = tuple[float, float]


def interval(values: Sequence[float], groups: Sequence[str]) -> Interval | None:
    """The 95 % interval of a mean over images; None where there is only one group.

    Args:
        values: one for each image.
        groups: of each image; an image that belongs to nobody else is a group of its own.
    """
    names, index = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    if len(names) < 2:
        return None
    sums = np.bincount(index, np.asarray(values, float))
    counts = np.bincount(index).astype(float)
    rng = np.random.default_rng(SEED)
    times = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), size=DRAWS)
    low, high = np.percentile((times @ sums) / (times @ counts), (2.5, 97.5))
    return float(low), float(high)


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """Method B minus method A on the same images.

    Attributes:
        images: how many.
        first: mean of A.
        second: mean of B.
        difference: of the means.
        ci95: of the difference; None where all images are of one group.
        p: of the Wilcoxon signed-rank test, two-sided (Pratt's treatment of zeros); 1 where no
            image differs.
        greater: images where B's value is greater.
        less: images where it is less.
    """

    images: int
    first: float
    second: float
    difference: float
    ci95: Interval | None
    p: float
    greater: int
    less: int


def paired_difference(
    first: Sequence[float], second: Sequence[float], groups: Sequence[str]
) -> PairedDifference:
    """Compare two methods image by image.

    Args:
        first: values of method A.
        second: values of method B on the same images.
        groups: of these images.
    """
    from scipy.stats import wilcoxon

    a, b = np.asarray(first, float), np.asarray(second, float)
    gain = b - a
    # scipy ranks the differences: without any, there is no statistic to speak of.
    p = float(wilcoxon(gain, zero_method="pratt").pvalue) if gain.any() else 1.0
    return PairedDifference(
        images=len(gain),
        first=float(a.mean()),
        second=float(b.mean()),
        difference=float(gain.mean()),
        ci95=interval(list(gain), groups),
        p=p,
        greater=int((gain > 0).sum()),
        less=int((gain < 0).sum()),
    )
