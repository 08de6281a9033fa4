"""`lhs predict`: label maps of images, with pictures of them, one table and one page."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
from PIL import Image

from lhs.data.images import read_label_picture
from lhs.data.progress import shown
from lhs.engine.inference.overview import BESIDE, OVERVIEW, stored_panels, write_overview
from lhs.engine.inference.sources import Source, find_sources
from lhs.engine.inference.tta import PredictOptions, load_model_for, predict_with_tta
from lhs.engine.runtime.cluster import not_started
from lhs.engine.runtime.devices import precision_on
from lhs.engine.runtime.model_pool import (
    IMAGE,
    Arrays,
    ImageJob,
    StoredModel,
    in_this_process,
    over_images,
    stored_model,
)
from lhs.engine.runtime.progress import followed
from lhs.engine.runtime.resources import wants_gpu
from lhs.engine.stages.checked_scenes import MOST_LISTED
from lhs.engine.stages.evaluation import folder_files, png
from lhs.engine.storage import Storage, explained
from lhs.errors import BadImageError, UserError
from lhs.evaluation.model import WEIGHTS
from lhs.evaluation.overlay import label_overlay
from lhs.report.figures import legend, to_png
from lhs.report.predicted import side_by_side
from lhs.report.wording import share as percent

if TYPE_CHECKING:
    import torch

    from lhs.evaluation.model import Model
    from lhs.networks.precision import Precision

logger = logging.getLogger("lhs")

BATCH = 4
"""Images sent to a model at a time: photographs may be large."""
FEW = 50
"""Images that are labelled in this process: on two cores Ray takes 20 s to start for them."""
ENDINGS = (".png", "_overlay.png", BESIDE, "_probabilities.npy")
"""Of an image's results."""
SETTINGS, TABLE, LEGEND = "predict.json", "pixels.csv", "legend.png"
COLUMNS = ["image", "class", "pixels", "share"]
"""Of the table."""
MOST_NAMED = 3
"""Classes in an image's line."""
SOURCE = "source_sha256"
"""Text in a label map: the digest of the image file that it was made from."""


def predict_files(
    model: Path,
    images: list[str],
    out: str,
    options: PredictOptions | None = None,
    workers: int | None = None,
) -> int:
    """Label images; unreadable ones are reported, and all others labelled.

    An image's label map is written last, atomically, with the digest of the image file: an image
    that has one of this digest is not labelled again.

    Parameters
    ----------
    model
        A model folder.
    images
        Files, folders, patterns, URIs.
    out
        Folder or URI that gets, for each image, `NAME.png` (ids, with the classes' colours as
        palette), `NAME_overlay.png`, `NAME_side_by_side.png` and, where asked for,
        `NAME_probabilities.npy` (L, H, W) float16; and once `pixels.csv` (pixels of each class in
        each image, also of earlier calls), `overview.html`, `legend.png` and `predict.json` (by
        which model, and how).
    options
        How to label them; None for the defaults.
    workers
        Most models at once; None for one per GPU, or one per node without GPUs.

    Returns
    -------
    int
        Exit code: 2 if an image could not be read.

    Raises
    ------
    UserError
        If `out` can't be written, holds results of another model or other settings, or a result
        would replace another or an image.
    """
    options = options or PredictOptions()
    sources, storage = find_sources(images), Storage(out, "--out")
    _nothing_replaced(sources, storage)
    opened = load_model_for(model, options)
    files = folder_files(model)
    gpu = wants_gpu("auto")
    precision = precision_on("auto", gpu, "evaluation.precision")
    storage.make_folder(storage.path())
    _same_settings(storage, files, options, precision)
    # Before any work: a file that is in the table's place.
    _table(storage)
    here = not_started() and len(sources) <= FEW and workers is None
    stored = (StoredModel if here else stored_model)(
        files, options.stride, precision, options.class_scores
    )
    image_range = opened.description.image_range
    job = _LabelJob(stored, storage, options, opened.classes, opened.colours, image_range)
    table = _labelled(job, sources, gpu, workers, here=here)
    bad = [row for row in table if row["error"]]
    for row in bad:
        logger.warning(f"lhs: {row['error']}")
    done = [row for row in table if not row["error"]]
    replaced = [str(row["name"]) for row in done if row["replaced"]]
    if replaced:
        more = f" and {len(replaced) - MOST_LISTED} more" * (len(replaced) > MOST_LISTED)
        logger.warning(
            f"{len(replaced)} label maps in {out} were of other or changed images, or of an "
            f"earlier version, and are replaced: {', '.join(replaced[:MOST_LISTED])}{more}"
        )
    _write_summary(storage, done, opened.classes, opened.colours)
    for row in done:
        print(_line(row, opened.classes))
    kept = sum(row["kept"] for row in done)
    print(
        f"{len(done)} images labelled{f' ({kept} of them before)' * bool(kept)}, "
        f"{len(bad)} not readable; results in {out}"
    )
    if done:
        print(f"look at {storage.address(storage.path(OVERVIEW))}")
    return 2 if bad else 0


