"""Ray: the common classes are clustered, each by a task or actor, and become a hierarchy."""

from __future__ import annotations

import hashlib
import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import ray

from lhs.config import IMAGE_KINDS, Config
from lhs.engine.runtime.devices import booked_share
from lhs.engine.runtime.resources import clustering_backend
from lhs.engine.stage import StageResult, Work
from lhs.engine.stages.checked_scenes import CheckedScenes
from lhs.engine.stages.descriptors import read_descriptors
from lhs.engine.stages.given_hierarchy import take_given
from lhs.engine.stages.pseudo_label_maps import MAPS, map_path, read_map
from lhs.engine.stages.samples import class_histograms, group_counts
from lhs.engine.stages.subclass_samples import subclass_samples
from lhs.engine.storage import Storage
from lhs.errors import UserError
from lhs.hierarchy import Hierarchy
from lhs.hierarchy.classes import common_classes, least_size
from lhs.hierarchy.clustering import ClassClusters, cluster_class
from lhs.hierarchy.controls import from_classes, from_random
from lhs.hierarchy.document import HIERARCHY_FILE
from lhs.hierarchy.image_clusters import cluster_images, from_image_clusters
from lhs.hierarchy.kmeans import Backend
from lhs.hierarchy.label_clusters import from_label_clusters
from lhs.hierarchy.scene_names import from_scene_names
from lhs.hierarchy.sparse_rows import SparseRows
from lhs.hierarchy.titles import titled

logger = logging.getLogger("lhs")


def build_hierarchy(work: Work, scenes: CheckedScenes, path: str) -> dict[str, Any]:
    """Common classes and their subclasses (METHOD section 3).

    Label clusters are made from the input `histograms`, image clusters from `descriptors`, random
    subclasses from the hierarchy `like`, others from `samples` alone, or the user gives one. The
    folder holds `hierarchy.json`, and `maps/IMAGE.png` if it is given by subclass maps; the facts,
    what `lhs hierarchy` prints.
    """
    config, storage, inputs = work.config, work.storage, work.inputs
    facts: dict[str, Any] = {}
    if config.hierarchy.kind == "file":
        hierarchy, facts = take_given(work, scenes, path)
    elif "like" in inputs:
        like = read_hierarchy(storage, inputs["like"].path)
        hierarchy = from_random(like, seed=config.hierarchy.seed)
    else:
        hierarchy = _from_samples(work, scenes)
        found = subclass_samples(storage, scenes, hierarchy, inputs["samples"].path)
        hierarchy = titled(hierarchy, found.shares)
    with tempfile.TemporaryDirectory() as scratch:
        hierarchy.save(Path(scratch) / HIERARCHY_FILE)
        storage.put_folder(Path(scratch), path)
    return _facts(hierarchy) | facts


def _from_samples(work: Work, scenes: CheckedScenes) -> Hierarchy:
    config, storage, inputs = work.config, work.storage, work.inputs
    samples, dataset = inputs["samples"], scenes.dataset
    class_counts = np.array(samples.facts["class_counts"], np.int64)
    if config.hierarchy.kind == "classes":
        return from_classes(dataset=dataset.name, classes=dataset.classes, counts=class_counts)
    backend = clustering_backend(config.hierarchy.backend)
    if "descriptors" in inputs:
        return _by_image_clusters(storage, config, scenes, samples, inputs["descriptors"], backend)
    if "histograms" in inputs:
        common = common_classes(class_counts, config.hierarchy.rho)
        return _by_clusters(
            storage, config, scenes, inputs["histograms"], class_counts, common, backend
        )
    return _by_scene_names(storage, config, scenes, samples)


def hierarchy_settings(config: Config) -> dict[str, Any]:
    """The settings that its kind of hierarchy uses."""
    settings = config.hierarchy
    if settings.kind == "scene_names":
        return {"kind": settings.kind, "rho": settings.rho}
    if settings.kind in ("classes", "file"):
        # A file's content is in the key (`file_sources`), not its path.
        return {"kind": settings.kind}
    if settings.kind == "random":
        return settings.model_dump(include={"kind", "like", "seed"})
    if settings.kind in IMAGE_KINDS:
        used = settings.model_dump(include={"kind", "rho", "image_clusters", "seed"})
    else:
        # R is in the histograms' key.
        unused = {"backend", "region", "image_clusters", "like", "file", "subclass_maps"}
        used = settings.model_dump(mode="json", exclude=unused)
    return used | {"backend": clustering_backend(settings.backend)}


