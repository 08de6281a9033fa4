"""Settings of a training that follow from the data, by the rules of `docs/datasets.md`."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

LONG_SIDE = 1024
"""Images above this are scaled down: windows of 129 pixels and superpixels of 300 are made for
images of some hundred pixels."""
MOST_CROP = 512
PASSES = 7000
"""Images that a phase of all layers sees, within `EPOCHS`."""
EPOCHS = (6, 100)
BATCH = 8
BYTES, CLASS_BYTES = 1800, 12
"""Memory that training `lite` takes for a pixel of a crop, and more for each class: 8 crops of
224 x 224 and 20 classes took 788 MiB on a CPU, forward and backward."""


def proposed(
    sizes: Sequence[tuple[int, int]], train_images: int, num_classes: int, memory: int
) -> list[tuple[str, str, str]]:
    """Propose settings.

    Parameters
    ----------
    sizes
        (H, W) of all images.
    train_images
        Number of training images.
    num_classes
        L.
    memory
        Bytes that a training may take.

    Returns
    -------
    list of (str, str, str)
        Name, value and reason of each.
    """
    out = []
    longest = max(map(max, sizes))
    if longest > LONG_SIDE:
        out.append(
            ("data.long_side", str(LONG_SIDE), f"the longest image side is {longest}: windows of "
             "129 pixels and superpixels of 300 show little of such images")
        )  # fmt: skip
    scaled = [(h * s, w * s) for h, w in sizes for s in [min(1.0, LONG_SIDE / max(h, w))]]
    crops = []
    for name, axis in (("height", 0), ("width", 1)):
        side = round(statistics.median(size[axis] for size in scaled))
        crops.append(min(max(side * 7 // 8 // 32 * 32, 32), MOST_CROP))
        why = f"7/8 of the median {name} {side}, a multiple of 32, at most {MOST_CROP}"
        out.append((f"train.crop_{name}", str(crops[-1]), why))
    one = crops[0] * crops[1] * (BYTES + CLASS_BYTES * num_classes)
    batch = BATCH
    while batch > 2 and batch * one > memory:
        batch //= 2
    need, most = batch * one / 2**30, memory / 2**30
    why = f"at most {BATCH}; needs about {need:.1f} of the {most:.1f} GiB allowed"
    out.append(("train.batch_size", str(batch), why))
    epochs = min(max(round(PASSES / train_images), EPOCHS[0]), EPOCHS[1])
    why = f"{PASSES:,} images a phase, {EPOCHS[0]} to {EPOCHS[1]} epochs, of {train_images} images"
    for phase in ("subclass_all_layers", "class_all_layers"):
        out.append((f"train.sequential.{phase}.epochs", str(epochs), why))
    out.append(("train.baseline.all_layers.epochs", str(2 * epochs), "as many as both together"))
    return out
