"""How much of a device's memory dense prediction may use."""

from __future__ import annotations

import functools
from typing import NamedTuple

import torch


class Limits(NamedTuple):
    """Bytes that dense prediction may use."""

    chunk: float
    """For phases of a map that go through the layers as one batch."""
    tile: float
    """For a tile of an image, besides weights and result."""


CPU = Limits(chunk=8e6, tile=2e9)
"""A chunk that fits a CPU's cache and still keeps its cores busy."""
LEAST_CHUNK, MOST_CHUNK = 2**26, 2**28
"""On a GPU, where every chunk costs the start of all its kernels: `squeezenet` took 191 ms with
chunks of 8 MB and 32 ms with 64 MB (256 x 256 pixels, one H100). With 256 MiB it has 176 operations
where it has 601 with 64 MB and 4569 with 8 MB; that was counted, not timed."""
CHUNK_SHARE, TILE_SHARE = 1 / 256, 1 / 8
"""Of a GPU's free memory. Up to eight processes may share a card (`train.gpu_share`)."""


@functools.cache
def limits(device: torch.device) -> Limits:
    """Limits on a device, by its free memory at the first call in a process.

    On a GPU both are powers of two: a small difference in free memory does not change the size of
    chunks and tiles, and with it the last digits of scores.
    """
    if device.type != "cuda":
        return CPU
    free, _ = torch.cuda.mem_get_info(device)
    # Memory that torch cached is free for the next tensor.
    free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    chunk = min(max(_power_of_two(free * CHUNK_SHARE), LEAST_CHUNK), MOST_CHUNK)
    return Limits(chunk, _power_of_two(free * TILE_SHARE))


def _power_of_two(number: float) -> int:
    """The largest one that is not above a number of at least 1."""
    return 1 << (int(number).bit_length() - 1)
