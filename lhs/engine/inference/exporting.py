"""`lhs export`: a model as one file, compared with the model before it is written."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import cv2
import numpy as np

from lhs.config import DataConfig
from lhs.data import open_dataset
from lhs.engine.inference.sources import find_sources
from lhs.engine.storage import REASONS
from lhs.errors import UserError
from lhs.evaluation.export import SUFFIXES, export_model, share_alike
from lhs.evaluation.model import load_model
from lhs.names import ClassScores
from lhs.networks.patch import PatchNetwork

logger = logging.getLogger("lhs")

ALIKE = 0.9999
"""Share of pixels on which a file must agree with the model."""
PROCEDURAL = 4
"""Number of procedural scenes to check a file on where no images are given."""


def export_file(
    folder: Path,
    kind: str,
    out: str | None,
    size: tuple[int, int] | None,
    check: list[str],
    class_scores: ClassScores = "w",
) -> int:
    """Export a model and compare the file with it on images.

    Parameters
    ----------
    folder
        A model folder.
    kind
        `onnx` or `torch-export`.
    out
        The file; None for `model` with the format's suffix in the current folder.
    size
        Height and width of images, to which checked images are resized; None for any.
    check
        Files, folders, patterns or URIs of images; empty for procedural scenes.
    class_scores
        Models of H: what the file's scores are, see `evaluation.class_scores`.

    Returns
    -------
    int
        Exit code: 1 if too many labels differ; then the file is not kept.

    Raises
    ------
    UserError
        For an unreadable model or image, a place that can't be written, or a patch network without
        a size.
    """
    model = load_model(folder, class_scores=class_scores)
    if size is None and isinstance(model.network, PatchNetwork):
        raise UserError(
            f"--size: found none, needed for {model.description.network.name}: a patch network is "
            "exported for images of one size"
        )
    long_side = model.description.long_side
    if size is not None and long_side is not None and max(size) > long_side:
        raise UserError(
            f"--size {size[0]} {size[1]}: the model was trained on images resized to a longer side "
            f"of {long_side} pixels at most (data.long_side); allowed are sizes up to that"
        )
    images = model.resized(_images(check, model.description.image_range))
    if size is not None:
        images = [cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA) for image in images]
    elif any(min(image.shape[:2]) <= model.network.multiple for image in images):
        raise UserError(
            f"--check: found an image with a side of {model.network.multiple} pixels or less, "
            "allowed are larger ones, or --size"
        )
    target = Path(os.path.expanduser(out or f"model{SUFFIXES[kind]}"))
    if target.suffix != SUFFIXES[kind]:
        raise UserError(f"--out {target}: allowed are names that end with {SUFFIXES[kind]}")
    if target.is_dir():
        raise UserError(
            f"--out {target}: found a folder, needed is a file, such as "
            f"{target / f'model{SUFFIXES[kind]}'}"
        )
    half = target.with_name(f".half-{target.name}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        half.touch()
    except OSError as error:
        reason = REASONS.get(error.errno or 0, error.strerror)
        raise UserError(f"--out {target}: {reason}") from None
    try:
        logger.info(f"exporting {model.description.network.name} ...")
        export_model(load_model(folder, class_scores=class_scores), half, kind, size)
        logger.info(f"comparing on {len(images)} images ...")
        same, total = share_alike(model, half, kind, images, size)
        alike = same >= ALIKE * total
        if alike:
            os.replace(half, target)
    except OSError as error:
        raise UserError(f"--out {target}: {error.strerror or error}") from None
    finally:
        half.unlink(missing_ok=True)
    print(f"{same} of {total} pixels of {len(images)} images have the same label as the model's")
    if long_side is not None:
        print(
            f"the file takes images whose longer side has at most {long_side} pixels "
            "(data.long_side): resize larger ones before, bilinearly and antialiased, and enlarge "
            "the label map after"
        )
    print(f"written: {target}" if alike else f"not written: allowed are {ALIKE:.2%} and more")
    return 0 if alike else 1


def _images(check: list[str], image_range: tuple[float, float] | None) -> list[np.ndarray]:
    if check:
        return [source.read(image_range=image_range) for source in find_sources(check)]
    dataset = open_dataset(DataConfig(dataset="synthetic"))
    return [scene.image() for scene in dataset.split("test")[:PROCEDURAL]]
