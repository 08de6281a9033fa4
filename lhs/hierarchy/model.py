"""The label hierarchy: classes, their subclasses, and which subclass a pixel belongs to."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from os import PathLike, fspath
from typing import Any, Self

import numpy as np

from lhs.config import IMAGE_KINDS, Config
from lhs.context.histograms import class_counts, normalise, pixel_histograms
from lhs.data.dataset import Dataset
from lhs.data.scenes import Scene, void_of
from lhs.errors import UserError
from lhs.hierarchy import document
from lhs.hierarchy.kmeans import nearest_centres
from lhs.hierarchy.making import Parts, parts_from_label_maps, parts_from_scenes
from lhs.hierarchy.regions import draw_subclasses, region_numbers
from lhs.hierarchy.subclass_maps import read_subclass_map, subclass_map_problem


@dataclass(frozen=True, eq=False)
class Subclass:
    """One subclass of a class."""

    name: str
    parent: int
    """Class id."""
    count: int
    """Training samples; of a random subclass, those of the subclass that it stands for."""
    scene: str | None = None
    """The scene name or image cluster, for hierarchies `by_scene`."""
    centre: np.ndarray | None = None
    """(L,) float32 mean histogram, for hierarchies from label clusters."""
    title: str = ""
    """What surrounds its samples, for people: see `lhs.hierarchy.titles`. Not in the digest."""


@dataclass(frozen=True, eq=False)
class Hierarchy:
    """A two-level label hierarchy (METHOD section 3).

    Made by `from_label_maps` and `from_scenes`, by `lhs.hierarchy.scene_names`,
    `lhs.hierarchy.label_clusters`, `lhs.hierarchy.image_clusters` and `lhs.hierarchy.controls`, or
    read from its file. Hierarchies with the same `digest` are the same.
    """

    dataset: str
    """Name of the dataset it was made on."""
    classes: tuple[str, ...]
    """L class names; the position is the id."""
    void: int
    """Label of unlabelled pixels in label maps."""
    subclasses: tuple[Subclass, ...]
    """n subclasses, ordered by class; every class has at least one."""
    made: dict[str, Any] = field(repr=False)
    """How it was made, as in the file: see `lhs.hierarchy.document.Made`."""
    subclass_map_of: Callable[[str], np.ndarray] | None = field(default=None, repr=False)
    """For hierarchies `by_map`: reads the stored subclass map (H, W) of an image's id."""

    @property
    def kind(self) -> str:
        """`scene_names`, `label_clusters`, `image_clusters`, `image_embedding`, `subclass_maps`, or
        one of the controls `classes` and `random`."""
        return self.made["kind"]

    @property
    def by_scene(self) -> bool:
        """Whether a class has the same subclass in the whole image: see `scene_of`."""
        return self.kind in ("scene_names", *IMAGE_KINDS)

    @property
    def by_region(self) -> bool:
        """Whether a class has the same subclass in a connected region, drawn at random."""
        return self.kind == "random"

    @property
    def by_map(self) -> bool:
        """Whether it has no rule, and a stored map of each training image says the subclasses."""
        return self.kind == "subclass_maps"

    @property
    def of_whole_images(self) -> bool:
        """Whether subclass maps are made of whole images by id, then augmented as label maps."""
        return self.by_region or self.by_map

    @property
    def region(self) -> float:
        """R of label clusters: the side of the window whose labels are counted, or inf."""
        region = self.made["region"]
        return math.inf if region == "inf" else region

    @property
    def common(self) -> np.ndarray:
        """(C,) ids of the common classes, most frequent first."""
        return np.array(self.made["common_classes"], np.int64)

    @cached_property
    def parents(self) -> np.ndarray:
        """(n,) int64 class of each subclass."""
        return np.array([subclass.parent for subclass in self.subclasses], np.int64)

    @property
    def void_subclass(self) -> int:
        """The value of unlabelled pixels in a relabelled map: 255 up to 255 subclasses."""
        return void_of(len(self.subclasses))

    @cached_property
    def digest(self) -> str:
        """sha256 of the canonical JSON of the rest of the file."""
        return document.digest_of(document.to_document(self))

    def scene_of(self, scene: Scene) -> str | None:
        """The scene name or image cluster that decides an image's subclasses.

        Raises
        ------
        lhs.errors.UserError
            With image clusters, if the image was not clustered: only training images have one.
        """
        if "images" not in self.made:
            return scene.name
        cluster: str | None = self.made["images"].get(scene.id)
        if cluster is None:
            raise UserError(
                f"{scene.id}: not one of the {len(self.made['images'])} training images of "
                f"{self.dataset} that the hierarchy's image clusters were made from"
            )
        return cluster

    def matrix(self) -> np.ndarray:
        """Give W of METHOD section 4: (L, n) float32, 1 where the subclass belongs to the class."""
        matrix = np.zeros((len(self.classes), len(self.subclasses)), np.float32)
        matrix[self.parents, np.arange(len(self.subclasses))] = 1
        return matrix

    def relabel(
        self,
        label_map: np.ndarray,
        scene_name: str | None = None,
        context_label_map: np.ndarray | None = None,
        image_id: str | None = None,
    ) -> np.ndarray:
        """Give every labelled pixel its subclass.

        Parameters
        ----------
        label_map
            (H, W) class ids, `void` where unlabelled.
        scene_name
            From `scene_of`; hierarchies `by_scene` need it, others do not use it. If the pair of
            scene and class was not seen in training, the class's most frequent subclass is taken.
        context_label_map
            (H, W) the label map that histograms are counted and regions found in, if it is not
            `label_map` itself.
        image_id
            The scene's id; hierarchies `of_whole_images` need it, others do not use it. Their maps
            are for the image itself: augment the subclass map as the label map, do not relabel a
            variant.

        Returns
        -------
        subclass_map
            (H, W) uint8 subclass ids (uint16 above 255 subclasses), `void_subclass` where
            unlabelled. With label clusters: the nearest centre of the pixel's class to the
            normalised histogram of the window around the pixel. With random subclasses: what the
            connected region of the pixel's class draws. With subclass maps: the stored one.

        Raises
        ------
        lhs.errors.UserError
            If the label map holds an id that is no class, a scene name or an image's id is needed
            and missing, or a stored subclass map does not fit the label map.
        """
        if self.of_whole_images and image_id is None:
            raise UserError(f"a hierarchy of kind {self.kind} needs the image's id")
        label_map = np.asarray(label_map)
        counts = class_counts(label_map, len(self.classes), self.void)
        if self.by_map:
            return self._stored(label_map, str(image_id))
        dtype = np.uint8 if self.void_subclass <= 255 else np.uint16
        table = np.full(max(len(self.classes), self.void + 1), self.void_subclass, dtype)
        table[: len(self.classes)] = self._whole_class(scene_name)
        subclass_map = table[label_map]
        split = [label for label in np.flatnonzero(counts).tolist() if label in self._split]
        if not split:
            return subclass_map
        counted = label_map if context_label_map is None else context_label_map
        if self.by_region:
            for label in split:
                pixels = label_map == label
                regions = region_numbers(pixels | (counted == label))[pixels]
                subclass_map[pixels] = self._drawn(label, regions, image_id)
            return subclass_map
        present, windows = pixel_histograms(counted, self.region, len(self.classes), self.void)
        for label in split:
            ids, centres, squares = self._centres[label]
            pixels = label_map == label
            nearest = nearest_centres(normalise(windows[pixels]), centres[:, present], squares)
            subclass_map[pixels] = ids[nearest]
        return subclass_map

    def subclass_of(
        self,
        classes: np.ndarray,
        histograms: np.ndarray | None = None,
        scene_names: Sequence[str] | None = None,
        *,
        image_id: str | None = None,
        regions: np.ndarray | None = None,
    ) -> np.ndarray:
        """The subclass of each sample; `relabel` does the same for pixels.

        Parameters
        ----------
        classes
            (N,) class ids.
        histograms
            (N, L) label histograms, counted or normalised; needed with label clusters.
        scene_names
            (N,) from `scene_of`; needed for hierarchies `by_scene`.
        image_id
            The id of the image of all samples; needed for hierarchies `by_region`.
        regions
            (N,) number of the region of its class that each sample lies in, from
            `lhs.hierarchy.regions.region_numbers`; needed for hierarchies `by_region`.

        Returns
        -------
        subclasses
            (N,) int64.
        """
        classes = np.asarray(classes, np.int64)
        if self.by_map:
            raise UserError("subclass maps have no rule for samples: take them from `relabel`")
        if self.by_scene:
            if scene_names is None:
                raise UserError(f"a hierarchy of {self.kind} needs the samples' scene names")
            names, which = np.unique(np.asarray(scene_names), return_inverse=True)
            tables = [self._whole_class(str(name)) for name in names]
            return np.array(tables, np.int64).reshape(-1, len(self.classes))[which, classes]
        if self.by_region and (image_id is None or regions is None):
            raise UserError(
                "a hierarchy of random subclasses needs the samples' image id and regions"
            )
        subclasses = self._whole_class(None)[classes]
        for label in np.unique(classes).tolist():
            if self.by_region and label in self._split:
                rows = classes == label
                subclasses[rows] = self._drawn(label, np.asarray(regions)[rows], image_id)
            elif label in self._centres:
                if histograms is None:
                    raise UserError("a hierarchy from label clusters needs the samples' histograms")
                ids, centres, squares = self._centres[label]
                rows = classes == label
                nearest = nearest_centres(normalise(histograms[rows]), centres, squares)
                subclasses[rows] = ids[nearest]
        return subclasses

    def save(self, path: str | PathLike[str]) -> None:
        """Write the hierarchy as one JSON file, whole or not at all.

        Raises
        ------
        lhs.errors.UserError
            If the file cannot be written.
        """
        document.write(self, path)

    @classmethod
    def from_label_maps(
        cls,
        label_maps: Iterable[np.ndarray],
        classes: Sequence[str],
        *,
        dataset: str = "label maps",
        step: int = 16,
        rho: float = 0.93,
        region: float = 129,
        k_scale: float = 1.0,
        n_star: int | str = "largest_rare",
        seed: int = 0,
        backend: str = "sklearn",
        max_fit_samples: int = 200_000,
    ) -> Self:
        """Make label clusters (paper section 3.1.2) from label maps alone, in this process.

        Samples are the labelled pixels of a grid, where the paper takes centres of superpixels, and
        maps are not augmented; so the digest is not that of `from_scenes`.

        Parameters
        ----------
        label_maps
            (H, W) each, of any sizes: class ids, 255 where unlabelled (65535 above 255 classes).
        classes
            L class names.
        dataset
            Its name, for people.
        step
            Pixels between two samples, down and across, at least 1.
        rho, region, k_scale, n_star, seed, backend, max_fit_samples
            As the settings of `hierarchy`.

        Raises
        ------
        lhs.errors.UserError
            If a setting is out of range, a map holds an id that is no class, or none has a label.

        Examples
        --------
        >>> maps = np.random.default_rng(0).integers(0, 3, (4, 40, 50))
        >>> made = Hierarchy.from_label_maps(maps, ["sky", "sea", "sand"], region=9, n_star=5)
        >>> made.relabel(maps[0]).shape
        (40, 50)
        """
        parts = parts_from_label_maps(
            label_maps, classes, step=step, rho=rho, region=region, k_scale=k_scale, n_star=n_star,
            seed=seed, backend=backend, max_fit_samples=max_fit_samples,
        )  # fmt: skip
        return cls.of_parts(dataset, classes, parts)

    @classmethod
    def from_scenes(cls, scenes: Dataset, config: Config) -> Self:
        """Make label clusters as the paper does (section 3.1.2), in this process, without Ray.

        Samples are superpixel centres of the training images and their augmented variants. The
        digest is that of `lhs hierarchy` with the same settings and backend.

        Parameters
        ----------
        scenes
            A dataset, such as `lhs.data.open_dataset(config.data)`; its training split is used.
        config
            Its sections `context` and `hierarchy`.

        Raises
        ------
        lhs.errors.UserError
            If `hierarchy.kind` is another, a file is bad, or no sample carries a label.
        """
        return cls.of_parts(scenes.name, scenes.classes, parts_from_scenes(scenes, config))

    @classmethod
    def of_parts(cls, dataset: str, classes: Sequence[str], parts: Parts) -> Self:
        """Assemble a hierarchy of L classes."""
        subclasses = tuple(Subclass(**fields) for fields in parts.subclasses)
        return cls(dataset, tuple(classes), void_of(len(classes)), subclasses, parts.made)

    @classmethod
    def load(
        cls, path: str | PathLike[str], subclass_maps: str | PathLike[str] | None = None
    ) -> Hierarchy:
        """Read and check a hierarchy file.

        Parameters
        ----------
        path
            The file.
        subclass_maps
            Of hierarchies `by_map`: the folder of their maps, `IMAGE_ID.png`.

        Raises
        ------
        lhs.errors.UserError
            If it cannot be read, is not a hierarchy file, contradicts itself, or was changed (its
            digest differs).
        """
        content = document.read(path)
        subclasses = tuple(
            Subclass(
                entry["name"],
                entry["parent"],
                entry["count"],
                entry.get("scene"),
                None if (centre := entry.get("centre")) is None else np.array(centre, np.float32),
                entry.get("title", ""),
            )
            for entry in content["subclasses"]
        )
        hierarchy = cls(
            content["dataset"],
            tuple(content["classes"]),
            content["void"],
            subclasses,
            content["made"],
            None if subclass_maps is None else partial(read_subclass_map, fspath(subclass_maps)),
        )
        if hierarchy.digest != content["digest"]:
            raise UserError(
                f"{path}: the digest is {content['digest'][:12]}..., the content's is "
                f"{hierarchy.digest[:12]}...: the file was changed after it was made"
            )
        return hierarchy

    def _stored(self, label_map: np.ndarray, image_id: str) -> np.ndarray:
        if self.subclass_map_of is None:
            raise UserError(
                f"the hierarchy of {self.dataset} has no rule for pixels: give it the folder of "
                "its subclass maps, as Hierarchy.load(path, subclass_maps=FOLDER)"
            )
        stored = self.subclass_map_of(image_id)
        void = self.void_subclass
        problem = subclass_map_problem(
            stored, label_map, self.parents, void=self.void, void_subclass=void
        )
        if problem:
            raise UserError(f"subclass map of {image_id}: {problem}")
        dtype = np.uint8 if void <= 255 else np.uint16
        return np.where(label_map == self.void, void, stored).astype(dtype)

    @cached_property
    def _members(self) -> list[np.ndarray]:
        """Subclass ids of each class."""
        order = np.argsort(self.parents, kind="stable")
        ends = np.cumsum(np.bincount(self.parents, minlength=len(self.classes)))
        return np.split(order, ends[:-1])

    @cached_property
    def _split(self) -> set[int]:
        """Classes whose subclass differs within an image."""
        if self.by_scene:
            return set()
        return {label for label, ids in enumerate(self._members) if len(ids) > 1}

    def _drawn(self, label: int, regions: np.ndarray, image_id: str | None) -> np.ndarray:
        """(N,) subclass that each region (N,) of a class draws."""
        ids, seed = self._members[label], self.made["seed"]
        counts = np.array([self.subclasses[i].count for i in ids])
        return ids[draw_subclasses(counts, regions, seed=seed, image_id=str(image_id), label=label)]

    @cached_property
    def _centres(self) -> dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """For each class of several clusters: subclass ids, centres and their squared norms."""
        found = {}
        for label in self._split if self.kind == "label_clusters" else ():
            ids = self._members[label]
            centres = np.stack([self.subclasses[i].centre for i in ids]).astype(np.float64)
            found[label] = ids, centres, np.einsum("kl,kl->k", centres, centres)
        return found

    def _whole_class(self, scene_name: str | None) -> np.ndarray:
        """(L,) subclass of each class, as far as the scene decides it."""
        if self.by_scene and scene_name is None:
            raise UserError(f"a hierarchy of {self.kind} needs the image's scene name")
        table = np.empty(len(self.classes), np.int64)
        for label, ids in enumerate(self._members):
            here = [
                i for i in ids if scene_name is not None and self.subclasses[i].scene == scene_name
            ]
            table[label] = here[0] if here else max(ids, key=lambda i: self.subclasses[i].count)
        return table
