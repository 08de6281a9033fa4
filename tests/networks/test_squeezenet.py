"""SqueezeNet 1.1: layer by layer as published, against torchvision's, and where it looks."""

import pytest
import torch
from torchvision.models import squeezenet1_1

from lhs.networks.pixelwise import DenseNetwork, dense_scores
from lhs.networks.squeezenet import Fire, squeezenet
from tests.networks.geometry import count, field, inner_output, seen, sides, sums, table, untouched

# (kernel, stride, padding); of a fire module the 3 x 3.
FIRE = (3, 1, 1)
LAYERS = [
    *[(3, 2, 0), (3, 2, 0), FIRE, FIRE, (3, 2, 0), FIRE, FIRE, (3, 2, 0)],
    *[FIRE, FIRE, FIRE, FIRE, (13, 1, 0)],
]


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return squeezenet(3).eval()


@pytest.fixture(scope="module")
def theirs():
    torch.manual_seed(1)
    return squeezenet1_1(weights=None).eval()


def test_the_sides_are_the_tables(network):
    with torch.inference_mode():
        found = sides(network.features, torch.rand(1, 3, 227, 227))
    assert found == [113, 56, 56, 56, 27, 27, 27, 13, 13, 13, 13, 13, 1]
    # The table has two fire modules in a row.
    one_of_two = [found[place] for place in (0, 1, 2, 4, 5, 7, 8, 10, 12)]
    assert [*one_of_two, 1] == table(squeezenet)[1]


def test_the_weights_are_the_tables_layer_by_layer(network):
    fires = [count(layer) for layer in network.features if isinstance(layer, Fire)]
    pairs = [sum(fires[place : place + 2]) for place in range(0, 8, 2)]
    assert [count(network.features[0]), *pairs] == table(squeezenet)[0]
    assert count(network.last) == 3 * 513


def test_with_1000_outputs_it_has_torchvisions_weights(theirs):
    assert count(squeezenet(1000)) == count(theirs) == 1_235_496


def test_it_scores_as_torchvisions_but_for_its_last_rectification(theirs):
    """At 224 pixels, where the sides are theirs too; the mean and the last layer commute."""
    ours = squeezenet(1000).eval()
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


def test_an_output_sees_its_patch_and_what_the_padding_stands_for(network):
    reach, start, stride = field(LAYERS)
    assert (reach, reach - 2 * start, stride) == (399, 223, 16)
    first = 6 * stride - start
    rows, columns = seen(network, 227 + 12 * stride, 6)
    assert rows == columns == list(range(first, first + reach))


def test_outputs_move_by_one_when_the_image_moves_by_16_pixels(network):
    assert network.stride == 16
    image = torch.rand(1, 3, 227 + 13 * 16 + 16, 227 + 12 * 16) * 255
    with torch.inference_mode():
        here, below = network(image[:, :, :-16]), network(image[:, :, 16:])
    assert here.shape == (1, 3, 14, 13)
    # Outputs 6 and 7 see no border.
    torch.testing.assert_close(here[:, :, 7, 6], below[:, :, 6, 6])
    assert not torch.allclose(here[:, :, 6, 6], below[:, :, 6, 6])


def test_gradients_reach_every_weight(network):
    assert untouched(network, torch.rand(1, 3, 227, 227) * 255) == []


def test_renewing_changes_the_last_layer_alone(network):
    before = sums(network)
    network.reset_classifier(5)
    after = sums(network)
    assert {name for name in before if before[name] != after[name]} == {"last.weight"}
    with torch.inference_mode():
        assert network(torch.rand(2, 3, 227, 227)).shape == (2, 5, 1, 1)
    network.reset_classifier(3)


@pytest.mark.parametrize("stride", [1, 2, 4, 8])
def test_it_has_a_dense_form_at_every_distance(network, every):
    assert count(DenseNetwork(network, every)) == count(network)


@pytest.mark.parametrize("stride", [1, 8])
def test_the_dense_form_is_the_network_where_that_sees_no_padding(network, every):
    own, dense = inner_output(network, DenseNetwork(network, every))
    torch.testing.assert_close(dense, own, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("stride", [4, 8])
def test_every_nth_pixel_of_an_image_gets_its_scores(network, every):
    """Its pools leave the last 4 pixels of a patch out, and so score beyond the image's end."""
    with torch.inference_mode():
        scores = dense_scores(DenseNetwork(network, every), torch.rand(1, 3, 9, 6) * 255, 227)
    assert scores.shape == (1, 3, -(-9 // every), -(-6 // every))
