"""OverFeat's fast model: what the shared tests of patch networks do not say."""

import pytest
import torch
from torch.nn import functional

from tests.networks.geometry import built, sides


@pytest.mark.thorough
def test_unpadded_231_pixels_give_the_same_sides_and_scores():
    """The release's own geometry: the padding stands for its four more pixels."""
    network = built("overfeat")
    image = torch.rand(1, 3, 227, 227) * 255
    first, rest = network.features[0], network.features[1:]
    wide = functional.pad(network.normalise(image), [2] * 4)
    with torch.inference_mode():
        unpadded = functional.conv2d(wide, first.weight, first.bias, stride=4)
        assert [unpadded.shape[2], *sides(rest, unpadded)] == [56, 28, 24, 12, 12, 12, 12, 6, 1, 1]
        torch.testing.assert_close(network.last(rest(unpadded)), network(image))
