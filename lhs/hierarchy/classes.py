"""Common and rare classes (METHOD section 3, paper section 3.1.1)."""

from __future__ import annotations

import numpy as np

from lhs.errors import UserError


def common_classes(counts: np.ndarray, rho: float) -> np.ndarray:
    """Find the classes that are split into subclasses.

    Classes are taken by their number of samples, most frequent first, until their share of all
    samples first exceeds `rho`; the class that crosses it is still common.

    Parameters
    ----------
    counts
        (L,) samples of each class.
    rho
        Share in (0, 1]. At 1 every class with a sample is common.

    Returns
    -------
    common
        (C,) class ids, most frequent first, the lower id first where counts are equal. A class
        without a sample is never common.

    Raises
    ------
    lhs.errors.UserError
        Naming `hierarchy.rho`, if it is outside (0, 1].

    Examples
    --------
    >>> common_classes(np.array([10, 60, 0, 30]), 0.9)
    array([1, 3, 0])
    """
    if not 0 < rho <= 1:
        raise UserError(f"hierarchy.rho: found {rho!r}, allowed are numbers above 0 and up to 1")
    counts = np.asarray(counts, np.int64)
    order = np.argsort(-counts, kind="stable")
    order = order[counts[order] > 0]
    if not len(order):
        return order
    # One division of whole numbers: a share of exactly 9/10 is the double 0.9, not above it.
    exceeds = np.cumsum(counts[order]) / counts.sum() > rho
    return order[: np.argmax(exceeds) + 1] if exceeds.any() else order


def largest_rare(counts: np.ndarray, common: np.ndarray) -> int:
    """Count the samples of the largest rare class, the n* of Algorithm 1 read literally.

    Parameters
    ----------
    counts
        (L,) samples of each class.
    common
        (C,) ids of the common classes.

    Returns
    -------
    int
        0 without rare classes.
    """
    rare = np.delete(np.asarray(counts, np.int64), common)
    return int(rare.max(initial=0))


def least_size(n_star: int | str, counts: np.ndarray, common: np.ndarray) -> int:
    """Resolve `hierarchy.n_star`: every cluster must have more samples than this.

    Parameters
    ----------
    n_star
        `largest_rare`, the paper's text, or a whole number from 0.
    counts
        (L,) samples of each class.
    common
        (C,) ids of the common classes.

    Raises
    ------
    lhs.errors.UserError
        Naming `hierarchy.n_star`.
    """
    if n_star == "largest_rare":
        return largest_rare(counts, common)
    if isinstance(n_star, (int, np.integer)) and not isinstance(n_star, bool) and n_star >= 0:
        return int(n_star)
    raise UserError(
        f"hierarchy.n_star: found {n_star!r}, allowed are 'largest_rare' and whole numbers from 0"
    )
