"""One model over many images with Ray Data: CPU tasks read, a pool of actors runs the model, CPU
tasks write. For evaluation, pseudo-labels, `lhs predict` and image embeddings."""

from __future__ import annotations

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import ray

from lhs.data.progress import Show
from lhs.engine.runtime.cluster import cluster_resources, cores, start
from lhs.engine.runtime.devices import booked_share
from lhs.engine.runtime.image_batch import ImageArrays, ImageBatch, from_table, to_table
from lhs.engine.runtime.progress import Progress
from lhs.engine.runtime.resources import models_at_once
from lhs.engine.storage import Storage
from lhs.errors import UserError
from lhs.names import ClassScores

# torch is imported in processes with a model only.
if TYPE_CHECKING:
    import torch

    from lhs.evaluation.model import Model
    from lhs.networks.precision import Precision

TASK_CPUS, MODEL_CPUS = 0.05, 0.1
"""CPUs that a task and an actor reserve: one of each kind needs a fifth of a CPU, which is free
beside two trainings on two CPUs. Their number, not their CPUs, limits how many run."""
IMAGE = "image"
"""Name of the model's input, (H, W, 3) uint8."""
Arrays = Mapping[str, np.ndarray]


class ImageJob(ABC):
    """What to do with each image. It is sent to workers, so it must hold no path of the driver.

    `read`, `compute` and `write` run one after another, each in a process of its own.

    Attributes
    ----------
    schema
        Of the rows that `write` gives.
    """

    schema: pa.Schema

    def done(self, item: Any) -> bool:
        """Whether an earlier run wrote this image's results; only for jobs that write files."""
        return False

    @abstractmethod
    def read(self, item: Any) -> Arrays:
        """Read what an image needs: the array `IMAGE` and any others.

        Raises
        ------
        UserError
            If it cannot be read; the job stops with it unless `accepts` it.
        """

    @abstractmethod
    def load(self, device: torch.device) -> Any:
        """Load the model, once per actor."""

    @abstractmethod
    def compute(self, model: Any, images: Sequence[Arrays]) -> Sequence[Arrays]:
        """Run the model on images of one size; what `write` needs of each."""

    @abstractmethod
    def write(self, item: Any, arrays: Arrays) -> dict[str, Any]:
        """Write an image's files, if any; returns its row."""

    def write_done(self, item: Any) -> dict[str, Any]:
        """The row of an image that is `done`, read from its files."""
        raise NotImplementedError

    def accepts(self, error: UserError) -> bool:
        """Whether to go on without an image that could not be read for this reason."""
        return False

    def write_failed(self, item: Any, error: str) -> dict[str, Any]:
        """The row of an image whose error was accepted."""
        raise NotImplementedError


@dataclass(frozen=True)
class StoredModel:
    """A model folder's files, in the object store or in this process.

    Attributes
    ----------
    files
        A dictionary, name to bytes, or a reference to one.
    stride, precision, class_scores
        As in `load_model`.
    stage
        The address of the stage that made it, whose folder `model` it is, for messages.
    """

    files: Any
    stride: int
    precision: Precision
    class_scores: ClassScores = "w"
    stage: str = ""

    def load(self, device: torch.device) -> Model:
        """Open the model in this process."""
        from lhs.evaluation.model import load_model

        files = self.files if isinstance(self.files, dict) else ray.get(self.files)
        with tempfile.TemporaryDirectory() as folder:
            for name, content in files.items():
                (Path(folder) / name).write_bytes(content)
            try:
                return load_model(
                    Path(folder), str(device), self.stride, self.precision, self.class_scores
                )
            except UserError as error:
                if not self.stage or folder not in str(error):
                    raise
                raise UserError(
                    f"{str(error).replace(folder, f'{self.stage}/model')}; if it is damaged, "
                    f"delete the folder {self.stage}: it is made again"
                ) from None


def stored_model(
    files: Mapping[str, bytes],
    stride: int,
    precision: Precision,
    class_scores: ClassScores = "w",
    stage: str = "",
) -> StoredModel:
    """Put a model folder's files into the object store."""
    start()
    return StoredModel(ray.put(dict(files)), stride, precision, class_scores, stage)


def model_files(storage: Storage, folder: str) -> dict[str, bytes]:
    """The files of a stored model folder, name to bytes."""
    return {name: storage.read(f"{folder}/{name}") for name in storage.list(folder)}


