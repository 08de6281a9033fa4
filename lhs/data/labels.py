"""Whether the label maps of a user's own folder fit its classes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lhs.data.dataset import Dataset
from lhs.data.folder import PictureScene, listed_ids

_HEADERS = {"class", "classes", "name", "names", "label", "labels", "id", "category", "categories"}


@dataclass(frozen=True)
class FoundLabels:
    """What the label maps of the training images hold.

    Attributes
    ----------
    images, unlabelled_images
        Label maps that could be read, and those of them with an unlabelled pixel.
    class_pixels
        Pixels of each class, L numbers.
    palettes
        What is wrong with the palettes of all label files; empty where they agree.
    """

    images: int
    unlabelled_images: int
    class_pixels: list[int]
    palettes: str = ""

    def fit(self, *, allow_empty: bool) -> bool:
        """Whether a network can be trained with them; `allow_empty`: `data.allow_empty_classes`."""
        return not self.palettes and (allow_empty or all(self.class_pixels))

    def as_dict(self) -> dict[str, Any]:
        """Give them as JSON values; `FoundLabels(**values)` reads them."""
        return asdict(self)


def found_labels(
    dataset: Dataset, rows: Iterable[tuple[str, int, np.ndarray, Mapping[int, int]]]
) -> FoundLabels:
    """Add up what single label maps hold.

    Parameters
    ----------
    dataset
        The whole one, before training images are left out or held out.
    rows
        For each label map: the image's id, its pixels (0 if it could not be read), those of each
        class (L,), and the colours that its palette gives to ids, as `Scene.label_colours`.
    """
    pixels = np.zeros(len(dataset.classes), np.int64)
    images = unlabelled = 0
    colours: list[tuple[str, Mapping[int, int]]] = []
    for name, size, counts, palette in rows:
        scene = dataset.scene(name)
        if palette:
            colours.append((str(scene.files()[-1]), palette))
        if size and scene.split == "train":
            pixels += counts
            images += 1
            unlabelled += int(counts.sum()) < size
    return FoundLabels(images, unlabelled, pixels.tolist(), differing_palettes(colours))


def differing_palettes(colours: Iterable[tuple[str, Mapping[int, int]]]) -> str:
    """Name two label files whose palettes show one class in two colours; empty where none do.

    Parameters
    ----------
    colours
        Label files, and the colours (0xRRGGBB) of the ids in each.
    """
    first: dict[int, tuple[int, str]] = {}
    for file, palette in colours:
        for id, colour in palette.items():
            other, other_file = first.setdefault(id, (colour, file))
            if other != colour:
                return (
                    f"{file}: its palette shows id {id} as #{colour:06x}, that of {other_file} as "
                    f"#{other:06x}: where each file has a palette of its own, an id is another "
                    "class in each; save label maps as grey PNGs of ids, or with one palette"
                )
    return ""


def empty_classes(dataset: Dataset, found: FoundLabels) -> str:
    """Name the classes that no training image has, the ids that were found, and a likely cause.

    Parameters
    ----------
    dataset
        Its classes; its scenes know the id of unlabelled pixels.
    found
        Of all its training images.
    """
    scene = next((s for s in dataset.scenes() if isinstance(s, PictureScene)), None)
    first, void = (0, ()) if scene is None else (scene.first_id, scene.void_ids)
    empty = [id for id, pixels in enumerate(found.class_pixels) if not pixels]
    present = [id for id, pixels in enumerate(found.class_pixels) if pixels]
    names = ", ".join(f"{dataset.classes[id]} (id {id + first})" for id in empty)
    text = f"{dataset.name}: no train pixel of class {names}; ids found: "
    text += listed_ids(id + first for id in present) or "none"
    if void:
        text += (
            f", and {' or '.join(map(str, void))} (data.folder.void: unlabelled) in "
            f"{found.unlabelled_images} of {found.images} label maps"
        )
    # Of several ids it is not known which occur.
    one = void[0] if len(void) == 1 and found.unlabelled_images else None
    cause = _cause(dataset.classes, empty, present, one, first)
    return f"{text}. Likely cause: {cause}. If it is meant: --set data.allow_empty_classes=true"


def _cause(
    classes: tuple[str, ...], empty: list[int], present: list[int], void: int | None, first: int
) -> str:
    """A likely cause; `void` is its id if it occurs, `first` that of the first class."""
    for number, name in enumerate(classes):
        if name.startswith("#") or (number == 0 and name.lower() in _HEADERS):
            return f"line {number + 1} of classes.txt, {name!r}, is no class: every line counts"
    if void is not None and empty == [len(classes) - 1] and len(classes) == 2:
        return (
            f"masks of {first} and {void}: write id {first + 1} in the place of {void}, which "
            "stands for unlabelled"
        )
    if first == 0 and 0 in empty and present:
        return (
            "ids counted from 1, while line 1 of classes.txt is id 0: take a first line for "
            "unlabelled pixels out, and set data.folder.ids_from=1"
        )
    if void is not None and len(empty) == 1:
        return f"label maps with {void} in the place of id {empty[0] + first}"
    return "a list of classes that is longer than the labels' own, shifted, or of other labels"