def digest_of(result: StageResult) -> str:
    """The digest of a finished hierarchy and its subclass maps, where it has some; later stages
    depend on nothing else of it."""
    digest, maps = str(result.facts["digest"]), result.facts.get("subclass_maps")
    return digest if maps is None else hashlib.sha256(f"{digest}\n{maps}".encode()).hexdigest()


def read_hierarchy(storage: Storage, path: str) -> Hierarchy:
    """The hierarchy in a stage's folder."""
    if storage.local:
        hierarchy = Hierarchy.load(f"{path}/{HIERARCHY_FILE}")
    else:
        # Not the whole folder, which may hold maps.
        with tempfile.TemporaryDirectory() as scratch:
            copy = Path(scratch) / HIERARCHY_FILE
            copy.write_bytes(storage.read(f"{path}/{HIERARCHY_FILE}"))
            hierarchy = Hierarchy.load(copy)
    if not hierarchy.by_map:
        return hierarchy
    return replace(hierarchy, subclass_map_of=partial(_stored_map, storage, f"{path}/{MAPS}"))


def _stored_map(storage: Storage, maps: str, image: str) -> np.ndarray:
    return read_map(storage, map_path(maps, image))


def _facts(hierarchy: Hierarchy) -> dict[str, Any]:
    common = hierarchy.common.tolist()
    per_class = np.bincount(hierarchy.parents, minlength=len(hierarchy.classes))
    return {
        "digest": hierarchy.digest,
        "common_classes": len(common),
        "subclasses": len(hierarchy.subclasses),
        "subclasses_per_class": {
            hierarchy.classes[label]: int(per_class[label]) for label in common
        },
    }


def _by_clusters(
    storage: Storage,
    config: Config,
    scenes: CheckedScenes,
    histograms: StageResult,
    class_counts: np.ndarray,
    common: np.ndarray,
    backend: Backend,
) -> Hierarchy:
    settings = config.hierarchy
    min_size = least_size(settings.n_star, class_counts, common)
    dataset = scenes.dataset
    work = partial(
        cluster_label,
        storage,
        histograms.path,
        num_classes=len(dataset.classes),
        config=config,
        min_size=min_size,
        backend=backend,
    )
    # The most frequent classes take longest and are started first.
    labels = common.tolist()
    if backend == "cuml":
        gpus = int(ray.cluster_resources().get("GPU", 0))
        share = booked_share(config.train.gpu_share)
        finished = clustered_by_actors(work, labels, max(1, min(gpus, len(labels))), share)
    else:
        finished = clustered_by_tasks(work, labels)
    found: dict[int, ClassClusters] = {}
    for label, clusters in finished:
        found[label] = clusters
        logger.info(
            f"hierarchy: {dataset.classes[label]} has {len(clusters.sizes)} subclasses "
            f"({len(found)} of {len(common)} common classes)"
        )
    return from_label_clusters(
        dataset=dataset.name,
        classes=dataset.classes,
        counts=class_counts,
        clusters=found,
        rho=settings.rho,
        region=settings.region,
        k_scale=settings.k_scale,
        n_star=settings.n_star,
        seed=settings.seed,
        backend=backend,
        max_fit_samples=settings.max_fit_samples,
    )


def clustered_by_tasks(
    work: Callable[[int], ClassClusters], labels: Sequence[int]
) -> Iterator[tuple[int, ClassClusters]]:
    """Cluster each class in a task on a CPU; yields what `clustered_by_actors` does."""
    # Ray takes no partial function.
    task = ray.remote(num_cpus=1, scheduling_strategy="DEFAULT")(lambda label: work(label))
    running = {task.remote(label): label for label in labels}
    while running:
        (ref, *_), _ = ray.wait(list(running))
        yield running.pop(ref), ray.get(ref)


