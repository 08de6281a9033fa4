"""`hierarchy.kind = file`: a hierarchy that the user gives, with subclass maps if it needs them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lhs.config import HierarchyConfig
from lhs.data.contents import contents_digest, file_digest, file_digests
from lhs.data.layout import find_files
from lhs.data.scenes import Scene
from lhs.errors import UserError
from lhs.hierarchy.model import Hierarchy


def given_hierarchy(settings: HierarchyConfig) -> Hierarchy:
    """Read `hierarchy.file`; subclass maps are read from `hierarchy.subclass_maps`.

    Raises
    ------
    lhs.errors.UserError
        If the file is no hierarchy file, it has no rule for pixels and no folder is given or there,
        or a folder is given that it does not need.
    """
    path, maps = _path(settings.file), settings.subclass_maps
    folder = None if maps is None else _path(maps)
    hierarchy = Hierarchy.load(path, subclass_maps=folder)
    if hierarchy.by_map and (folder is None or not folder.is_dir()):
        raise UserError(
            f"hierarchy.file = {path}: a hierarchy of kind subclass_maps has no rule for pixels; "
            f"hierarchy.subclass_maps is {maps}, and must be a folder with IMAGE_ID.png for every "
            "training image"
        )
    if folder is not None and not hierarchy.by_map:
        raise UserError(
            f"hierarchy.subclass_maps = {maps}: {path} is of kind {hierarchy.kind}, which says the "
            "subclass of each pixel by itself; leave the folder out"
        )
    return hierarchy


def given_sources(settings: HierarchyConfig) -> dict[str, str]:
    """Digests of the content of `hierarchy.file` and `hierarchy.subclass_maps`; empty without.

    Raises
    ------
    lhs.errors.UserError
        As of `given_hierarchy`.
    """
    if settings.kind != "file":
        return {}
    given_hierarchy(settings)
    found = {"file": file_digest(_path(settings.file))}
    if settings.subclass_maps is not None:
        folder = _path(settings.subclass_maps)
        names = find_files(folder, {".png"})
        digests = file_digests([folder / name for name in names])
        rows = [(str(name), [digests[str(folder / name)]]) for name in names]
        found["subclass_maps"] = contents_digest(rows)
    return found


def check_fits(
    hierarchy: Hierarchy, file: str, dataset: str, classes: Sequence[str], train: Sequence[Scene]
) -> None:
    """Refuse a hierarchy of other classes, or without a subclass for some training image.

    Raises
    ------
    lhs.errors.UserError
        Naming the first class or image that does not fit.
    """
    what = f"hierarchy.file = {file}"
    if len(hierarchy.classes) != len(classes):
        raise UserError(
            f"{what}: made for {len(hierarchy.classes)} classes ({hierarchy.dataset}); {dataset} "
            f"has {len(classes)}"
        )
    for label, (found, wanted) in enumerate(zip(hierarchy.classes, classes, strict=True)):
        if found != wanted:
            raise UserError(
                f"{what}: its class {label} is {found!r}, that of {dataset} is {wanted!r}; allowed "
                "are the dataset's classes in their order"
            )
    if hierarchy.by_scene:
        nameless = [scene.id for scene in train if hierarchy.scene_of(scene) is None]
        if nameless:
            raise UserError(
                f"{what}: a hierarchy of {hierarchy.kind} needs scene names, and {len(nameless)} "
                f"training images of {dataset} have none, such as {nameless[0]}"
            )


def whole_map(hierarchy: Hierarchy, image_id: str, label_map: np.ndarray) -> np.ndarray:
    """Read the subclass map (H, W) of a training image, which must fit every pixel of its label map
    (H, W): sizes, ids, parents, and void where that is void.

    Raises
    ------
    lhs.errors.UserError
        If it does not, or is missing.
    """
    assert hierarchy.subclass_map_of is not None
    found, void = hierarchy.relabel(label_map, image_id=image_id), hierarchy.void_subclass
    extra = (label_map == hierarchy.void) & (hierarchy.subclass_map_of(image_id) != void)
    if extra.any():
        y, x = np.argwhere(extra)[0].tolist()
        raise UserError(
            f"subclass map of {image_id}: a subclass at an unlabelled pixel (y {y}, x {x}), and at "
            f"{int(extra.sum()) - 1} pixels more; allowed there is {void}"
        )
    return found


def _path(given: str | None) -> Path:
    return Path(os.path.expanduser(given or ""))
