"""A relabelled dataset for other trainers: Pascal VOC's layout, with Hugging Face's metadata."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from PIL import Image

from lhs.config import IMAGE_KINDS
from lhs.data.images import image_orientation
from lhs.data.progress import shown
from lhs.data.scenes import Scene
from lhs.errors import UserError
from lhs.hierarchy.document import HIERARCHY_FILE
from lhs.hierarchy.model import Hierarchy

VOC = Path("VOCdevkit/VOC2012")
IMAGES, LABELS, LISTS = "JPEGImages", "SegmentationClass", "ImageSets/Segmentation"
CLASSES, IDS, METADATA = "classes.txt", "id2label.json", "metadata.jsonl"
NAMES = {"train": "train", "test": "val"}
"""What the other trainers call the splits."""
QUALITY = 95
"""Of images that are not JPEG files already."""


def check_target(folder: Path) -> None:
    """Refuse a folder that holds something: files of two exports would be one dataset.

    Raises
    ------
    lhs.errors.UserError
        If it is not empty, or a file.
    """
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--export {folder}: found a file, needed is a folder")
    if folder.exists() and any(folder.iterdir()):
        raise UserError(f"--export {folder}: not empty; name a new or an empty folder")


def export_dataset(hierarchy: Hierarchy, scenes: Sequence[Scene], folder: Path) -> dict[str, int]:
    """Write images and their subclass maps.

    Parameters
    ----------
    hierarchy
        Relabels them. Test images are left out where it has a subclass for training images alone:
        with image clusters and subclass maps.
    scenes
        Of both splits.
    folder
        It gets `VOCdevkit/VOC2012` with `JPEGImages`, `SegmentationClass` (PNGs of subclass ids,
        `void_subclass` where unlabelled), `ImageSets/Segmentation/train.txt` and `val.txt`, and
        `metadata.jsonl`; `classes.txt`, a subclass per line; `id2label.json`; `hierarchy.json`.

    Returns
    -------
    dict
        Images of each split that was written.

    Raises
    ------
    lhs.errors.UserError
        As of `check_target`, or if an image can't be read or a file not be written.
    """
    check_target(folder)
    train_only = hierarchy.kind in (*IMAGE_KINDS, "subclass_maps")
    chosen = [scene for scene in scenes if scene.split == "train" or not train_only]
    base = folder / VOC
    try:
        (base / LISTS).mkdir(parents=True)
        with (
            shown("images exported", len(chosen)) as show,
            ThreadPoolExecutor(os.cpu_count()) as pool,
        ):
            for done, _ in enumerate(pool.map(lambda s: _write(hierarchy, s, base), chosen), 1):
                show(done)
        counts = {}
        for split, name in NAMES.items():
            ids = [scene.id for scene in chosen if scene.split == split]
            if ids:
                _write_lines(base / LISTS / f"{name}.txt", ids)
                counts[name] = len(ids)
        rows = [
            {
                "image_file_name": f"{IMAGES}/{scene.id}.jpg",
                "label_file_name": f"{LABELS}/{scene.id}.png",
                "split": NAMES[scene.split],
            }
            for scene in chosen
        ]
        _write_lines(base / METADATA, [json.dumps(row) for row in rows])
        names = [subclass.name for subclass in hierarchy.subclasses]
        _write_lines(folder / CLASSES, names)
        (folder / IDS).write_text(json.dumps(dict(enumerate(names)), indent=1) + "\n", "utf-8")
        # Last: where it is there, all is.
        hierarchy.save(folder / HIERARCHY_FILE)
    except OSError as error:
        raise UserError(f"--export {folder}: {error}") from error
    return counts


def _write(hierarchy: Hierarchy, scene: Scene, base: Path) -> None:
    image, label_map = scene.load()
    subclass_map = hierarchy.relabel(
        label_map, hierarchy.scene_of(scene), scene.context_label_map(), scene.id
    )
    picture, labels = base / IMAGES / f"{scene.id}.jpg", base / LABELS / f"{scene.id}.png"
    for path in (picture, labels):
        path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(subclass_map).save(labels)
    files = scene.files()
    if files and _is_upright_jpeg(files[0]):
        picture.write_bytes(files[0].read_bytes())
    else:
        Image.fromarray(image).save(picture, quality=QUALITY, subsampling=0)


def _is_upright_jpeg(path: Path) -> bool:
    """Whether other programs see the same image in the file: they may not turn it as EXIF says."""
    with Image.open(path) as opened:
        plain = opened.format == "JPEG" and opened.mode == "RGB"
    return plain and image_orientation(path) == 1


def _write_lines(path: Path, lines: Sequence[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
