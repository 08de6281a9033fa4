"""`lhs data import`: from a source of any format to a plain folder; it prints text for people."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import psutil

import lhs
from lhs.data.archive import file_errors
from lhs.data.file_cache import cache_folder
from lhs.data.importing.classes import Classes, resolve, table_lines
from lhs.data.importing.counting import Counted, check_ids, count_values, sum_counts
from lhs.data.importing.formats import find, given
from lhs.data.importing.found import Found, Item, Options
from lhs.data.importing.proposal import proposed
from lhs.data.importing.splits import split_items
from lhs.data.importing.writing import check_empty, write_folder
from lhs.data.reading import map_scenes
from lhs.data.remote import RemotePath, located
from lhs.data.scenes import void_of
from lhs.data.upload import check_target, put_folder
from lhs.errors import UserError


def import_source(
    source: str | Path,
    out: str | Path,
    *,
    format: str = "auto",
    options: Options | None = None,
    test: float | None = None,
    seed: int = 0,
    group: str | None = None,
    dry_run: bool = False,
) -> int:
    """Write a source as a plain folder.

    Parameters
    ----------
    source
        Folder of the data.
    out
        The folder to make, here or in a bucket.
    format
        One of `lhs.names.IMPORT_FORMATS`, or "auto".
    options
        What can't be known from the source.
    test, seed, group
        As of `lhs.data.importing.splits.split_items`.
    dry_run
        Whether nothing is written.

    Returns
    -------
    int
        Exit code 0.

    Raises
    ------
    UserError
        If the source is damaged, or something about it is not known; the message names the file or
        the option to give.
    """
    options = options or Options()
    place, target = Path(os.path.expanduser(source)), located(os.path.expanduser(out))
    if "://" in str(source):
        raise UserError(f"{source}: the source must lie on this machine; --out may be a bucket")
    with file_errors(f"importing {place} to {target}"):
        if not place.exists():
            raise UserError(f"{place} is not there; needed is the folder of the data")
        if not place.is_dir():
            raise UserError(f"{place}: found a file, needed is a folder; unpack an archive first")
        if isinstance(target, RemotePath):
            check_target(str(target))
        elif place.resolve() in target.resolve().parents:
            raise UserError(
                f"--out {target}: lies inside the source {place}, and would be a part of it; "
                "name a folder elsewhere"
            )
        else:
            check_empty(target)
        found = find(place, format, options)
        check_ids(found.items)
        _say(f"{found.format}: {found.why}", *(f"note: {note}" for note in found.notes))
        follows = options.labels_follow_exif
        counted = list(
            map_scenes(lambda item: count_values(item, follows), found.items, task="reading labels")
        )
        counts = sum_counts(counted)
        try:
            classes = resolve(found, counts, options)
        except UserError:
            _say(*table_lines(counts, found.colours, None))
            raise
        _say(*table_lines(counts, found.colours, classes))
        void = np.array([value for value, id in classes.ids.items() if id < 0], np.int64)
        labelled = [not np.isin(one.values, void).all() for one in counted]
        splits, notes = split_items(found.items, labelled, test=test, seed=seed, group=group)
        settings = _settings(found, counted, classes, splits)
        notes = [*classes.notes, *notes, *_image_notes(found.items, counted, labelled)]
        _say(", ".join(f"{len(ids)} {split}" for split, ids in splits.items()) + " images")
        if not dry_run:
            report = {
                "format": found.format, "why": found.why, "source": str(place.resolve()),
                "options": given(options), "notes": [*found.notes, *notes],
                "images": len(found.items),
                "splits": {split: len(ids) for split, ids in splits.items()},
                "classes": list(classes.names), "settings": dict(s[:2] for s in settings),
                "values": [
                    {"value": value, "class": id if id >= 0 else None, "pixels": counts[value]}
                    for value, id in classes.ids.items()
                ],
                "version": lhs.__version__,
            }  # fmt: skip
            notes += _write(target, found.items, counted, classes, splits, report)
    _say(*(f"note: {note}" for note in notes))
    if not dry_run:
        _say(f"written to {target}; look at {target / 'contact_sheet.png'}")
    width = max(len(f"{name}={value}") for name, value, _ in settings)
    _say(*(f"  {f'{name}={value}':<{width}}  {why}" for name, value, why in settings))
    _say(_run_line(target, settings))
    return 0


def _write(target: Path, *content: Any) -> list[str]:
    """As `write_folder`; for a bucket the folder is made on this machine and copied."""
    if not isinstance(target, RemotePath):
        return write_folder(target, *content)
    cache_folder().mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="importing-", dir=cache_folder()) as scratch:
        made = Path(scratch) / "folder"
        notes = write_folder(made, *content)
        put_folder(made, str(target))
    return notes


def _say(*lines: str) -> None:
    for line in lines:
        # Names of files may be no text.
        print(line.encode(errors="replace").decode())


def _image_notes(
    items: Sequence[Item], counted: Sequence[Counted], labelled: Sequence[bool]
) -> list[str]:
    notes = []
    turned = sum(one.orientation != 1 for one in counted)
    if turned:
        notes.append(f"{turned} images are written upright, as their EXIF says")
    if not all(labelled):
        notes.append(f"{labelled.count(False)} images have no labelled pixel")
    scenes = sum(bool(item.scene) for item in items)
    if 0 < scenes < len(items):
        notes.append(f"{len(items) - scenes} images have no scene name: there is no scenes.csv")
    return notes


def _settings(
    found: Found, counted: Sequence[Counted], classes: Classes, splits: Mapping[str, list[str]]
) -> list[tuple[str, str, str]]:
    """Name, value and reason of the settings for this data."""
    settings = []
    if void_of(len(classes.names)) != 255:
        settings.append(("data.folder.void", "65535", "more than 255 classes"))
    if all(item.scene for item in found.items):
        settings.append(("data.folder.scenes", "scenes.csv", "the source has scene names"))
    train = set(splits["train"])
    seen = {
        classes.ids[value]
        for item, one in zip(found.items, counted, strict=True)
        if item.id in train
        for value in one.values.tolist()
    }
    empty = [name for id, name in enumerate(classes.names) if id not in seen]
    if empty:
        more = f" and {len(empty) - 3} more" if len(empty) > 3 else ""
        why = f"no training pixel of {', '.join(empty[:3])}{more}"
        settings.append(("data.allow_empty_classes", "true", why))
    memory = psutil.virtual_memory().total // 4
    sizes = [one.size for one in counted]
    return settings + proposed(sizes, len(train), len(classes.names), memory)


def _run_line(target: Path, settings: Sequence[tuple[str, str, str]]) -> str:
    # Quotes inside the shell's, as `--set` takes YAML.
    place = str(target if isinstance(target, RemotePath) else target.resolve())
    path = json.dumps(place, ensure_ascii=False)
    if not set(" #:\"'\\{}[],&*!|>%@`") & set(path[1:-1]):
        path = path[1:-1]
    pairs = [("data.folder.path", path), *((name, value) for name, value, _ in settings)]
    return " ".join(["lhs run folder", *(f"--set {shlex.quote(f'{n}={v}')}" for n, v in pairs)])
