"""Batches: split into micro-batches, nothing lost, none too large; prefetched in order."""

import threading
import time

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lhs.training.data_source import CPU, Batch, prefetched, small_ids


def numbered(size: int) -> Batch:
    labels = torch.arange(size).view(-1, 1, 1)
    images = torch.arange(size, dtype=torch.uint8).view(-1, 1, 1, 1).expand(size, 3, 2, 2)
    return Batch(images, labels, labels + 100, torch.arange(size))


@settings(max_examples=50, deadline=None)
@given(
    size=st.integers(1, 40),
    most=st.one_of(st.none(), st.integers(1, 50)),
    count=st.integers(1, 6),
)
def test_the_parts_are_the_batch(size, most, count):
    parts = numbered(size).micro_batches(most, count)
    for place, whole in enumerate(numbered(size)):
        assert torch.equal(torch.cat([part[place] for part in parts]), whole)
    assert len(parts) >= count
    assert most is None or max(len(part.labels) for part in parts) <= most


def test_ids_are_the_smallest_integers_that_torch_computes_with():
    for dtype, expected in ((np.uint8, torch.uint8), (np.uint16, torch.int32)):
        ids = np.array([[0, 7], [254, np.iinfo(dtype).max]], dtype)
        assert small_ids(ids).dtype == expected
        assert small_ids(ids).tolist() == ids.tolist()


@pytest.mark.parametrize("threads", [1, 7])
def test_what_is_made_ahead_comes_in_order(threads):
    def make(step):
        time.sleep(0.01 * (step % 3))
        return [numbered(step + 1)]

    sizes = [len(batch.labels) for (batch,) in prefetched(make, range(20), threads, CPU)]
    assert sizes == list(range(1, 21))


def test_all_threads_have_something_to_do():
    meet = threading.Barrier(9)

    def make(step):
        meet.wait(timeout=60)
        return [numbered(1)]

    assert len(list(prefetched(make, range(9), 9, CPU))) == 9


def test_what_fails_reaches_the_trainer_and_no_thread_is_left():
    def make(step):
        if step == 3:
            raise ValueError("broken")
        return [numbered(1)]

    before = threading.active_count()
    batches = prefetched(make, range(100), 2, CPU)
    with pytest.raises(ValueError, match="broken"):
        list(batches)
    assert threading.active_count() == before
