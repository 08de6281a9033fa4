"""The ZF networks: layer by layer as published, and where their outputs look."""

import pytest
import torch

from lhs.networks.clarifai import clarifai, clarifai512
from lhs.networks.pixelwise import DenseNetwork
from tests.networks.geometry import count, field, inner_output, seen, sides, sums, table, untouched

# (kernel, stride, padding), Fig. 3 of Zeiler and Fergus.
LAYERS = [(7, 2, 0), (3, 2, 0), (5, 2, 1), (3, 2, 0), *[(3, 1, 1)] * 3, (3, 2, 0), (6, 1, 0)]
WEIGHTS = [14_208, 614_656, 885_120, 1_327_488, 884_992, 37_752_832, 16_781_312]


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return clarifai(3).eval()


@pytest.fixture(scope="module")
def large():
    """Without values: only its shapes are looked at."""
    with torch.device("meta"):
        return clarifai512(1000)


def test_the_sides_are_the_tables(network):
    with torch.inference_mode():
        found = sides(network.features, torch.rand(1, 3, 227, 227))
    assert found == [111, 55, 27, 13, 13, 13, 13, 6, 1, 1]
    assert [*found, 1] == table(clarifai)[1]


def test_the_weights_are_the_tables_layer_by_layer(network):
    found = [count(layer) for layer in network.features if count(layer)]
    assert found == WEIGHTS
    assert [*found, 4097] == table(clarifai)[0]
    assert count(network.last) == 3 * 4097


def test_with_1000_outputs_it_has_the_62_million_weights_of_zf():
    with torch.device("meta"):
        total = count(clarifai(1000))
    assert total == sum(WEIGHTS) + 1000 * 4097 == 62_357_608


def test_an_output_sees_its_patch_and_what_the_padding_stands_for(network):
    reach, start, stride = field(LAYERS)
    assert (reach, reach - 2 * start, stride) == (331, 227, 32)
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
    with torch.inference_mode():
        assert network(torch.rand(2, 3, 227, 227)).shape == (2, 5, 1, 1)
    network.reset_classifier(3)


@pytest.mark.parametrize("every", [1, 2, 4, 8])
def test_it_has_a_dense_form_at_every_distance(network, every):
    assert count(DenseNetwork(network, every)) == count(network)


@pytest.mark.parametrize("every", [1, 8])
def test_the_dense_form_is_the_network_where_that_sees_no_padding(network, every):
    own, dense = inner_output(network, DenseNetwork(network, every))
    torch.testing.assert_close(dense, own, atol=1e-4, rtol=1e-4)


def test_clarifai512_has_the_sides_of_the_release(large):
    found = sides(large.features, torch.empty(1, 3, 227, 227, device="meta"))
    assert found == [111, 55, 26, 12, 12, 12, 12, 5, 1, 1]
    assert large(torch.empty(2, 3, 227, 227, device="meta")).shape == (2, 1000, 1, 1)


def test_clarifai512_has_the_weights_of_table_2s_last_row(large):
    widths = [3, 96, 256, 512, 1024, 512, 4096, 4096, 1000]
    kernels = [7, 5, 3, 3, 3, 5, 1, 1]
    by_hand = [
        kernel**2 * before * after + after
        for kernel, before, after in zip(kernels, widths, widths[1:], strict=False)
    ]
    found = [count(layer) for layer in (*large.features, large.last) if count(layer)]
    assert found == by_hand
    assert sum(found) == 84_558_952


def test_clarifai512_scores_the_same_203_pixels_whether_227_are_there_or_not():
    """Its pools leave the last 24 pixels of a patch out."""
    layers = [(7, 2, 0), (3, 2, 0), (5, 2, 0), (3, 2, 0), *[(3, 1, 1)] * 3, (3, 2, 0), (5, 1, 0)]
    reach, start, stride = field(layers)
    assert (reach - 2 * start, stride) == (203, 32)
    with torch.device("meta"):
        network = clarifai512(2)
        assert network(torch.empty(1, 3, 203, 203)).shape[2:] == (1, 1)
        with pytest.raises(RuntimeError):
            network(torch.empty(1, 3, 202, 202))
