"""Images to try a model on: `lhs predict --demo`."""

from __future__ import annotations

from lhs.config import DataConfig
from lhs.data import open_dataset
from lhs.engine.stages.evaluation import png
from lhs.engine.storage import Storage

FOLDER, COUNT = "demo", 3


def write_demo_images(out: str) -> list[str]:
    """Write procedural test scenes to `demo/` of a folder or URI; returns their addresses.

    Each shows another kind of place: the first scene of each name.
    """
    storage, written = Storage(out, "--out"), {}
    storage.make_folder(storage.path(FOLDER))
    for scene in open_dataset(DataConfig(dataset="synthetic")).split("test"):
        if scene.name in written:
            continue
        path = storage.path(FOLDER, f"{scene.name}.png")
        storage.replace(path, png(scene.image()))
        written[scene.name] = storage.address(path)
        if len(written) == COUNT:
            break
    return list(written.values())