def clustered_by_actors(
    work: Callable[[int], ClassClusters], labels: Sequence[int], actors: int, gpus: float
) -> Iterator[tuple[int, ClassClusters]]:
    """Cluster classes in actors, each one class after the other: importing cuML takes 5 s.

    Parameters
    ----------
    work
        Clusters the class of an id.
    labels
        Class ids, in the order in which they are started.
    actors
        Number of actors, at most.
    gpus
        Share of a GPU that each books.

    Yields
    ------
    (int, ClassClusters)
        Classes and their clusters, in the order in which they finish.
    """
    kind = ray.remote(
        num_cpus=1, num_gpus=gpus, max_restarts=3, max_task_retries=3, scheduling_strategy="DEFAULT"
    )(_Clusterer)
    waiting = list(labels)
    # Only an actor that has started gets a class: others may wait hours for a GPU. Ray's ActorPool
    # gives classes to actors that have not started too.
    workers = [kind.remote(work) for _ in range(actors)]
    running: dict[ray.ObjectRef, tuple[Any, int | None]] = {
        worker.ready.remote(): (worker, None) for worker in workers
    }
    left = len(waiting)
    while left:
        (ref, *_), _ = ray.wait(list(running))
        worker, label = running.pop(ref)
        result = ray.get(ref)
        if waiting:
            following = waiting.pop(0)
            running[worker.cluster.remote(following)] = worker, following
        if label is not None:
            left -= 1
            yield label, result


class _Clusterer:
    """Actor that clusters one class after the other."""

    def __init__(self, work: Callable[[int], ClassClusters]) -> None:
        self.work = work

    def ready(self) -> None:
        """Return as soon as the actor has started."""

    def cluster(self, label: int) -> ClassClusters:
        """Cluster one class."""
        return self.work(label)


def cluster_label(
    storage: Storage,
    path: str,
    label: int,
    num_classes: int,
    config: Config,
    min_size: int,
    backend: Backend,
) -> ClassClusters:
    """Read the histograms of one class and cluster them."""
    rows = SparseRows(class_histograms(storage, path, label))
    settings = config.hierarchy
    return cluster_class(
        rows if len(rows) > settings.max_fit_samples else rows[:],
        min_size=min_size,
        k_scale=settings.k_scale,
        seed=settings.seed,
        backend=backend,
        max_fit_samples=settings.max_fit_samples,
        bins=rows.bins,
        num_classes=num_classes,
    )


def _by_scene_names(
    storage: Storage,
    config: Config,
    scenes: CheckedScenes,
    samples: StageResult,
) -> Hierarchy:
    dataset = scenes.dataset
    if not dataset.scene_names:
        raise UserError(
            f"hierarchy.kind = scene_names: {dataset.name} has no scene names; "
            "allowed there are label_clusters and image clusters"
        )
    names = {scene.id: scene.name for scene in scenes.split("train")}
    nameless = [image for image, name in names.items() if name is None]
    if nameless:
        raise UserError(
            f"hierarchy.kind = scene_names: {len(nameless)} images of {dataset.name} have no "
            f"scene name, such as {nameless[0]}"
        )
    return from_scene_names(
        dataset=dataset.name,
        classes=dataset.classes,
        scene_names=dataset.scene_names,
        counts=group_counts(
            storage, samples.path, names, dataset.scene_names, len(dataset.classes)
        ),
        rho=config.hierarchy.rho,
    )


def _by_image_clusters(
    storage: Storage,
    config: Config,
    scenes: CheckedScenes,
    samples: StageResult,
    descriptors: StageResult,
    backend: Backend,
) -> Hierarchy:
    settings, dataset = config.hierarchy, scenes.dataset
    ids, described = read_descriptors(storage, descriptors.path)
    cluster: Callable[..., tuple[np.ndarray, np.ndarray]] = cluster_images
    if backend == "cuml":
        # This process has no GPU of its own, and its node may have none.
        share = booked_share(config.train.gpu_share)
        task = ray.remote(num_cpus=1, num_gpus=share, scheduling_strategy="DEFAULT")(cluster_images)
        cluster = lambda *given: ray.get(task.remote(*given))  # noqa: E731
    labels, centres = cluster(described, settings.image_clusters, settings.seed, backend)
    images = dict(zip(ids, labels.tolist(), strict=True))
    return from_image_clusters(
        kind=settings.kind,
        dataset=dataset.name,
        classes=dataset.classes,
        counts=group_counts(
            storage, samples.path, images, range(len(centres)), len(dataset.classes)
        ),
        images=images,
        centres=centres,
        rho=settings.rho,
        described_by=descriptors.facts["described_by"],
        seed=settings.seed,
        backend=backend,
    )