def _line(row: Mapping[str, Any], classes: Sequence[str]) -> str:
    """An image's name, most frequent classes and confidence."""
    counts = np.asarray(row["counts"])
    first = np.argsort(-counts, kind="stable")[:MOST_NAMED].tolist()
    found = [f"{classes[label]} {percent(counts[label] / counts.sum())}"
             for label in first if counts[label]]  # fmt: skip
    sure = "" if row["confidence"] is None else f"; confidence {row['confidence']:.2f}"
    return f"{row['name']}: {', '.join(found)}{sure}{'; labelled before' * bool(row['kept'])}"


def _nothing_replaced(sources: list[Source], storage: Storage) -> None:
    results: dict[str, str] = {}
    for source in sources:
        for ending in ENDINGS:
            other = results.setdefault(f"{source.name}{ending}", source.address)
            if other != source.address:
                raise UserError(
                    f"results of {other} and {source.address} would overwrite each other: "
                    f"{source.name}{ending}; label them into folders of their own, or give the "
                    "folder above both"
                )
    for single in (TABLE, LEGEND, SETTINGS, OVERVIEW):
        if single in results:
            raise UserError(f"{results[single]}: its result would be {single}, which is taken")
    if storage.local:
        taken = {str(Path(s.address).resolve()) for s in sources if "://" not in s.address}
        root = Path(storage.root).resolve()
        for result in results:
            if str(root / result) in taken:
                raise UserError(
                    f"--out {storage.uri}: {result} is an image to label, "
                    "its result would replace it"
                )


def _same_settings(
    storage: Storage, files: Mapping[str, bytes], options: PredictOptions, precision: Precision
) -> None:
    """Refuse a folder with results of another model or other options."""
    own = {"model": hashlib.sha256(files.get(WEIGHTS, b"")).hexdigest(), **asdict(options)}
    # The stored name, from before the option was renamed.
    own["every"] = own.pop("stride")
    if precision != "float32":
        own["precision"] = precision
    # Not in the files of earlier versions.
    if options.class_scores == "w":
        del own["class_scores"]
    own = json.loads(json.dumps(own))
    path = storage.path(SETTINGS)
    if storage.exists(path):
        try:
            before = storage.read_json(path)
        except ValueError:
            before = {}
        if before != own:
            before = before if isinstance(before, dict) else {}
            differ = [key for key in {**own, **before} if before.get(key) != own.get(key)]
            names = ", ".join("stride" if key == "every" else key for key in differ)
            raise UserError(
                f"--out {storage.uri}: holds results with another {names} "
                f"({SETTINGS}); choose another folder, or delete this one"
            )
        return
    storage.write_json(path, own)


def _labelled(
    job: _LabelJob, sources: list[Source], gpu: bool, workers: int | None, *, here: bool
) -> list[dict[str, Any]]:
    """One row per image: name, kept, replaced, error, counts of each class, mean confidence."""
    ordered, title = sorted(sources, key=lambda source: source.name), "images labelled"
    if here:
        with shown(title, len(ordered)) as show, explained(job.storage.uri, "--out"):
            rows = in_this_process(job, ordered, show, batch=BATCH)
        return sorted(rows, key=lambda row: str(row["name"]))
    with followed(title, len(ordered)) as progress, explained(job.storage.uri, "--out"):
        rows = over_images(job, ordered, progress, batch=BATCH, gpu=gpu, models=workers).take_all()
    return sorted(rows, key=lambda row: str(row["name"]))


_SCHEMA = pa.schema(
    [
        ("name", pa.string()),
        ("kept", pa.bool_()),
        ("replaced", pa.bool_()),
        ("error", pa.string()),
        ("counts", pa.list_(pa.int64())),
        ("confidence", pa.float64()),
    ]
)


