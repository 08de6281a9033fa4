"""A dataset: a label space, and scenes in a training and a test split."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from lhs.data.colours import class_colours
from lhs.data.contents import FileState, file_states
from lhs.data.scenes import SPLITS, Scene, void_of
from lhs.errors import UserError


class Dataset:
    """A label space, and scenes in a training and a test split.

    Parameters
    ----------
    name
        The dataset's name in messages and paths, such as "siftflow".
    classes
        The L class names; the position is the class id.
    scenes
        All scenes of both splits, ids unique.
    colours
        (L, 3) uint8 RGB for figures; chosen where None.
    folder
        Of the files; file names in the fingerprint are relative to it.
    identity
        What else fixes the content, as JSON values: for datasets without files, their parameters.

    Raises
    ------
    UserError
        If a scene id or a class name occurs twice.
    """

    def __init__(
        self,
        name: str,
        classes: Iterable[str],
        scenes: Iterable[Scene],
        *,
        colours: np.ndarray | None = None,
        folder: Path | None = None,
        identity: Mapping[str, Any] | None = None,
    ) -> None:
        self.name = name
        self.classes: tuple[str, ...] = tuple(classes)
        self.colours = class_colours(self.classes) if colours is None else colours
        self.void = void_of(len(self.classes))
        self.folder = folder
        self._identity = dict(identity or {})
        self._scenes: dict[str, Scene] = {}
        for scene in sorted(scenes, key=lambda scene: scene.id):
            if scene.id in self._scenes:
                raise UserError(
                    f"{name}: two images have the id {scene.id!r}: "
                    f"{self._scenes[scene.id].files()[:1]} and {scene.files()[:1]}"
                )
            self._scenes[scene.id] = scene
        if len(set(self.classes)) < len(self.classes):
            twice = sorted({c for c in self.classes if self.classes.count(c) > 1})
            raise UserError(f"{name}: class names occur twice: {', '.join(twice)}")
        self.scene_names: tuple[str, ...] = tuple(
            sorted({scene.name for scene in self._scenes.values() if scene.name is not None})
        )
        self._fingerprint: str | None = None
        self._states: dict[str, FileState] | None = None

    def __len__(self) -> int:
        return len(self._scenes)

    def __repr__(self) -> str:
        splits = " / ".join(f"{len(self.split(split))} {split}" for split in SPLITS)
        return f"<Dataset {self.name}: {splits}, {len(self.classes)} classes>"

    def split(self, name: str) -> list[Scene]:
        """List the scenes of "train" or "test", sorted by id."""
        if name not in SPLITS:
            raise UserError(f"split {name!r} is unknown; allowed: {', '.join(SPLITS)}")
        return [scene for scene in self._scenes.values() if scene.split == name]

    def scenes(self) -> list[Scene]:
        """List all scenes, sorted by id."""
        return list(self._scenes.values())

    def scene(self, id: str) -> Scene:
        """Find a scene by its id."""
        try:
            return self._scenes[id]
        except KeyError:
            raise UserError(f"{self.name} has no image with the id {id!r}") from None

    def subset(
        self, max_train: int | None = None, max_test: int | None = None, *, seed: int = 0
    ) -> Dataset:
        """Keep a seeded random choice of at most so many images of each split.

        Parameters
        ----------
        max_train, max_test
            The numbers of images to keep, None for all.
        seed
            Of the choice; the same seed keeps the same images.

        Returns
        -------
        Dataset
            The same label space with fewer scenes.
        """
        kept: list[Scene] = []
        for number, (split, most) in enumerate(zip(SPLITS, (max_train, max_test), strict=True)):
            scenes = self.split(split)
            if most is not None and most < len(scenes):
                order = np.random.default_rng([seed, number]).permutation(len(scenes))
                scenes = [scenes[i] for i in order[:most]]
            kept += scenes
        return self.with_scenes(kept)

    def held_out(self, count: int, *, seed: int = 0) -> Dataset:
        """Test on a seeded random choice of training images; the test images are left out.

        Parameters
        ----------
        count
            Training images that become the test split.
        seed
            Of the choice.

        Raises
        ------
        UserError
            If no training image would be left.
        """
        train = self.split("train")
        if count >= len(train):
            raise UserError(
                f"data.held_out is {count}; allowed for {self.name}: 1 to {len(train) - 1}, "
                f"fewer than its {len(train)} training images"
            )
        order = np.random.default_rng([seed, len(SPLITS)]).permutation(len(train))
        chosen = [replace(train[place], split="test") for place in order[:count]]
        return self.with_scenes([*(train[place] for place in order[count:]), *chosen])

    def with_scenes(self, scenes: list[Scene], **identity: Any) -> Dataset:
        """Keep the label space, take other scenes; `identity` says what else is not as before."""
        return Dataset(
            self.name,
            self.classes,
            scenes,
            colours=self.colours,
            folder=self.folder,
            identity=self._identity | identity,
        )

    def fingerprint(self) -> str:
        """Digest what identifies the content; a copy in another place has the same one.

        Returns
        -------
        str
            sha256, hexadecimal, over names and sizes of the files, the split lists, scene names,
            class names and (without files) the parameters.
        """
        if self._fingerprint is None:
            states = self.file_states()
            digest = hashlib.sha256()
            head = {"name": self.name, "classes": self.classes, "identity": self._identity}
            digest.update(json.dumps(head, sort_keys=True).encode())
            for scene in self._scenes.values():
                files = [(self._relative(path), states[str(path)].size) for path in scene.files()]
                row = [scene.id, scene.split, scene.name, files]
                digest.update(json.dumps(row).encode() + b"\n")
            self._fingerprint = digest.hexdigest()
        return self._fingerprint

    def file_states(self) -> dict[str, FileState]:
        """Sizes and times of all files by path, as they were when first asked for."""
        if self._states is None:
            self._states = file_states([path for s in self._scenes.values() for path in s.files()])
        return self._states

    def _relative(self, path: Path) -> str:
        if self.folder is not None and path.is_relative_to(self.folder):
            return path.relative_to(self.folder).as_posix()
        return path.name
