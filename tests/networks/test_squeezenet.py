"""SqueezeNet 1.1 against torchvision's, and what its pools leave out."""

import pytest
import torch
from torchvision.models import squeezenet1_1

from lhs.networks.pixelwise import DenseNetwork, dense_scores
from lhs.networks.squeezenet import squeezenet
from tests.networks.geometry import built, count, inner_output


def test_it_scores_as_torchvisions_but_for_its_last_rectification():
    """At 224 pixels, where the sides are theirs too; the mean and the last layer commute."""
    torch.manual_seed(1)
    ours, theirs = squeezenet(1000).eval(), squeezenet1_1(weights=None).eval()
    assert count(ours) == count(theirs)
    tensors = list(theirs.state_dict().values())
    assert [t.shape for t in ours.features.parameters()] == [t.shape for t in tensors[:-2]]
    with torch.no_grad():
        for mine, other in zip(ours.parameters(), tensors, strict=True):
            mine.copy_(other)
    image = torch.rand(2, 3, 224, 224) * 255
    theirs.classifier[2] = torch.nn.Identity()
    with torch.inference_mode():
        expected = theirs(ours.normalise(image))
        torch.testing.assert_close(ours(image).flatten(1), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("stride", [4, 8])
def test_every_nth_pixel_of_an_image_gets_its_scores(stride):
    """Its pools leave the last 4 pixels of a patch out, and so score beyond the image's end."""
    dense = DenseNetwork(squeezenet(3).eval(), stride)
    with torch.inference_mode():
        scores = dense_scores(dense, torch.rand(1, 3, 9, 6) * 255, 227)
    assert scores.shape == (1, 3, -(-9 // stride), -(-6 // stride))


@pytest.mark.thorough
def test_the_dense_form_is_the_network_at_stride_1_too():
    network = built("squeezenet")
    own, dense = inner_output(network, DenseNetwork(network))
    torch.testing.assert_close(dense, own, atol=1e-4, rtol=1e-4)
