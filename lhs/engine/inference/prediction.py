"""`lhs predict`: label maps of images, with overlays and one table."""

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
import pyarrow as pa

from lhs.data.images import read_label_picture
from lhs.data.progress import shown
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
from lhs.engine.stages.evaluation import folder_files, png
from lhs.engine.storage import Storage, explained
from lhs.errors import UserError
from lhs.evaluation.model import WEIGHTS
from lhs.evaluation.overlay import label_overlay
from lhs.report.figures import legend, to_png

if TYPE_CHECKING:
    import torch

    from lhs.evaluation.model import Model
    from lhs.networks.precision import Precision

logger = logging.getLogger("lhs")

BATCH = 4
"""Images sent to a model at a time: photographs may be large."""
FEW = 50
"""Images that are labelled in this process: on two cores Ray takes 20 s to start for them."""
ENDINGS = {".png": "label map", "_overlay.png": "overlay", "_probabilities.npy": "probabilities"}
SETTINGS, TABLE, LEGEND = "predict.json", "pixels.csv", "legend.png"


def predict_files(
    model: Path,
    images: list[str],
    out: str,
    options: PredictOptions | None = None,
    workers: int | None = None,
) -> int:
    """Label images; unreadable ones are reported, and all others labelled.

    An image's label map is written last, atomically: an image that has one is not labelled again.

    Parameters
    ----------
    model
        A model folder.
    images
        Files, folders, patterns, URIs.
    out
        Folder or URI that gets, for each image, `NAME.png` (ids), `NAME_overlay.png` and, where
        asked for, `NAME_probabilities.npy` (L, H, W) float16; and once `pixels.csv` (pixels of each
        class in each image), `legend.png` and `predict.json` (by which model, and how).
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
    sources, storage = find_sources(images), Storage(out)
    _nothing_replaced(sources, storage)
    opened = load_model_for(model, options)
    files = folder_files(model)
    gpu = wants_gpu("auto")
    precision = precision_on("auto", gpu, "evaluation.precision")
    storage.make_folder(storage.path())
    _same_settings(storage, files, options, precision)
    here = not_started() and len(sources) <= FEW and workers is None
    stored = (StoredModel if here else stored_model)(
        files, options.stride, precision, options.class_scores
    )
    job = _LabelJob(stored, storage, options, opened.colours)
    table = _labelled(job, sources, gpu, workers, here=here)
    bad = [row for row in table if row["error"]]
    for row in bad:
        logger.warning(f"lhs: {row['error']}")
    done = [row for row in table if not row["error"]]
    _write_summary(storage, done, opened.classes, opened.colours)
    kept = sum(row["kept"] for row in done)
    print(
        f"{len(done)} images labelled{f' ({kept} of them before)' * bool(kept)}, "
        f"{len(bad)} not readable; results in {out}"
    )
    return 2 if bad else 0


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
    for single in (TABLE, LEGEND, SETTINGS):
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
    """One row per image: name, kept, error, counts of each class."""
    ordered, title = sorted(sources, key=lambda source: source.name), "images labelled"
    if here:
        with shown(title, len(ordered)) as show, explained(job.storage.uri):
            rows = in_this_process(job, ordered, show, batch=BATCH)
        return sorted(rows, key=lambda row: str(row["name"]))
    with followed(title, len(ordered)) as progress, explained(job.storage.uri):
        rows = over_images(job, ordered, progress, batch=BATCH, gpu=gpu, models=workers).take_all()
    return sorted(rows, key=lambda row: str(row["name"]))


_SCHEMA = pa.schema(
    [
        ("name", pa.string()),
        ("kept", pa.bool_()),
        ("error", pa.string()),
        ("counts", pa.list_(pa.int64())),
    ]
)


@dataclass(frozen=True)
class _LabelJob(ImageJob):
    """Label image files; an image's label map is written last."""

    model: StoredModel
    storage: Storage
    options: PredictOptions
    colours: np.ndarray

    schema = _SCHEMA

    def done(self, item: Source) -> bool:
        return self.storage.exists(self._target(item))

    def read(self, item: Source) -> Arrays:
        return {IMAGE: item.read()}

    def load(self, device: torch.device) -> Model:
        return self.model.load(device)

    def compute(self, model: Model, images: Sequence[Arrays]) -> list[Arrays]:
        pixels = [one[IMAGE] for one in images]
        plain = PredictOptions(stride=self.options.stride, class_scores=self.options.class_scores)
        if self.options == plain:
            labels = [one.cpu().numpy() for one in model.label_batch(pixels)]
            return [{IMAGE: a, "labels": b} for a, b in zip(pixels, labels, strict=True)]
        found: list[Arrays] = []
        for prediction in predict_with_tta(model, pixels, self.options):
            arrays = {IMAGE: prediction.image, "labels": prediction.label_map}
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
        overlay = label_overlay(arrays[IMAGE], arrays["labels"], self.colours, void=65535)
        self.storage.replace(f"{path}_overlay.png", png(overlay))
        self.storage.replace(self._target(item), png(arrays["labels"]))
        return self._row(item, arrays["labels"], kept=False)

    def write_done(self, item: Source) -> dict[str, Any]:
        target = self._target(item)
        content = io.BytesIO(self.storage.read(target))
        return self._row(item, read_label_picture(target, content=content), kept=True)

    def write_failed(self, item: Source, error: str) -> dict[str, Any]:
        return {"name": item.name, "kept": False, "error": error, "counts": []}

    def _target(self, item: Source) -> str:
        return self.storage.path(f"{item.name}.png")

    def _row(self, item: Source, labels: np.ndarray, *, kept: bool) -> dict[str, Any]:
        counts = np.bincount(labels.ravel(), minlength=len(self.colours))
        return {"name": item.name, "kept": kept, "error": "", "counts": counts}


def _write_summary(
    storage: Storage, rows: list[dict[str, Any]], classes: tuple[str, ...], colours: np.ndarray
) -> None:
    """Write the table and the legend of all labelled images."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["image", "class", "pixels", "share"])
    for row in rows:
        counts = np.asarray(row["counts"])
        for label in np.flatnonzero(counts).tolist():
            share = counts[label] / counts.sum()
            table.writerow([row["name"], classes[label], int(counts[label]), f"{share:.6f}"])
    storage.replace(storage.path(TABLE), text.getvalue().encode())
    if rows:
        present = np.flatnonzero(np.sum([row["counts"] for row in rows], axis=0))
        figure = legend(classes, colours, present.tolist())
        storage.replace(storage.path(LEGEND), to_png(figure))
