"""The counts that an evaluation stores of each image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lhs.engine.stages.evaluation import (
    IMAGE_COUNTS,
    read_image_counts,
    sparse_counts,
    total_counts,
)
from lhs.engine.storage import Storage
from lhs.errors import UserError


def stored(folder: Path) -> np.ndarray:
    """Three images' counts of four classes in a stage's folder; the second has no label."""
    counts = np.random.default_rng(0).integers(0, 3, (3, 4, 4))
    counts[1] = 0
    table = pa.table({"image": ["a", "b", "c"], "counts": counts.reshape(3, -1).tolist()})
    # In pieces, as blocks of Ray Data come.
    table = pa.concat_tables([table.slice(0, 1), table.slice(1)])
    np.testing.assert_array_equal(total_counts(table, 4), counts.sum(axis=0))
    pq.write_table(sparse_counts(table, 4), folder / IMAGE_COUNTS)
    pq.write_table(table.select(["image"]), folder / "predictions.parquet")
    return counts


def test_counts_of_each_image_come_back(tmp_path: Path) -> None:
    counts = stored(tmp_path)
    rows = pq.read_table(tmp_path / IMAGE_COUNTS)
    assert rows.column_names == ["image", "truth", "predicted", "pixels"]
    assert rows.num_rows == np.count_nonzero(counts)
    images, found = read_image_counts(Storage(str(tmp_path)), str(tmp_path), 4)
    assert images == ["a", "b", "c"]
    np.testing.assert_array_equal(found, counts)


def test_an_evaluation_of_an_earlier_version_has_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="made by an earlier version, without counts of each image"):
        read_image_counts(Storage(str(tmp_path)), str(tmp_path), 4)
