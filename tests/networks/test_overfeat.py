"""OverFeat's fast model: layer by layer as published, and where its outputs look."""

import pytest
import torch
from torch.nn import functional

from lhs.networks.overfeat import overfeat
from lhs.networks.pixelwise import DenseNetwork
from tests.networks.geometry import count, field, inner_output, seen, sides, sums, table, untouched

# (kernel, stride, padding), Table 1 of Sermanet et al., and the padding that makes 227 of 231.
LAYERS = [(11, 4, 2), (2, 2, 0), (5, 1, 0), (2, 2, 0), *[(3, 1, 1)] * 3, (2, 2, 0), (6, 1, 0)]
WEIGHTS = [34_944, 614_656, 1_180_160, 4_719_616, 9_438_208, 113_249_280, 12_587_008]
SIDES = [56, 28, 24, 12, 12, 12, 12, 6, 1, 1]


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return overfeat(3).eval()


def test_the_sides_are_the_tables(network):
    with torch.inference_mode():
        found = sides(network.features, torch.rand(1, 3, 227, 227))
    assert found == SIDES
    assert [*found, 1] == table(overfeat)[1]


def test_unpadded_231_pixels_give_the_same_sides_and_scores(network):
    """The release's own geometry: the padding stands for its four more pixels."""
    image = torch.rand(1, 3, 227, 227) * 255
    first, rest = network.features[0], network.features[1:]
    wide = functional.pad(network.normalise(image), [2] * 4)
    with torch.inference_mode():
        unpadded = functional.conv2d(wide, first.weight, first.bias, stride=4)
        assert [unpadded.shape[2], *sides(rest, unpadded)] == SIDES
        torch.testing.assert_close(network.last(rest(unpadded)), network(image))


def test_the_weights_are_the_tables_layer_by_layer(network):
    found = [count(layer) for layer in network.features if count(layer)]
    assert found == WEIGHTS
    assert [*found, 4097] == table(overfeat)[0]
    assert count(network.last) == 3 * 4097


def test_with_1000_outputs_it_has_the_146_million_weights_of_the_release():
    with torch.device("meta"):
        assert count(overfeat(1000)) == 145_920_872


def test_an_output_sees_its_patch_and_what_the_padding_stands_for(network):
    reach, start, stride = field(LAYERS)
    assert (reach, reach - 2 * start, stride) == (327, 227, 32)
    first = 2 * stride - start
    rows, columns = seen(network, 227 + 4 * stride, 2)
    assert rows == columns == list(range(first, first + reach))


def test_outputs_move_by_one_when_the_image_moves_by_32_pixels(network):
    assert network.stride == 32
    image = torch.rand(1, 3, 227 + 5 * 32 + 32, 227 + 4 * 32) * 255
    with torch.inference_mode():
        here, below = network(image[:, :, :-32]), network(image[:, :, 32:])
    assert here.shape == (1, 3, 6, 5)
    # Outputs 2 and 3 see no border.
    torch.testing.assert_close(here[:, :, 3, 2], below[:, :, 2, 2])
    assert not torch.allclose(here[:, :, 2, 2], below[:, :, 2, 2])


def test_gradients_reach_every_weight(network):
    assert untouched(network, torch.rand(1, 3, 227, 227) * 255) == []


def test_renewing_changes_the_last_layer_alone(network):
    before = sums(network)
    network.reset_classifier(5)
    after = sums(network)
    assert {name for name in before if before[name] != after[name]} == {"last.weight"}
    assert network.last.out_channels == 5
    network.reset_classifier(3)


@pytest.mark.parametrize("every", [1, 2, 4, 8])
def test_it_has_a_dense_form_at_every_distance(network, every):
    assert count(DenseNetwork(network, every)) == count(network)


@pytest.mark.parametrize("every", [1, 8])
def test_the_dense_form_is_the_network_where_that_sees_no_padding(network, every):
    own, dense = inner_output(network, DenseNetwork(network, every))
    torch.testing.assert_close(dense, own, atol=1e-4, rtol=1e-4)
