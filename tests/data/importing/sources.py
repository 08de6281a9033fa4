"""Small sources of each format in the shape in which people have them, and what they mean."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

from tests.data.builders import save_image

HEIGHT, WIDTH = 40, 48
Names = list[list[str | None]]
"""The class of each pixel, None where it is void."""


@dataclass
class Source:
    """A folder, the options that it needs, and what an import must give."""

    folder: Path
    arguments: tuple[str, ...] = ()
    pixels: dict[str, Names] = field(default_factory=dict)
    splits: dict[str, set[str]] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    scenes: dict[str, str] = field(default_factory=dict)


def values_of(choices: list, seed: int) -> np.ndarray:
    """(HEIGHT, WIDTH) or (HEIGHT, WIDTH, 3) uint8: blocks of 4 x 4 pixels of all choices."""
    random = np.random.default_rng(seed)
    blocks = np.resize(np.arange(len(choices)), (HEIGHT // 4) * (WIDTH // 4))
    places = random.permutation(blocks).reshape(HEIGHT // 4, WIDTH // 4)
    return np.array(choices, np.uint8)[places.repeat(4, 0).repeat(4, 1)]


def meaning(values: np.ndarray, names: Mapping) -> Names:
    """Pixel by pixel what a source's values are called."""
    plain = values.tolist()
    return [[names[tuple(v) if isinstance(v, list) else v] for v in row] for row in plain]


