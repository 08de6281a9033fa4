"""`lhs predict`: Ray Data over images, a model an actor, to label maps and what goes with them."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import ray

from lhs.data.images import read_label_picture
from lhs.engine.cluster import cores
from lhs.engine.evaluation import png
from lhs.engine.looks import PLAIN, Looks, look, opened_for
from lhs.engine.progress import Progress, followed, say
from lhs.engine.sources import Source, find_sources
from lhs.engine.storage import Storage, explained
from lhs.errors import UserError
from lhs.evaluation.model import WEIGHTS, load_model
from lhs.report.figures import legend, to_png

BATCH = 4
"""Images that an actor takes at a time."""
ENDINGS = {".png": "label map", "_overlay.png": "overlay", "_probabilities.npy": "probabilities"}
SETTINGS, TABLE, LEGEND = "predict.json", "pixels.csv", "legend.png"


def predict_files(
    model: Path, images: list[str], out: str, looks: Looks = PLAIN, workers: int | None = None
) -> int:
    """Label images; what can't be read is told, the others are done.

    A label map is written last, whole or not at all: an image that has one is not labelled again.

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
    looks
        How.
    workers
        Actors with a model each; None for one a GPU, or one.

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
    sources, storage = find_sources(images), Storage(out)
    _nothing_replaced(sources, storage)
    files = {path.name: path.read_bytes() for path in model.iterdir() if path.is_file()}
    opened = opened_for(model, looks)
    storage.make_folder(storage.path())
    _same_settings(storage, files, looks)
    table = _labelled(files, sources, storage, looks, workers)
    bad = [row for row in table if row["error"]]
    for row in bad:
        say(f"lhs: {row['error']}")
    done = [row for row in table if not row["error"]]
    _tell_all(storage, done, opened.classes, opened.colours)
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


def _same_settings(storage: Storage, files: dict[str, bytes], looks: Looks) -> None:
    """Results in one folder are of one model, looked through in one way."""
    own = {"model": hashlib.sha256(files.get(WEIGHTS, b"")).hexdigest(), **asdict(looks)}
    own = json.loads(json.dumps(own))
    path = storage.path(SETTINGS)
    if storage.exists(path):
        try:
            before = storage.read_json(path)
        except ValueError:
            before = {}
        if before != own:
            differ = [
                key for key in own if not isinstance(before, dict) or before.get(key) != own[key]
            ]
            raise UserError(
                f"--out {storage.uri}: holds results with another {', '.join(differ)} "
                f"({SETTINGS}); choose another folder, or delete this one"
            )
        return
    storage.write_json(path, own)


def _labelled(
    files: dict[str, bytes],
    sources: list[Source],
    storage: Storage,
    looks: Looks,
    workers: int | None,
) -> list[dict[str, Any]]:
    """One row an image: name, kept, error, counts of each class."""
    gpus = int(ray.cluster_resources().get("GPU", 0))
    actors = min(workers or max(1, gpus), -(-len(sources) // BATCH))
    with followed("images labelled", len(sources)) as progress, explained(storage.uri):
        rows = (
            ray.data.from_items(
                [asdict(source) for source in sources],
                override_num_blocks=max(1, -(-len(sources) // BATCH)),
            )
            .map_batches(
                _Labeller,
                batch_size=BATCH,
                batch_format="pyarrow",
                compute=ray.data.ActorPoolStrategy(size=actors),
                num_cpus=1 if gpus else 0.5,
                num_gpus=1 if gpus else None,
                fn_constructor_kwargs={
                    "files": ray.put(files),
                    "storage": storage,
                    "looks": looks,
                    "threads": max(1, cores() // actors),
                    "gpu": gpus > 0,
                    "progress": progress,
                },
            )
            .take_all()
        )
    return sorted(rows, key=lambda row: str(row["name"]))


class _Labeller:
    """An actor: a model, and the images it labels."""

    def __init__(
        self,
        files: Any,
        storage: Storage,
        looks: Looks,
        threads: int,
        gpu: bool,
        progress: Progress,
    ) -> None:
        import torch

        if not gpu:
            torch.set_num_threads(threads)
        with tempfile.TemporaryDirectory() as folder:
            for name, content in ray.get(files).items():
                (Path(folder) / name).write_bytes(content)
            self.model = load_model(Path(folder), "cuda" if gpu else "cpu", looks.every)
        self.storage, self.looks, self.progress = storage, looks, progress

    def __call__(self, batch: pa.Table) -> pa.Table:
        rows = []
        for row in batch.to_pylist():
            source = Source(**row)
            out = {"name": source.name, "kept": False, "error": "", "counts": []}
            try:
                labels, out["kept"] = self._labels(source)
                out["counts"] = np.bincount(labels.ravel(), minlength=len(self.model.classes))
            except UserError as error:
                out["error"] = str(error)
            rows.append(out)
            self.progress.add(1)
        return pa.Table.from_pylist(rows, schema=_SCHEMA)

    def _labels(self, source: Source) -> tuple[np.ndarray, bool]:
        target = self.storage.path(f"{source.name}.png")
        if self.storage.exists(target):
            content = io.BytesIO(self.storage.read(target))
            return read_label_picture(target, content=content), True
        prediction = look(self.model, source.read(), self.looks)
        path = self.storage.path(source.name)
        if "/" in source.name:
            self.storage.make_folder(path.rpartition("/")[0])
        if self.looks.probabilities:
            stream = io.BytesIO()
            np.save(stream, prediction.probabilities.astype(np.float16))
            self.storage.replace(f"{path}_probabilities.npy", stream.getvalue())
        self.storage.replace(f"{path}_overlay.png", png(prediction.overlay))
        self.storage.replace(target, png(prediction.label_map))
        return prediction.label_map, False


_SCHEMA = pa.schema(
    [
        ("name", pa.string()),
        ("kept", pa.bool_()),
        ("error", pa.string()),
        ("counts", pa.list_(pa.int64())),
    ]
)


def _tell_all(
    storage: Storage, rows: list[dict[str, Any]], classes: tuple[str, ...], colours: np.ndarray
) -> None:
    """Table and legend of all images that are labelled."""
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
