"""COCO-Stuff: its `stuffthingmaps`, a PNG of ids for each image of COCO's train2017 and val2017."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from lhs.data.images import read_label_picture
from lhs.data.importing.files import some, split_of
from lhs.data.importing.found import Found, Item, Options
from lhs.errors import UserError

NAME = "coco-stuff"
SPLITS = ("train2017", "val2017")
# Ids 1..182 of labels.txt in github.com/nightrome/cocostuff; a map stores the id less one.
LABELS = """
person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light, fire hydrant,
street sign, stop sign, parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear,
zebra, giraffe, hat, backpack, umbrella, shoe, eye glasses, handbag, tie, suitcase, frisbee, skis,
snowboard, sports ball, kite, baseball bat, baseball glove, skateboard, surfboard, tennis racket,
bottle, plate, wine glass, cup, fork, knife, spoon, bowl, banana, apple, sandwich, orange, broccoli,
carrot, hot dog, pizza, donut, cake, chair, couch, potted plant, bed, mirror, dining table, window,
desk, toilet, door, tv, laptop, mouse, remote, keyboard, cell phone, microwave, oven, toaster, sink,
refrigerator, blender, book, clock, vase, scissors, teddy bear, hair drier, toothbrush, hair brush,
banner, blanket, branch, bridge, building-other, bush, cabinet, cage, cardboard, carpet,
ceiling-other, ceiling-tile, cloth, clothes, clouds, counter, cupboard, curtain, desk-stuff, dirt,
door-stuff, fence, floor-marble, floor-other, floor-stone, floor-tile, floor-wood, flower, fog,
food-other, fruit, furniture-other, grass, gravel, ground-other, hill, house, leaves, light, mat,
metal, mirror-stuff, moss, mountain, mud, napkin, net, paper, pavement, pillow, plant-other,
plastic, platform, playingfield, railing, railroad, river, road, rock, roof, rug, salad, sand, sea,
shelf, sky-other, skyscraper, snow, solid-other, stairs, stone, straw, structural-other, table,
tent, textile-other, towel, tree, vegetable, wall-brick, wall-concrete, wall-other, wall-panel,
wall-stone, wall-tile, wall-wood, water-other, waterdrops, window-blind, window-other, wood
"""
NAMES = dict(enumerate(" ".join(LABELS.split()).split(", ")))
UNUSED = {
    "blender", "desk", "door", "eye glasses", "hair brush", "hat", "mirror", "plate", "shoe",
    "street sign", "window",
}  # fmt: skip
"""Classes of COCO that have no segmentation, as the dataset's README lists them."""
VOID = 255


def recognise(source: Path, options: Options) -> str | None:
    """Look for folders train2017 or val2017 of PNGs beside such folders of images."""
    splits = [split for split in SPLITS if all(_folders(source, split))]
    if not splits:
        return None
    return f"PNGs and images named by COCO's twelve digits in folders {' and '.join(splits)}"


def read(source: Path, options: Options) -> Found:
    """List the images that have a map.

    Raises
    ------
    UserError
        If there are none, or two folders may hold the maps of a split.
    """
    items, notes = [], []
    for split in SPLITS:
        labels, images = _folders(source, split)
        if len(labels) > 1 or len(images) > 1:
            raise UserError(
                f"{source}: {some([*labels, *images], 5)}: needed is one folder {split} of maps "
                "and one of images; give --format, or a folder with these alone"
            )
        if not labels or not images:
            continue
        maps = {path.stem: path for path in sorted(labels[0].glob("*.png"))}
        photos = {path.stem: path for path in images[0].glob("*.jpg")}
        items += [
            Item(f"{split}/{id}", photos[id], partial(read_label_picture, path), split_of(split))
            for id, path in maps.items()
            if id in photos
        ]
        alone = len(photos.keys() - maps.keys()), len(maps.keys() - photos.keys())
        if any(alone):
            notes.append(f"{split}: {alone[0]} images without a map, {alone[1]} PNGs without image")
    if not items:
        raise UserError(
            f"{source}: no map has its image; needed: folders train2017 or val2017 of PNGs "
            "(stuffthingmaps_trainval2017.zip) and of images"
        )
    notes.append(
        f"ids dropped, as COCO-Stuff has no pixel of them: "
        f"{', '.join(f'{id} ({name})' for id, name in NAMES.items() if name in UNUSED)}"
    )
    return Found(
        NAME,
        recognise(source, options) or "",
        tuple(items),
        {id: name for id, name in NAMES.items() if name not in UNUSED},
        frozenset({VOID, *options.void}),
        notes=tuple(notes),
    )


def _folders(source: Path, split: str) -> tuple[list[Path], list[Path]]:
    """The folders of a split's maps, and those of its images."""
    found = [path for above in ("", "*/", "*/*/") for path in sorted(source.glob(above + split))]
    digits = "[0-9]" * 12
    return (
        [path for path in found if next(path.glob(f"{digits}.png"), None)],
        [path for path in found if next(path.glob(f"{digits}.jpg"), None)],
    )
