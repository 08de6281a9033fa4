"""Ray Data: one model over many images. CPU tasks read, actors with the model label, CPU tasks
write; evaluation, pseudo-labels, `lhs predict` and image embeddings all run like this."""

from __future__ import annotations

import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import ray

from lhs.engine.runtime.cluster import cores
from lhs.engine.runtime.devices import booked_share
from lhs.engine.runtime.progress import Progress
from lhs.engine.runtime.resources import models_at_once
from lhs.engine.storage import Storage
from lhs.errors import UserError

# torch is imported where a model is: processes that read and write do without.
if TYPE_CHECKING:
    import torch

    from lhs.evaluation.model import Model
    from lhs.networks.precision import Precision

TASK_CPUS, MODEL_CPUS = 0.05, 0.1
"""CPUs that a task and an actor book: with one of each kind a fifth of one, which also two
trainings on two CPUs leave. How many run is bounded by their number."""
IMAGE = "image"
"""Name of the array (H, W, 3) uint8 that goes through the model."""

Arrays = Mapping[str, np.ndarray]


class ImageJob(ABC):
    """What is done with each image; travels to workers, so it holds no path of the driver.

    `read`, `compute` and `write` run one after another, in processes of their own.

    Attributes
    ----------
    schema
        Of the rows that `write` gives.
    """

    schema: pa.Schema

    def done(self, item: Any) -> bool:
        """Whether an earlier run wrote what this one would; only where results lie in files."""
        return False

    @abstractmethod
    def read(self, item: Any) -> Arrays:
        """Read what an image needs: the array `IMAGE` and any others.

        Raises
        ------
        UserError
            Where `write_failed` takes the message, it gets it; elsewhere the work ends with it.
        """

    @abstractmethod
    def load(self, device: torch.device) -> Any:
        """Load the model, once an actor."""

    @abstractmethod
    def compute(self, model: Any, images: Sequence[Arrays]) -> Sequence[Arrays]:
        """What travels on for each of some images of one size."""

    @abstractmethod
    def write(self, item: Any, arrays: Arrays) -> dict[str, Any]:
        """Write an image's files, if any; its row."""

    def write_done(self, item: Any) -> dict[str, Any]:
        """The row of an image that is `done`, from what was written."""
        raise NotImplementedError

    def write_failed(self, item: Any, error: str) -> dict[str, Any] | None:
        """The row of an image that could not be read; None where that ends the work."""
        return None


@dataclass(frozen=True)
class StoredModel:
    """A model folder's files, in the object store.

    Attributes
    ----------
    files
        Reference to a dictionary, name to bytes.
    every, precision
        As in `Model`.
    """

    files: Any
    every: int
    precision: Precision

    def load(self, device: torch.device) -> Model:
        """Open the model in this process."""
        from lhs.evaluation.model import load_model

        with tempfile.TemporaryDirectory() as folder:
            for name, content in ray.get(self.files).items():
                (Path(folder) / name).write_bytes(content)
            return load_model(Path(folder), str(device), self.every, self.precision)


