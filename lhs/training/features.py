"""Features of fixed layers, computed once: a phase that trains the last layers alone needs no
more (paper section 3.2.1, steps 1 and 3)."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from lhs.networks.base import SceneNetwork
from lhs.training.feed import RepeatingFeed

BYTES = 2
"""Of one value: half precision."""


class FeatureStore:
    """Features of examples on local disk, in half precision.

    Parameters
    ----------
    examples
        Ids are below this.
    """

    def __init__(self, examples: int) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="lhs-features-")
        self._path = Path(self._folder.name) / "features.f16"
        self._file: BinaryIO = self._path.open("wb")
        self._places = np.full(examples, -1, np.int64)
        self._kinds = np.zeros(examples, np.int32)
        self._shapes: list[tuple[tuple[int, ...], ...]] = []
        self._values: np.ndarray | None = None
        self.size = 0

    def add(self, ids: np.ndarray, features: tuple[Tensor, ...]) -> None:
        """Keep the features (B, C_i, h_i, w_i) of B examples."""
        shapes = tuple(tuple(part.shape[1:]) for part in features)
        if shapes not in self._shapes:
            self._shapes.append(shapes)
        flat = torch.cat([part.flatten(1) for part in features], dim=1)
        values = flat.half().cpu().numpy()
        self._places[ids] = self.size // BYTES + np.arange(len(ids)) * values.shape[1]
        self._kinds[ids] = self._shapes.index(shapes)
        self._file.write(values.tobytes())
        self.size += values.nbytes

    def close(self) -> None:
        """End writing; from now on `read`."""
        self._file.close()
        self._values = np.memmap(self._path, np.float16, "r") if self.size else np.empty(0)

    def read(self, ids: np.ndarray) -> list[tuple[np.ndarray, tuple[Tensor, ...]]]:
        """Give the features of examples, float32, those of one shape together.

        Returns
        -------
        list
            Positions in `ids`, and the features (B, C_i, h_i, w_i) there.
        """
        assert self._values is not None, "close() first"
        groups = []
        for kind in np.unique(self._kinds[ids]):
            where = np.flatnonzero(self._kinds[ids] == kind)
            shapes = self._shapes[kind]
            sizes = [int(np.prod(shape)) for shape in shapes]
            rows = np.stack(
                [self._values[p : p + sum(sizes)] for p in self._places[ids[where]].tolist()]
            )
            parts = torch.from_numpy(rows.astype(np.float32)).split(sizes, dim=1)
            features = tuple(
                part.reshape(len(where), *shape) for part, shape in zip(parts, shapes, strict=True)
            )
            groups.append((where, features))
        return groups

    def delete(self) -> None:
        """Give the disk back."""
        self._file.close()
        self._values = None
        self._folder.cleanup()


def keep_features(
    network: SceneNetwork,
    feed: RepeatingFeed,
    limit: float,
    precision: torch.dtype | None,
    device: torch.device,
    say: Callable[[str], None],
) -> FeatureStore | None:
    """Compute `network.lower` of every example that belongs to this worker.

    Returns
    -------
    FeatureStore or None
        None, and a word to the user, where they would take more than `limit` bytes.
    """
    network.eval()

    def lower(images: Tensor) -> tuple[Tensor, ...]:
        with torch.autocast(device.type, dtype=precision, enabled=precision is not None):
            images = images.to(device, torch.float32, memory_format=torch.channels_last)
            return network.lower(images)

    with torch.inference_mode():
        one = lower(torch.zeros(1, 3, *feed.one_size(), dtype=torch.uint8))
        expected = BYTES * feed.examples * sum(part.numel() for part in one)
        store, seen = FeatureStore(feed.examples), 0
        for batch in feed.owned() if expected <= limit else ():
            assert batch.ids is not None
            store.add(batch.ids.numpy(), lower(batch.images))
            seen += len(batch.ids)
            if store.size > limit:
                expected = store.size * feed.examples // seen
                break
            say(f"features of the fixed layers: {seen} of {feed.examples} examples")
    if expected > limit:
        store.delete()
        say(
            f"features of the fixed layers would take {expected / 1e9:.1f} GB, "
            f"train.features_gb allows {limit / 1e9:.1f}: they are computed at every step"
        )
        return None
    store.close()
    return store
