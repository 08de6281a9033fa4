"""Batches of images as Arrow tables: what travels between the steps of `model_pool`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa


@dataclass(frozen=True)
class ImageArrays:
    """An image between two steps.

    Attributes
    ----------
    done
        Whether an earlier run wrote its results.
    error
        Why it could not be read; empty otherwise.
    arrays
        By name.
    """

    done: bool
    error: str
    arrays: Mapping[str, np.ndarray]


@dataclass(frozen=True)
class ImageBatch:
    """Images that travel together, with the number of their batch."""

    number: int
    images: list[ImageArrays]


# Pixels of a batch may be more than 2 GB.
_ARRAY = pa.struct(
    {"name": pa.string(), "kind": pa.string(), "shape": pa.list_(pa.int64()),
     "data": pa.large_binary()}
)  # fmt: skip
_IMAGE = pa.struct({"done": pa.bool_(), "error": pa.string(), "arrays": pa.list_(_ARRAY)})
_SCHEMA = pa.schema({"number": pa.int64(), "images": pa.list_(_IMAGE)})


def to_table(batches: Iterator[ImageBatch]) -> pa.Table:
    """Batches as an Arrow table."""
    rows = [
        {
            "number": batch.number,
            "images": [vars(image) | {"arrays": _packed(image.arrays)} for image in batch.images],
        }
        for batch in batches
    ]
    return pa.Table.from_pylist(rows, schema=_SCHEMA)


def _packed(arrays: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    return [
        {"name": name, "kind": one.dtype.str, "shape": one.shape, "data": one.tobytes()}
        for name, one in arrays.items()
    ]


def from_table(table: pa.Table) -> Iterator[ImageBatch]:
    """The batches in a table of `to_table`."""
    for row in table.to_pylist():
        for image in row["images"]:
            image["arrays"] = {
                one["name"]: np.frombuffer(one["data"], one["kind"]).reshape(one["shape"])
                for one in image["arrays"]
            }
        yield ImageBatch(row["number"], [ImageArrays(**image) for image in row["images"]])