@dataclass(frozen=True)
class _LabelJob(ImageJob):
    """Label image files; an image's label map is written last."""

    model: StoredModel
    storage: Storage
    options: PredictOptions
    classes: tuple[str, ...]
    colours: np.ndarray
    image_range: tuple[float, float] | None

    schema = _SCHEMA

    def done(self, item: Source) -> bool:
        target = self._target(item)
        if not self.storage.exists(target):
            return False
        try:
            return _source_of(self.storage.read(target)) == _digest(item.content()).hex()
        except BadImageError:
            # `read` reports it.
            return False

    def read(self, item: Source) -> Arrays:
        content = item.content()
        return {
            IMAGE: item.read(content, self.image_range),
            SOURCE: np.frombuffer(_digest(content), np.uint8),
        }

    def load(self, device: torch.device) -> Model:
        return self.model.load(device)

    def compute(self, model: Model, images: Sequence[Arrays]) -> list[Arrays]:
        found = self._labelled(model, images)
        return [{**a, SOURCE: b[SOURCE]} for a, b in zip(found, images, strict=True)]

    def _labelled(self, model: Model, images: Sequence[Arrays]) -> list[Arrays]:
        pixels = [one[IMAGE] for one in images]
        found: list[Arrays] = []
        for prediction in predict_with_tta(model, pixels, self.options):
            sure = np.rint(255 * prediction.confidence).astype(np.uint8)
            arrays = {
                IMAGE: prediction.image, "labels": prediction.label_map, "confidence": sure,
            }  # fmt: skip
            if self.options.probabilities:
                arrays["probabilities"] = prediction.probabilities.astype(np.float16)
            found.append(arrays)
        return found

    def write(self, item: Source, arrays: Arrays) -> dict[str, Any]:
        path = self.storage.path(item.name)
        if "/" in item.name:
            self.storage.make_folder(path.rpartition("/")[0])
        if self.options.probabilities:
            stream = io.BytesIO()
            np.save(stream, arrays["probabilities"])
            self.storage.replace(f"{path}_probabilities.npy", stream.getvalue())
        image, labels, sure = arrays[IMAGE], arrays["labels"], arrays["confidence"]
        overlay = label_overlay(image, labels, self.colours, void=65535)
        self.storage.replace(f"{path}_overlay.png", png(overlay))
        beside = side_by_side(image, labels, sure, self.classes, self.colours)
        self.storage.replace(f"{path}{BESIDE}", beside)
        target = self._target(item)
        replaced = self.storage.exists(target)
        source = arrays[SOURCE].tobytes().hex()
        self.storage.replace(target, png(labels, self.colours, **{SOURCE: source}))
        confidence = float(sure.mean()) / 255
        return self._row(item, labels, confidence, kept=False) | {"replaced": replaced}

    def write_done(self, item: Source) -> dict[str, Any]:
        target = self._target(item)
        content = io.BytesIO(self.storage.read(target))
        panels = stored_panels(self.storage, item.name)
        confidence = None if panels is None else panels.mean
        return self._row(item, read_label_picture(target, content=content), confidence, kept=True)

    def accepts(self, error: UserError) -> bool:
        return True

    def write_failed(self, item: Source, error: str) -> dict[str, Any]:
        return {
            "name": item.name, "kept": False, "replaced": False, "error": error, "counts": [],
            "confidence": None,
        }  # fmt: skip

    def _target(self, item: Source) -> str:
        return self.storage.path(f"{item.name}.png")

    def _row(
        self, item: Source, labels: np.ndarray, confidence: float | None, *, kept: bool
    ) -> dict[str, Any]:
        counts = np.bincount(labels.ravel(), minlength=len(self.colours))
        return {
            "name": item.name, "kept": kept, "replaced": False, "error": "", "counts": counts,
            "confidence": confidence,
        }  # fmt: skip


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


def _source_of(label_map: bytes) -> str:
    """The digest of the image that a stored label map was made from; empty if it does not say."""
    try:
        with Image.open(io.BytesIO(label_map), formats=["PNG"]) as picture:
            return str(picture.info.get(SOURCE, ""))
    except (OSError, SyntaxError, ValueError):
        # Damaged: made again.
        return ""


def _write_summary(
    storage: Storage, rows: list[dict[str, Any]], classes: tuple[str, ...], colours: np.ndarray
) -> None:
    """Write the table, the legend and the page of all labelled images, also of earlier calls."""
    now = {str(row["name"]) for row in rows}
    lines = [line for line in _table(storage) if line[0] not in now]
    for row in rows:
        counts = np.asarray(row["counts"])
        for label in np.flatnonzero(counts).tolist():
            share = counts[label] / counts.sum()
            lines.append([row["name"], classes[label], str(counts[label]), f"{share:.6f}"])
    text = io.StringIO()
    # A stable sort: the classes of an image keep their order.
    lines.sort(key=lambda line: line[0])
    csv.writer(text, lineterminator="\n").writerows([COLUMNS, *lines])
    storage.replace(storage.path(TABLE), text.getvalue().encode())
    if lines:
        named = {line[1] for line in lines}
        present = [label for label, name in enumerate(classes) if name in named]
        numbered = [f"{label} {name}" for label, name in enumerate(classes)]
        storage.replace(storage.path(LEGEND), to_png(legend(numbered, colours, present)))
        write_overview(storage, pd.DataFrame(lines, columns=COLUMNS), classes, colours)


def _table(storage: Storage) -> list[list[str]]:
    """The rows of the stored table, if there is one.

    Raises
    ------
    UserError
        If it is not such a table: what is in it would be lost.
    """
    path = storage.path(TABLE)
    if not storage.exists(path):
        return []
    lines = list(csv.reader(io.StringIO(storage.read(path).decode("utf-8", "replace"), newline="")))
    if lines[:1] != [COLUMNS] or any(len(line) != len(COLUMNS) for line in lines):
        raise UserError(
            f"{storage.address(path)}: found a file that is not a table with the columns "
            f"{','.join(COLUMNS)}; move it away, or choose another --out"
        )
    return lines[1:]
