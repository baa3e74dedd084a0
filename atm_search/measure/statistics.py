"""Intervals for what is measured on a finite number of images."""

import math

Z95 = 1.959963984540054
"""Two-sided 95 % quantile of the normal distribution."""


def paired_change(lost: int, gained: int, images: int) -> float:
    """Change of accuracy between two models on the same images, in percentage points."""
    return 100.0 * (gained - lost) / images


def paired_interval95(lost: int, gained: int, images: int) -> tuple[float, float]:
    """95 % confidence interval of that change, in percentage points.

    McNemar-type: only images on which exactly one model is right carry information, so the
    interval is far narrower than that of two separate accuracies. The form is Bonett and Price's
    adjusted Wald interval: one image is added to each kind of discordant pair, which keeps its
    coverage near 95 % for few discordant pairs, and gives an interval of honest width for none.

    Args:
        lost: images that the first model has right and the second wrong.
        gained: images that the second model has right and the first wrong.
        images: all images, >= 1.

    Source: Bonett and Price, Journal of Educational and Behavioral Statistics 37 (2012) 479.
    """
    p_gained, p_lost = (gained + 1) / (images + 2), (lost + 1) / (images + 2)
    change = p_gained - p_lost
    half = Z95 * math.sqrt((p_gained + p_lost - change**2) / (images + 2))
    return 100.0 * (change - half), 100.0 * (change + half)
