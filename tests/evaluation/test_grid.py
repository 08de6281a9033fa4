"""Scores between a grid's points, against numpy's and torch's own interpolation."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from lhs.evaluation.grid import ScoreGrid

sides = st.integers(1, 40)
distances = st.sampled_from((1, 2, 3, 4, 8))


def drawn(height: int, width: int, stride: int, centred: bool, outputs: int = 3) -> ScoreGrid:
    generator = torch.Generator().manual_seed(height * 100 + width)
    shape = (outputs, -(-height // stride), -(-width // stride))
    scores = torch.randn(shape, generator=generator)
    return ScoreGrid(scores=scores, height=height, width=width, stride=stride, centred=centred)


@settings(deadline=None)
@given(sides, sides, distances)
def test_between_pixels_it_is_linear_and_behind_the_last_it_stays(height, width, stride):
    """numpy interpolates rows, then columns."""
    grid = drawn(height, width, stride, centred=False)
    expected = grid.scores.numpy().astype(np.float64)
    for axis, side in ((1, height), (2, width)):
        points = np.arange(0, side, stride)
        expected = np.apply_along_axis(
            lambda row, points=points, side=side: np.interp(np.arange(side), points, row),
            axis,
            expected,
        )
    np.testing.assert_allclose(grid.rows(0, height), expected, atol=1e-5)


@settings(deadline=None)
@given(sides, sides, distances)
def test_between_middles_it_is_what_torch_makes_of_the_whole(height, width, stride):
    grid = drawn(height, width, stride, centred=True)
    whole = functional.interpolate(
        grid.scores[None], scale_factor=float(stride), mode="bilinear", align_corners=False
    )
    torch.testing.assert_close(
        grid.rows(0, height), whole[0, :, :height, :width], atol=1e-5, rtol=0
    )


@given(sides, sides, distances, st.booleans(), st.data())
def test_rows_are_the_same_to_the_bit_whatever_is_asked_with_them(
    height, width, stride, centred, data
):
    grid = drawn(height, width, stride, centred)
    top = data.draw(st.integers(0, height - 1))
    below = data.draw(st.integers(top + 1, height))
    assert torch.equal(grid.rows(top, below), grid.rows(0, height)[:, top:below])


@pytest.mark.parametrize("centred", [False, True])
def test_strips_are_of_a_size_and_together_the_whole(monkeypatch, centred):
    grid = drawn(37, 20, 4, centred)
    assert len(list(grid.strips())) == 1
    monkeypatch.setattr("lhs.evaluation.grid.STRIP", 3 * 20 * 5)
    strips = list(grid.strips())
    assert [strip.shape for strip in strips] == [(3, 5, 20)] * 7 + [(3, 2, 20)]
    assert torch.equal(torch.cat(strips, dim=1), grid.rows(0, 37))