def over_images(
    job: ImageJob,
    items: Sequence[Any],
    progress: Progress,
    *,
    batch: int,
    gpu: bool,
    share: float = 1.0,
    models: int | None = None,
) -> ray.data.Dataset:
    """Run a job over images; one row per image, in no order.

    Batches do not depend on what is done already: the neighbours of an image in its batch can
    change its last digits, and a resumed run must give the same. A finished batch is not read; of
    an unfinished one only missing results are written. A GPU that is out of memory takes smaller
    batches, which can change last digits as well.

    Parameters
    ----------
    job
        What to do.
    items
        One per image, sorted; all are sent to workers.
    progress
        Counts finished images.
    batch
        Images sent to a model at a time.
    gpu
        Whether each model gets a GPU.
    share
        Share of a GPU for each model.
    models
        Most models at once; None for as many as the cluster holds. The pool starts with one.
    """
    batches = -(-len(items) // batch)
    fitting = models_at_once(gpu, share)
    most = max(1, min(models or fitting, batches))
    there = int(cluster_resources().get("CPU", 0))
    # Models on CPUs use all cores: one task of each kind per node is enough beside them.
    wanted = (there // 2, there // 4) if gpu else (fitting, fitting)
    # Ray Data warns of more tasks than there are batches.
    readers, writers = (max(1, min(tasks, batches)) for tasks in wanted)
    step: dict[str, Any] = {"batch_format": "pyarrow", "batch_size": 1}
    # In a list: Ray Data would replace a bare reference by its items.
    work = _Work(job, [ray.put(list(items))], batch, progress)
    # One row per batch: Ray Data may merge and split blocks of rows.
    return (
        ray.data.from_items(
            [{"batch": number} for number in range(batches)], override_num_blocks=max(1, batches)
        )
        .map_batches(
            work.read,
            compute=ray.data.TaskPoolStrategy(size=readers),
            num_cpus=TASK_CPUS,
            **step,
        )
        .map_batches(
            _ModelActor,
            compute=ray.data.ActorPoolStrategy(min_size=1, max_size=most),
            num_cpus=MODEL_CPUS,
            num_gpus=booked_share(share) if gpu else None,
            fn_constructor_kwargs={"job": job, "per_node": -(-most // fitting)},
            **step,
        )
        .map_batches(
            work.write,
            compute=ray.data.TaskPoolStrategy(size=writers),
            num_cpus=TASK_CPUS,
            **step,
        )
    )


def in_this_process(
    job: ImageJob, items: Sequence[Any], show: Show, *, batch: int
) -> list[dict[str, Any]]:
    """`over_images` without Ray, on CPUs: the same batches and steps, one after the other.

    For a few images: processes of Ray would take longer to start than the work takes.
    """
    work, actor = _Work(job, [list(items)], batch, _Counted(show)), _ModelActor(job, per_node=1)
    rows: list[dict[str, Any]] = []
    for number in range(-(-len(items) // batch)):
        rows += work.write(actor(work.read(pa.table({"batch": [number]})))).to_pylist()
    return rows


@dataclass
class _Counted:
    """What `Progress` is for workers, in this process."""

    show: Show
    finished: int = 0

    def add(self, count: int) -> None:
        """Count more finished items."""
        self.finished += count
        self.show(self.finished)


@dataclass(frozen=True)
class _Work:
    """The reading and the writing step."""

    job: ImageJob
    items: list[Any]
    batch: int
    progress: Progress | _Counted

    def read(self, table: pa.Table) -> pa.Table:
        """Read the batches whose numbers a table has."""
        return to_table(self._read(number) for number in table["batch"].to_pylist())

    def _read(self, number: int) -> ImageBatch:
        items = self._items(number)
        done = [self.job.done(item) for item in items]
        images: list[ImageArrays] = []
        for item, before in zip(items, done, strict=True):
            if all(done):
                images.append(ImageArrays(True, "", {}))
                continue
            try:
                images.append(ImageArrays(before, "", self.job.read(item)))
            except UserError as error:
                if not self.job.accepts(error):
                    raise
                images.append(ImageArrays(before, str(error), {}))
        return ImageBatch(number, images)

    def write(self, table: pa.Table) -> pa.Table:
        """Write batches; rows of the job's schema."""
        rows = []
        for found in from_table(table):
            items = self._items(found.number)
            for item, image in zip(items, found.images, strict=True):
                if image.done:
                    row = self.job.write_done(item)
                elif image.error:
                    row = self.job.write_failed(item, image.error)
                else:
                    row = self.job.write(item, image.arrays)
                rows.append(row)
                self.progress.add(1)
        return pa.Table.from_pylist(rows, schema=self.job.schema)

    def _items(self, number: int) -> list[Any]:
        """The items of a batch; a process fetches the list once."""
        [reference] = self.items
        if isinstance(reference, list):
            return reference[number * self.batch : (number + 1) * self.batch]
        key = reference.hex()
        if key not in _read_items:
            _read_items.clear()
            _read_items[key] = ray.get(reference)
        return _read_items[key][number * self.batch : (number + 1) * self.batch]


_read_items: dict[str, list[Any]] = {}


class _ModelActor:
    """An actor with a model, which is loaded for the first image that needs it."""

    def __init__(self, job: ImageJob, per_node: int) -> None:
        self.job, self.per_node = job, per_node
        self.model: Any = None
        self.together = False

    def __call__(self, table: pa.Table) -> pa.Table:
        return to_table(self._labelled(found) for found in from_table(table))

    def _labelled(self, batch: ImageBatch) -> ImageBatch:
        images = list(batch.images)
        wanted = [place for place, image in enumerate(images) if image.arrays]
        if wanted and self.model is None:
            self._load()
        for group in groups([images[n].arrays[IMAGE].shape for n in wanted], self.together):
            places = [wanted[n] for n in group]
            found = self.job.compute(self.model, [images[n].arrays for n in places])
            for place, arrays in zip(places, found, strict=True):
                # Finished images are not written again.
                kept = {} if images[place].done else arrays
                images[place] = ImageArrays(images[place].done, "", kept)
        return ImageBatch(batch.number, images)

    def _load(self) -> None:
        import torch

        from lhs.engine.runtime.devices import granted_device

        device = granted_device()
        if device.type == "cpu":
            torch.set_num_threads(max(1, cores() // self.per_node))
        # One at a time on CPUs, where batches are no faster: scores equal those of `Model.predict`.
        self.together = device.type == "cuda"
        self.model = self.job.load(device)


def groups(shapes: Sequence[tuple[int, ...]], together: bool) -> list[list[int]]:
    """Indices of images to batch: those of one size, or each alone."""
    if not together:
        return [[place] for place in range(len(shapes))]
    found: dict[tuple[int, ...], list[int]] = {}
    for place, shape in enumerate(shapes):
        found.setdefault(shape, []).append(place)
    return list(found.values())