def stored_model(files: Mapping[str, bytes], every: int, precision: Precision) -> StoredModel:
    """Put a model folder's files where every worker can read them."""
    return StoredModel(ray.put(dict(files)), every, precision)


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
    """Run a job over images; a row an image, in no order.

    Batches are cut from the items as they are given, whatever is done already: what an image's
    neighbours in a batch do to its last digits is the same in a run that was killed and goes on. A
    batch that is done is not read; of one that is partly done only what is missing is written.

    Parameters
    ----------
    job
        What to do.
    items
        One an image, sorted; each travels to workers.
    progress
        Hears of each image.
    batch
        Images that travel together.
    gpu
        Whether each model books GPUs.
    share
        Of a GPU that each model gets.
    models
        At most so many at a time; None is as many as the cluster holds. The pool starts with one.
    """
    batches = -(-len(items) // batch)
    fitting = models_at_once(gpu, share)
    most = max(1, min(models or fitting, batches))
    there = int(ray.cluster_resources().get("CPU", 0))
    # Beside models on CPUs, which have all cores, one task of each kind a node is enough.
    wanted = (there // 2, there // 4) if gpu else (fitting, fitting)
    # Ray Data warns of more tasks than there are batches.
    readers, writers = (max(1, min(tasks, batches)) for tasks in wanted)
    step: dict[str, Any] = {"batch_format": "pyarrow", "batch_size": 1}
    # In a list: Ray Data would put the items themselves in the place of a bare reference.
    work = _Work(job, [ray.put(list(items))], batch, progress)
    # A batch is one row: Ray Data may join and cut blocks of rows.
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
            fn_constructor_kwargs={"job": job, "beside": -(-most // fitting)},
            **step,
        )
        .map_batches(
            work.write,
            compute=ray.data.TaskPoolStrategy(size=writers),
            num_cpus=TASK_CPUS,
            **step,
        )
    )


@dataclass(frozen=True)
class _Work:
    """The steps in CPU tasks."""

    job: ImageJob
    items: list[Any]
    batch: int
    progress: Progress

    def read(self, table: pa.Table) -> pa.Table:
        """Rows `_BATCHES` of the batches that a table names."""
        return _table(self._read(number) for number in table["batch"].to_pylist())

    def _read(self, number: int) -> _Batch:
        items = self._items(number)
        done = [self.job.done(item) for item in items]
        images: list[_Image] = []
        for item, before in zip(items, done, strict=True):
            if all(done):
                images.append(_Image(True, "", {}))
                continue
            try:
                images.append(_Image(before, "", self.job.read(item)))
            except UserError as error:
                if self.job.write_failed(item, str(error)) is None:
                    raise
                images.append(_Image(before, str(error), {}))
        return _Batch(number, images)

    def write(self, table: pa.Table) -> pa.Table:
        """Rows of the job's own schema."""
        rows = []
        for found in _batches(table):
            items = self._items(found.number)
            for item, image in zip(items, found.images, strict=True):
                if image.done:
                    row = self.job.write_done(item)
                elif image.error:
                    row = self.job.write_failed(item, image.error) or {}
                else:
                    row = self.job.write(item, image.arrays)
                rows.append(row)
                self.progress.add(1)
        return pa.Table.from_pylist(rows, schema=self.job.schema)

    def _items(self, number: int) -> list[Any]:
        """Those of a batch; all of them are read once a process."""
        [reference] = self.items
        key = reference.hex()
        if key not in _read_items:
            _read_items.clear()
            _read_items[key] = ray.get(reference)
        return _read_items[key][number * self.batch : (number + 1) * self.batch]


_read_items: dict[str, list[Any]] = {}


class _ModelActor:
    """An actor: a model, and the images it labels.

    The model is loaded with the first image: where all is done already, there is none.
    """

    def __init__(self, job: ImageJob, beside: int) -> None:
        self.job, self.beside = job, beside
        self.model: Any = None
        self.together = False

    def __call__(self, table: pa.Table) -> pa.Table:
        return _table(self._labelled(found) for found in _batches(table))

    def _labelled(self, batch: _Batch) -> _Batch:
        images = list(batch.images)
        wanted = [place for place, image in enumerate(images) if image.arrays]
        if wanted and self.model is None:
            self._load()
        for group in groups([images[n].arrays[IMAGE].shape for n in wanted], self.together):
            places = [wanted[n] for n in group]
            found = self.job.compute(self.model, [images[n].arrays for n in places])
            for place, arrays in zip(places, found, strict=True):
                # Of what is done, nothing is written again.
                kept = {} if images[place].done else arrays
                images[place] = _Image(images[place].done, "", kept)
        return _Batch(batch.number, images)

    def _load(self) -> None:
        import torch

        from lhs.engine.runtime.devices import granted_device

        device = granted_device()
        if device.type == "cpu":
            torch.set_num_threads(max(1, cores() // self.beside))
        # One at a time where batching buys nothing: scores are then those of `Model.predict`.
        self.together = device.type == "cuda"
        self.model = self.job.load(device)


def groups(shapes: Sequence[tuple[int, ...]], together: bool) -> list[list[int]]:
    """Places of images that go through a model together: those of one size, or each alone."""
    if not together:
        return [[place] for place in range(len(shapes))]
    found: dict[tuple[int, ...], list[int]] = {}
    for place, shape in enumerate(shapes):
        found.setdefault(shape, []).append(place)
    return list(found.values())


@dataclass(frozen=True)
class _Image:
    """An image on its way, with its arrays by name."""

    done: bool
    error: str
    arrays: Arrays


@dataclass(frozen=True)
class _Batch:
    number: int
    images: list[_Image]


_ARRAY = pa.struct(
    [
        ("name", pa.string()),
        ("kind", pa.string()),
        ("shape", pa.list_(pa.int64())),
        # Pixels of a batch may be more than 2 GB.
        ("data", pa.large_binary()),
    ]
)
_IMAGE = pa.struct(
    [
        ("done", pa.bool_()),
        ("error", pa.string()),
        ("arrays", pa.list_(_ARRAY)),
    ]
)
_BATCHES = pa.schema([("batch", pa.int64()), ("images", pa.list_(_IMAGE))])


def _table(batches: Iterator[_Batch]) -> pa.Table:
    rows = [
        {
            "batch": batch.number,
            "images": [
                {
                    "done": image.done,
                    "error": image.error,
                    "arrays": [
                        {
                            "name": name,
                            "kind": array.dtype.str,
                            "shape": array.shape,
                            "data": array.tobytes(),
                        }
                        for name, array in image.arrays.items()
                    ],
                }
                for image in batch.images
            ],
        }
        for batch in batches
    ]
    return pa.Table.from_pylist(rows, schema=_BATCHES)


def _batches(table: pa.Table) -> Iterator[_Batch]:
    for row in table.to_pylist():
        images = [
            _Image(
                image["done"],
                image["error"],
                {
                    one["name"]: np.frombuffer(one["data"], one["kind"]).reshape(one["shape"])
                    for one in image["arrays"]
                },
            )
            for image in row["images"]
        ]
        yield _Batch(row["batch"], images)
