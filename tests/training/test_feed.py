"""Batches cut into parts: nothing lost, none too large."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lhs.training.feed import Batch, no_images


def numbered(size: int, ids: bool) -> Batch:
    labels = torch.arange(size).view(-1, 1, 1)
    images = torch.arange(size, dtype=torch.uint8).view(-1, 1, 1, 1).expand(size, 3, 2, 2)
    return Batch(images, labels, labels + 100, torch.arange(size) if ids else None)


@settings(max_examples=50, deadline=None)
@given(
    size=st.integers(1, 40),
    most=st.one_of(st.none(), st.integers(1, 50)),
    count=st.integers(1, 6),
    ids=st.booleans(),
)
def test_the_parts_are_the_batch(size, most, count, ids):
    parts = numbered(size, ids).parts(most, count)
    for place, whole in enumerate(numbered(size, ids)):
        if whole is None:
            assert all(part[place] is None for part in parts)
        else:
            assert torch.equal(torch.cat([part[place] for part in parts]), whole)
    assert len(parts) >= count
    assert most is None or max(len(part.labels) for part in parts) <= most


def test_no_images_has_a_row_an_example():
    assert no_images(torch.zeros(5, 1, 1)).shape == (5, 0)