def save(path: Path, values: np.ndarray, palette: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(values)
    if palette:
        picture.putpalette(np.random.default_rng(0).integers(0, 256, 768, np.uint8).tobytes())
        assert picture.mode == "P"
    picture.save(path)


def image(path: Path, seed: int = 0) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    save_image(path, pixels)


def voc(folder: Path) -> Source:
    names = [
        "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat",
        "chair", "cow", "diningtable", "dog", "horse", "motorbike", "person", "pottedplant",
        "sheep", "sofa", "train", "tvmonitor",
    ]  # fmt: skip
    source = Source(folder, classes=tuple(names))
    base = folder / "VOCdevkit" / "VOC2012"
    means = dict(enumerate(names)) | {255: None}
    ids = [f"2007_{number:06}" for number in range(1, 6)]
    for seed, id in enumerate(ids):
        image(base / "JPEGImages" / f"{id}.jpg", seed)
        values = values_of([*range(21), 255], seed)
        save(base / "SegmentationClass" / f"{id}.png", values, palette=True)
        save(base / "SegmentationObject" / f"{id}.png", values, palette=True)
        source.pixels[id] = meaning(values, means)
    image(base / "JPEGImages" / "2007_000099.jpg")
    lists = base / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("\n".join(ids[:2]) + "\n")
    (lists / "val.txt").write_text("\n".join(ids[2:4]) + "\n")
    (lists / "trainval.txt").write_text("\n".join(ids[:4]) + "\n")
    source.splits = {"train": set(ids[:2]), "test": set(ids[2:4])}
    return source


def cityscapes(folder: Path) -> Source:
    # Here, as torch takes seconds.
    from torchvision.datasets import Cityscapes

    trained = sorted(
        (c.train_id, c.id, c.name) for c in Cityscapes.classes if 0 <= c.train_id < 255
    )
    means: dict[int, str | None] = {c.id: None for c in Cityscapes.classes}
    means |= {id: name for _, id, name in trained}
    source = Source(folder, classes=tuple(name for _, _, name in trained))
    assert len(source.classes) == 19
    for split, city, count in (("train", "aachen", 2), ("val", "munster", 1), ("test", "bonn", 1)):
        for number in range(count):
            name = f"{city}_{number:06}_000019"
            image(folder / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png", number)
            # The labels of the test images hold none of the classes.
            values = values_of([1, 3] if split == "test" else list(range(34)), number)
            place = folder / "gtFine" / split / city
            save(place / f"{name}_gtFine_labelIds.png", values)
            save(place / f"{name}_gtFine_instanceIds.png", values)
            save(place / f"{name}_gtFine_color.png", np.dstack([values] * 3))
            source.pixels[f"{city}/{name}"] = meaning(values, means)
    ids = list(source.pixels)
    source.splits = {"train": set(ids[:2]), "test": {ids[2]}}
    return source


CAMVID = {
    (64, 128, 64): "Animal", (192, 0, 128): "Archway", (0, 128, 192): "Bicyclist",
    (128, 0, 0): "Building", (64, 0, 128): "Car", (0, 0, 0): None,
}  # fmt: skip


def camvid(folder: Path) -> Source:
    source = Source(folder, classes=tuple(name for name in CAMVID.values() if name))
    for number in range(5):
        id = f"0001TP_{6690 + 30 * number:06}"
        image(folder / "701_StillsRaw_full" / f"{id}.png", number)
        values = values_of(list(CAMVID), number)
        save(folder / "LabeledApproved_full" / f"{id}_L.png", values)
        source.pixels[f"701_StillsRaw_full/{id}"] = meaning(values, CAMVID)
    rows = [f"{r} {g} {b}\t\t{name or 'Void'}" for (r, g, b), name in CAMVID.items()]
    (folder / "label_colors.txt").write_text("\r\n".join(rows) + "\r\n")
    return source


def camvid_copy(folder: Path) -> Source:
    """With `class_dict.csv` and a folder for each split."""
    source = Source(folder, classes=tuple(name for name in CAMVID.values() if name))
    for split in ("train", "val", "test"):
        for number in range(2):
            id = f"0016E5_{len(split)}{number:04}"
            image(folder / split / f"{id}.png", number)
            values = values_of(list(CAMVID), number)
            save(folder / f"{split}_labels" / f"{id}_L.png", values)
            source.pixels[f"{split}/{id}"] = meaning(values, CAMVID)
            source.splits.setdefault(split, set()).add(f"{split}/{id}")
    rows = [f"{name or 'Void'},{r},{g}, {b}" for (r, g, b), name in CAMVID.items()]
    (folder / "class_dict.csv").write_text("\n".join(["name,r,g,b", *rows]) + "\n")
    return source


def camvid_ids(folder: Path) -> Source:
    names = [
        "Sky", "Building", "Pole", "Road", "Pavement", "Tree", "SignSymbol", "Fence", "Car",
        "Pedestrian", "Bicyclist",
    ]  # fmt: skip
    means = dict(enumerate(names)) | {11: None}
    source = Source(folder, classes=tuple(names))
    for split in ("train", "val", "test"):
        id = f"Seq05VD_f{len(split):05}"
        image(folder / split / f"{id}.png")
        values = values_of(list(range(12)), 1)
        save(folder / f"{split}annot" / f"{id}.png", values)
        source.pixels[f"{split}/{id}"] = meaning(values, means)
        source.splits[split] = {f"{split}/{id}"}
    return source


def ade20k(folder: Path) -> Source:
    base = folder / "ADEChallengeData2016"
    names = ["wall", "building, edifice", "sky", "bed ", "door, double door"]
    short = ("wall", "building", "sky", "bed", "door")
    means: dict[int, str | None] = {0: None} | dict(enumerate(short, start=1))
    source = Source(folder, classes=short)
    for place, split, kept in (("training", "train", "train"), ("validation", "val", "test")):
        for number in range(2):
            id = f"ADE_{split}_{number:08}"
            image(base / "images" / place / f"{id}.jpg", number)
            values = values_of(list(range(6)), number)
            save(base / "annotations" / place / f"{id}.png", values)
            source.pixels[id] = meaning(values, means)
            source.splits.setdefault(kept, set()).add(id)
            source.scenes[id] = ("airport_terminal", "art gallery")[number]
    rows = [
        "Idx\tRatio\tTrain\tVal\tName",
        *(f"{n} \t0.1\t1\t1\t{x}" for n, x in enumerate(names, 1)),
    ]
    (base / "objectInfo150.txt").write_text("\n".join(rows) + "\n")
    rows = [f"{id} {scene}" for id, scene in source.scenes.items()]
    (base / "sceneCategories.txt").write_text("\n".join(rows) + "\n")
    return source


SCENERY = ("sky", "sea", "sand")


def one_folder(folder: Path, suffix: str = "_mask", count: int = 5) -> Source:
    """Ids from 0 beside the images, and a file of names."""
    source = Source(folder, classes=SCENERY)
    for number in range(count):
        image(folder / f"beach_{number}.jpg", number)
        values = values_of([0, 1, 2], number)
        save(folder / f"beach_{number}{suffix}.png", values)
        source.pixels[f"beach_{number}"] = meaning(values, dict(enumerate(SCENERY)))
    (folder / "classes.txt").write_text("\n".join(SCENERY) + "\n")
    return source


def two_folders(folder: Path) -> Source:
    """`images/train/deep/a.jpg` and `masks/train/deep/a.png`; ids from 1, 0 and 255 void."""
    source = Source(folder, ("--ids-from", "1", "--void", "0,255"), classes=SCENERY)
    means = {0: None, 255: None} | dict(enumerate(SCENERY, start=1))
    for number in range(6):
        split = ("train", "train", "train", "valid", "test", "test")[number]
        image(folder / "images" / split / "deep" / f"{number}.jpg", number)
        values = values_of([0, 1, 2, 3, 255], number)
        save(folder / "masks" / split / "deep" / f"{number}.png", values, palette=True)
        kept = "val" if split == "valid" else split
        source.pixels[f"{kept}/deep/{number}"] = meaning(values, means)
        source.splits.setdefault(kept, set()).add(f"{kept}/deep/{number}")
    (folder / "classes.txt").write_text("\n".join(SCENERY) + "\n")
    return source


def binary(folder: Path) -> Source:
    """0 and 255 in three equal channels, names in a file beside the data."""
    names = folder.parent / f"{folder.name}-names.txt"
    names.write_text("ground\nroad\n")
    source = Source(folder, ("--classes", str(names)), classes=("ground", "road"))
    for number in range(5):
        image(folder / "imgs" / f"{number}_sat.jpg", number)
        values = values_of([0, 255], number)
        save(folder / "gt" / f"{number}_mask.png", np.dstack([values] * 3))
        source.pixels[f"{number}_sat"] = meaning(values, {0: "ground", 255: "road"})
    return source


def roboflow(folder: Path) -> Source:
    source = Source(folder, classes=("background", "car"))
    for split, kept in (("train", "train"), ("valid", "val"), ("test", "test")):
        id = f"{split}_jpg.rf.0123"
        image(folder / split / f"{id}.jpg")
        values = values_of([0, 1], 0)
        save(folder / split / f"{id}_mask.png", values)
        (folder / split / "_classes.csv").write_text("Pixel Value, Class\n0, background\n1, car\n")
        source.pixels[f"{kept}/{id}"] = meaning(values, {0: "background", 1: "car"})
        source.splits[kept] = {f"{kept}/{id}"}
    return source


def listed(folder: Path) -> Source:
    """Colours by `labels.json`, lists with two columns, folders that only `--labels` tells."""
    colours = {(255, 0, 0): "roof", (0, 0, 255): "lawn", (9, 9, 9): None}
    source = Source(folder, ("--labels", "coloured", "--void", "#090909"), classes=("roof", "lawn"))
    for number in range(4):
        image(folder / "plain" / f"{number}.tif", number)
        values = values_of(list(colours), number)
        save(folder / "coloured" / f"{number}.png", values)
        source.pixels[f"plain/{number}"] = meaning(values, colours)
    (folder / "labels.json").write_text(
        '{"labels": [{"name": "roof", "color": [255, 0, 0]}, {"name": "lawn", "color": "#0000ff"}]}'
    )
    (folder / "train.txt").write_text("/x/plain/0.tif /x/coloured/0.png\n/x/plain/1.tif y\n")
    (folder / "test.txt").write_text("2.tif\n")
    source.splits = {"train": {"plain/0", "plain/1"}, "test": {"plain/2"}}
    return source


def same_names(folder: Path) -> Source:
    """PNGs of ids beside photographs of the same names."""
    return one_folder(folder, suffix="")


def _boxes(number: int) -> tuple[np.ndarray, list[tuple[int, int, int, int]]]:
    """Ids of two boxes (1 and 2) on 0, and left, top, right, bottom of each."""
    values = np.zeros((HEIGHT, WIDTH), np.uint8)
    boxes = [(3 + number, 4, 20, 17), (22, 10 + number, 44, 36)]
    for id, (left, top, right, bottom) in enumerate(boxes, start=1):
        values[top:bottom, left:right] = id
    return values, boxes


def coco(folder: Path) -> Source:
    """Polygons, and run lengths by columns, in one file beside `images/`."""
    source = Source(folder, ("--background", "ground"), classes=("car", "tree", "ground"))
    images, things = [], []
    for number in range(6):
        image(folder / "images" / f"{number}.jpg", number)
        images.append(
            {"id": number, "file_name": f"{number}.jpg", "height": HEIGHT, "width": WIDTH}
        )
        values, boxes = _boxes(number)
        left, top, right, bottom = boxes[0]
        polygon = [[left, top, right, top, right, bottom, left, bottom]]
        columns = np.concatenate([[0], values.T.ravel() == 2, [0]]).astype(int)
        starts = np.flatnonzero(np.diff(columns))
        counts = np.diff(np.concatenate([[0], starts, [values.size]])).tolist()
        runs = {"size": [HEIGHT, WIDTH], "counts": counts}
        for category, outline in ((3, polygon), (7, runs)):
            things.append({
                "id": len(things), "image_id": number, "category_id": category,
                "segmentation": outline, "iscrowd": 0, "area": 1, "bbox": [0, 0, 1, 1],
            })  # fmt: skip
        source.pixels[str(number)] = meaning(values, {0: "ground", 1: "car", 2: "tree"})
    tree = {
        "images": images, "annotations": things,
        "categories": [{"id": 3, "name": "car"}, {"id": 7, "name": "tree"}],
    }  # fmt: skip
    (folder / "instances.json").write_text(json.dumps(tree))
    return source


def labelme(folder: Path) -> Source:
    """A file for each image, with rectangles."""
    source = Source(folder, ("--background", "void"), classes=("car", "tree"))
    for number in range(6):
        image(folder / f"{number}.jpg", number)
        values, boxes = _boxes(number)
        # labelme's corners are pixels that belong to the shape.
        shapes = [
            {"label": label, "points": [[left, top], [right - 1, bottom - 1]],
             "shape_type": "rectangle", "flags": {}, "group_id": None}
            for label, (left, top, right, bottom) in zip(source.classes, boxes, strict=True)
        ]  # fmt: skip
        tree = {
            "version": "5.5.0", "flags": {}, "shapes": shapes, "imagePath": f"{number}.jpg",
            "imageData": None, "imageHeight": HEIGHT, "imageWidth": WIDTH,
        }  # fmt: skip
        (folder / f"{number}.json").write_text(json.dumps(tree))
        source.pixels[str(number)] = meaning(values, {0: None, 1: "car", 2: "tree"})
    return source


def hugging_face(folder: Path) -> Source:
    """As `datasets` itself saves it."""
    # Here, as it takes seconds.
    from datasets import Dataset, DatasetDict, Features
    from datasets import Image as Picture

    names = folder.parent / f"{folder.name}-names.txt"
    names.write_text("\n".join(SCENERY))
    source = Source(folder, ("--classes", str(names)), classes=SCENERY)
    tables = {}
    for split, numbers in (("train", range(5)), ("test", range(5, 7))):
        rows: dict[str, list] = {"image": [], "mask": []}
        for place, number in enumerate(numbers):
            values = values_of([0, 1, 2], number)
            noise = np.random.default_rng(number).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
            rows["image"].append(Image.fromarray(noise))
            rows["mask"].append(Image.fromarray(values))
            id = f"{split}/{place:06}"
            source.pixels[id] = meaning(values, dict(enumerate(SCENERY)))
            source.splits.setdefault(split, set()).add(id)
        features = Features({"image": Picture(), "mask": Picture()})
        tables[split] = Dataset.from_dict(rows, features=features)
    DatasetDict(tables).save_to_disk(str(folder))
    return source


SOURCES: dict[str, tuple[str, Callable[[Path], Source]]] = {
    "voc": ("voc", voc),
    "cityscapes": ("cityscapes", cityscapes),
    "camvid": ("camvid", camvid),
    "camvid copy": ("camvid", camvid_copy),
    "camvid ids": ("camvid", camvid_ids),
    "ade20k": ("ade20k", ade20k),
    "one folder": ("pairs", one_folder),
    "two folders": ("pairs", two_folders),
    "binary": ("pairs", binary),
    "roboflow": ("pairs", roboflow),
    "listed": ("pairs", listed),
    "same names": ("pairs", same_names),
    "coco": ("coco", coco),
    "labelme": ("labelme", labelme),
    "hugging face": ("hugging-face", hugging_face),
}
"""From a name to the format that must be recognised, and the function that makes the source."""


def made(name: str, folder: Path) -> Source:
    """Make a source."""
    folder.mkdir(parents=True, exist_ok=True)
    return SOURCES[name][1](folder)
