"""The result in plain words, fair in either direction."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from lhs.evaluation.metrics import Scores
from lhs.report.statistics import Difference
from lhs.report.wording import direction, plural, score, signed, with_interval


def summary(
    strategy: str,
    scores: Scores,
    baseline: Scores | None,
    class_names: Sequence[str],
    seeds: Sequence[int],
    intervals: Mapping[str, Difference],
) -> tuple[str, ...]:
    """Describe the scores, the changes by class, and how far they can be trusted.

    Parameters
    ----------
    strategy
        The name of the run in the sentences: `hierarchical`.
    scores, baseline
        Scores of the run and of the baseline, or None.
    class_names
        L names.
    seeds
        The seeds that the scores rest on.
    intervals
        Changes against the baseline, by field of `Scores`, where they are known.

    Returns
    -------
    tuple of str
        Paragraphs of plain text.
    """
    pixel, mean, iou = (
        _beside(scores, baseline, field, intervals)
        for field in ("per_pixel", "per_class", "mean_iou")
    )
    reached = (
        f"{strategy.capitalize()} training reached {pixel} of the labelled test pixels right, "
        f"{mean} as the mean over the classes, and a mean IoU of {iou}."
    )
    if baseline is None:
        return reached, _trust(seeds, compared=False)
    change = f"{_verdict(scores, baseline)} {_by_class(scores, baseline, class_names)}"
    return reached, change, _trust(seeds, compared=True)


def _beside(
    scores: Scores, baseline: Scores | None, field: str, intervals: Mapping[str, Difference]
) -> str:
    value = float(getattr(scores, field))
    if baseline is None:
        return score(value)
    other = float(getattr(baseline, field))
    low, high = math.nan, math.nan
    if field in intervals:
        low, high = intervals[field].low, intervals[field].high
    change = with_interval(value - other, low, high)
    return f"{score(value)} (baseline {score(other)}, {change})"


def _verdict(scores: Scores, baseline: Scores) -> str:
    pixel = direction(scores.per_pixel - baseline.per_pixel)
    mean = direction(scores.per_class - baseline.per_class)
    words = {"gain": "better", "loss": "worse", "same": "the same"}
    if pixel == mean:
        than = "as" if pixel == "same" else "than"
        return f"Both accuracies are {words[pixel]} {than} the baseline's."
    return (
        f"Against the baseline it is {words[pixel]} per pixel and {words[mean]} per class: "
        "the two do not agree."
    )


def _by_class(scores: Scores, baseline: Scores, class_names: Sequence[str]) -> str:
    change = np.asarray(scores.per_class_accuracy) - np.asarray(baseline.per_class_accuracy)
    present = np.flatnonzero(~np.isnan(change))
    absent = len(change) - len(present)
    kinds = [direction(float(change[i])) for i in present]
    text = (
        f"Of {plural(len(present), 'class', 'classes')} with test pixels "
        f"{kinds.count('gain')} gained, {kinds.count('loss')} lost and "
        f"{kinds.count('same')} stayed the same"
    )
    extremes = []
    for word, pick in (("gain", np.argmax), ("loss", np.argmin)):
        if word in kinds:
            best = int(present[pick(change[present])])
            extremes.append(
                f"the largest {word} is {class_names[best]} ({signed(float(change[best]))})"
            )
    text += f"; {', '.join(extremes)}." if extremes else "."
    if absent:
        text += (
            f" {plural(absent, 'class has', 'classes have')} no test pixel and "
            f"{'is' if absent == 1 else 'are'} left out of the mean."
        )
    return text


def _trust(seeds: Sequence[int], *, compared: bool) -> str:
    distinct = sorted(set(seeds))
    if len(distinct) > 1:
        return f"The scores rest on {len(distinct)} seeds ({', '.join(map(str, distinct))})."
    which = f"a single seed ({distinct[0]})" if distinct else "a single run without a set seed"
    if not compared:
        return f"The scores come from {which}: another seed will give somewhat different ones."
    return (
        f"All of it comes from {which}, and a single seed is no evidence: differences of this "
        "kind can come from the seed alone. Repeat both runs with several seeds before relying "
        "on them."
    )
