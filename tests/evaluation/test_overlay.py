"""Class colours over an image."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from lhs.evaluation.overlay import label_overlay

COLOURS = np.array(
    [[90, 160, 220], [120, 120, 120], [200, 40, 40], [240, 220, 60], [20, 20, 200]], dtype=np.uint8
)
VOID = 255


@pytest.mark.thorough
@given(
    data=st.data(),
    shape=npst.array_shapes(min_dims=2, max_dims=2, max_side=9),
    alpha=st.floats(0, 1),
)
def test_overlay_keeps_void_and_stays_between_image_and_colour(data, shape, alpha):
    image = data.draw(npst.arrays(np.uint8, (*shape, 3)))
    ids = st.sampled_from([0, 1, 2, 3, 4, VOID])
    label_map = data.draw(npst.arrays(np.uint8, shape, elements=ids))
    before = image.copy()
    out = label_overlay(image, label_map, COLOURS, VOID, alpha)
    assert out.dtype == np.uint8
    assert out.shape == image.shape
    np.testing.assert_array_equal(image, before)
    void = label_map == VOID
    np.testing.assert_array_equal(out[void], image[void])
    tint, ground = COLOURS[label_map[~void]], image[~void]
    assert (out[~void] >= np.minimum(tint, ground)).all()
    assert (out[~void] <= np.maximum(tint, ground)).all()


def test_overlay_weighs_image_and_colour():
    image = np.full((1, 2, 3), 100, dtype=np.uint8)
    label_map = np.array([[0, VOID]], dtype=np.uint8)
    out = label_overlay(image, label_map, COLOURS, VOID, alpha=0.25)
    assert out.tolist() == [[[98, 115, 130], [100, 100, 100]]]  # 97.5, 115, 130
    whole = label_overlay(image, label_map, COLOURS, VOID, alpha=1.0)
    assert whole.tolist() == [[[90, 160, 220], [100, 100, 100]]]


def test_overlay_takes_16_bit_label_maps():
    label_map = np.array([[1, 65535]], dtype=np.uint16)
    image = np.zeros((1, 2, 3), dtype=np.uint8)
    out = label_overlay(image, label_map, COLOURS, 65535, alpha=1.0)
    assert out.tolist() == [[[120, 120, 120], [0, 0, 0]]]
