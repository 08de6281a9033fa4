"""The splits of a source, or a seeded one that is stratified or keeps groups together."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from sklearn.model_selection import GroupShuffleSplit, StratifiedShuffleSplit, train_test_split

from lhs.data.importing.found import Item
from lhs.errors import UserError

SPLITS = ("train", "val", "test")


def split_items(
    items: Sequence[Item],
    labelled: Sequence[bool],
    *,
    test: float | None,
    seed: int,
    group: str | None,
) -> tuple[dict[str, list[str]], list[str]]:
    """Give images their splits.

    Parameters
    ----------
    items
        All images.
    labelled
        Whether an image has a labelled pixel, one for each.
    test
        Share of the images that is drawn for testing where the source has no test images; None for
        a fifth.
    seed
        Of the choice.
    group
        Regular expression; images for whose ids it finds the same text are on one side.

    Returns
    -------
    splits : dict
        From split to ids; `train` and `test` are never empty.
    notes : list of str
        What was decided, and images in no split.

    Raises
    ------
    UserError
        If a split would be empty, the expression does not fit, or an option has no effect.
    """
    splits: dict[str, list[str]] = {split: [] for split in SPLITS}
    for item in items:
        if item.split is not None:
            splits[item.split].append(item.id)
    notes: list[str] = []
    has_labels = {item.id for item, any_pixel in zip(items, labelled, strict=True) if any_pixel}
    if splits["test"] and not has_labels.intersection(splits["test"]):
        notes.append(f"the {len(splits['test'])} test images have no labels and are in no split")
        splits["test"] = []
    if not splits["test"] and splits["val"]:
        notes.append("the source's val is the test split, as its test has no labels here")
        splits["test"], splits["val"] = splits["val"], []
    if not splits["test"]:
        one_side = [item for item in items if item.split == "train"] or list(items)
        chosen = _drawn(one_side, 0.2 if test is None else test, seed, group)
        splits["train"] = [item.id for item in one_side if item.id not in chosen]
        splits["test"] = [item.id for item in one_side if item.id in chosen]
        how = "stratified by scene" if one_side[0].scene and not group else "at random"
        notes.append(
            f"test images are drawn {how}{' by group' if group else ''}, seed {seed}: the source "
            "has none"
        )
    elif group is not None or test is not None:
        name = "--group" if group is not None else "--test"
        raise UserError(f"{name} has no effect: the splits are those of the source; leave it out")
    if not splits["train"]:
        raise UserError("the source has no training images: its splits leave none")
    left = len(items) - sum(map(len, splits.values()))
    if left:
        notes.append(f"{left} images are in no split; they are written, and no list names them")
    return {split: ids for split, ids in splits.items() if ids}, notes


def _drawn(items: Sequence[Item], test: float, seed: int, group: str | None) -> set[str]:
    """Ids of the test images."""
    ids = np.array([item.id for item in items], object)
    if group is not None:
        groups = _groups(items, group)
        if len(set(groups)) < 2:
            raise UserError(f"--group {group!r}: all images are in one group, {groups[0]!r}")
        parts = GroupShuffleSplit(1, test_size=test, random_state=seed)
        return set(ids[_second(parts.split(ids, groups=groups), test)])
    if len(items) < 2:
        raise UserError(f"{len(items)} image; needed are 2, one to train on and one to test on")
    if all(item.scene for item in items):
        strata = _strata([str(item.scene) for item in items], test)
        if len(set(strata)) > 1:
            chosen = StratifiedShuffleSplit(1, test_size=test, random_state=seed)
            return set(ids[_second(chosen.split(ids, strata), test)])
    try:
        return set(train_test_split(ids, test_size=test, random_state=seed)[1])
    except ValueError as error:
        raise UserError(f"--test {test:g} of {len(items)} images: {error}") from None


def _second(parts: object, test: float) -> np.ndarray:
    try:
        return next(parts)[1]  # type: ignore[call-overload, no-any-return]
    except ValueError as error:
        raise UserError(f"--test {test:g}: {error}") from None


def _strata(scenes: list[str], test: float) -> list[str]:
    """Scene names, those too rare for an image in both splits in one stratum."""
    counts = Counter(scenes)
    least = math.ceil(1 / min(test, 1 - test))
    rare = {scene for scene, count in counts.items() if count < least}
    # A stratum needs two images.
    joined = "" if sum(counts[scene] for scene in rare) > 1 else counts.most_common(1)[0][0]
    return [joined if scene in rare else scene for scene in scenes]


def _groups(items: Sequence[Item], group: str) -> list[str]:
    try:
        pattern = re.compile(group)
    except re.error as error:
        raise UserError(f"--group {group!r} is no regular expression: {error}") from None
    found = []
    for item in items:
        match = pattern.search(item.id)
        if match is None:
            raise UserError(f"--group {group!r} finds nothing in the image {item.id!r}")
        found.append(str(match[1] if pattern.groups else match[0]))
    return found
