"""Finished runs as files for a repository: settings, digests, and the counts of every test image.

A folder of them has `DATASET/RUN.json`, and `DATASET/protocol.json`: the runs that are planned, and
the contrasts that they are for.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from lhs.errors import UserError
from lhs.sweeps import FOLD, SEED
from lhs.untrusted import parse_json

PROTOCOL = "protocol.json"
SCHEMA = 1


@dataclass(frozen=True, kw_only=True)
class KeptRun:
    """A finished run, as a repository keeps it.

    Attributes
    ----------
    run, variant
        Its name, and what it is called in tables.
    dataset, classes
        What it was trained for.
    settings
        All settings by dotted name, but for the places of data and storage.
    digests
        Of `data`, `hierarchy` and `weights`; None for what it did without.
    versions, device
        Of what trained the network; empty if that was not recorded.
    seconds
        What each stage took.
    steps
        Of the training.
    evaluation
        Key of the evaluation.
    images
        N ids of the test images.
    counts
        (N, L, L) int64, rows truth.
    """

    run: str
    variant: str
    dataset: str
    classes: Sequence[str]
    settings: Mapping[str, Any]
    digests: Mapping[str, str | None]
    versions: Mapping[str, str]
    device: str
    seconds: Mapping[str, float]
    steps: int
    evaluation: str
    images: Sequence[str]
    counts: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Planned:
    """What the runs of a dataset are for.

    Attributes
    ----------
    runs
        Variant, seed and fold (None without) of each planned run.
    primary, further
        Pairs of variants that are compared; p-values are given for the primary ones.
    """

    runs: Sequence[tuple[str, int, int | None]] = ()
    primary: Sequence[tuple[str, str]] = ()
    further: Sequence[tuple[str, str]] = ()


def write_run(folder: Path, kept: KeptRun) -> Path:
    """Write a run below a folder; returns the file."""
    stanford = kept.settings["data.dataset"] == "stanford"
    head = {
        "schema": SCHEMA,
        "seed": kept.settings[SEED],
        "fold": kept.settings[FOLD] if stanford else None,
    }
    path = folder / kept.dataset / f"{kept.run}.json"
    _write(path, {**head, **vars(kept), "counts": packed(kept.counts)})
    return path


def read_runs(folder: Path) -> list[KeptRun]:
    """The runs of one dataset's folder, by name; none where there is no folder.

    Raises
    ------
    UserError
        If a file is damaged or from a later version.
    """
    paths = sorted(path for path in folder.glob("*.json") if path.name != PROTOCOL)
    return [_read(path) for path in paths]


def _read(path: Path) -> KeptRun:
    try:
        tree = parse_json(path.read_bytes())
        if not isinstance(tree, dict):
            raise ValueError("found no JSON object")
        needed = ("schema", "seed", "fold", *(field.name for field in fields(KeptRun)))
        if lacking := [name for name in needed if name not in tree]:
            raise ValueError(f"it has no {', '.join(lacking)}")
        if tree.pop("schema") != SCHEMA:
            raise ValueError(f"its schema is not {SCHEMA}: it is from another version")
        del tree["seed"], tree["fold"]
        tree["counts"] = unpacked(tree["counts"], len(tree["images"]), len(tree["classes"]))
        return KeptRun(**tree)
    except (ValueError, TypeError, LookupError, AttributeError, zlib.error) as error:
        raise UserError(f"{path}: not readable as a kept run: {error}") from None


def packed(counts: np.ndarray) -> str:
    """Counts (N, L, L) as text: the gaps between cells that are not zero, and their pixels.

    As bytes of equal rank one after the other, most of them zero, then zlib and base64.
    """
    cells = np.flatnonzero(counts)
    words = np.concatenate([np.diff(cells, prepend=0), counts.ravel()[cells]]).astype("<u4")
    planes = words.view(np.uint8).reshape(-1, 4).T
    return base64.b64encode(zlib.compress(planes.tobytes(), 9)).decode("ascii")


def unpacked(text: str, images: int, classes: int) -> np.ndarray:
    """What `packed` was given, (N, L, L) int64."""
    planes = np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8).reshape(4, -1)
    gaps, pixels = np.ascontiguousarray(planes.T).view("<u4").astype(np.int64).reshape(2, -1)
    counts = np.zeros(images * classes * classes, np.int64)
    counts[np.cumsum(gaps)] = pixels
    return counts.reshape(images, classes, classes)


def write_planned(folder: Path, planned: Planned) -> None:
    """Write what is planned into a dataset's folder."""
    _write(folder / PROTOCOL, asdict(planned), indent=None)


def read_planned(folder: Path) -> Planned:
    """What is planned in a dataset's folder; nothing where it does not say."""
    path = folder / PROTOCOL
    if not path.is_file():
        return Planned()
    tree = parse_json(path.read_bytes())
    return Planned(**{key: tuple(map(tuple, rows)) for key, rows in tree.items()})


def _write(path: Path, tree: Mapping[str, Any], indent: int | None = 1) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Whole or not at all: a killed sweep leaves no half file.
        beside = path.with_suffix(".part")
        beside.write_text(json.dumps(tree, indent=indent) + "\n", encoding="utf-8")
        beside.replace(path)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}") from None
