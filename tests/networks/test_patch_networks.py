"""Every patch network: layer by layer as published, its receptive field, and its dense form."""

import gc
from typing import NamedTuple

import pytest
import torch

from lhs.networks.build import PATCH_NETWORKS
from lhs.networks.pixelwise import DenseNetwork
from lhs.networks.squeezenet import Fire
from tests.networks.geometry import (
    OUTPUTS,
    built,
    count,
    field,
    inner_output,
    seen,
    shapes_of,
    sides,
    table,
    with_large_ones_thorough,
)


class Published(NamedTuple):
    """What a network's publication says; layers as (kernel, stride, padding)."""

    layers: list[tuple[int, int, int]]
    sides: list[int]
    weights: list[int]
    parameters: int
    """With 1000 outputs."""
    geometry: tuple[int, int, int]
    """Receptive field, the same without what padding stands for, stride."""


SAME, FIRE = [(3, 1, 1)], (3, 1, 1)
PUBLISHED = {
    # Fig. 3 of Zeiler and Fergus.
    "clarifai": Published(
        [(7, 2, 0), (3, 2, 0), (5, 2, 1), (3, 2, 0), *SAME * 3, (3, 2, 0), (6, 1, 0)],
        [111, 55, 27, 13, 13, 13, 13, 6, 1, 1],
        [14_208, 614_656, 885_120, 1_327_488, 884_992, 37_752_832, 16_781_312],
        62_357_608,
        (331, 227, 32),
    ),
    # The last row of their Table 2.
    "clarifai512": Published(
        [(7, 2, 0), (3, 2, 0), (5, 2, 0), (3, 2, 0), *SAME * 3, (3, 2, 0), (5, 1, 0)],
        [111, 55, 26, 12, 12, 12, 12, 5, 1, 1],
        [
            kernel**2 * before * after + after
            for kernel, before, after in [
                (7, 3, 96), (5, 96, 256), (3, 256, 512), (3, 512, 1024), (3, 1024, 512),
                (5, 512, 4096), (1, 4096, 4096),
            ]
        ],
        84_558_952,
        (299, 203, 32),
    ),
    # Table 1 of Sermanet et al., and the padding that makes 231 of 227 pixels.
    "overfeat": Published(
        [(11, 4, 2), (2, 2, 0), (5, 1, 0), (2, 2, 0), *SAME * 3, (2, 2, 0), (6, 1, 0)],
        [56, 28, 24, 12, 12, 12, 12, 6, 1, 1],
        [34_944, 614_656, 1_180_160, 4_719_616, 9_438_208, 113_249_280, 12_587_008],
        145_920_872,
        (327, 227, 32),
    ),
    # torchvision's squeezenet1_1; of a fire module the 3 x 3, weights of two modules together.
    "squeezenet": Published(
        [
            *[(3, 2, 0), (3, 2, 0), FIRE, FIRE, (3, 2, 0), FIRE, FIRE, (3, 2, 0)],
            *[FIRE, FIRE, FIRE, FIRE, (13, 1, 0)],
        ],
        [113, 56, 56, 56, 27, 27, 27, 13, 13, 13, 13, 13, 1],
        [1_792, 23_840, 94_784, 215_904, 386_176],
        1_235_496,
        (399, 223, 16),
    ),
}  # fmt: skip
WITH_VALUES = ("clarifai", "overfeat", "squeezenet")
by_name = pytest.mark.parametrize("name", PUBLISHED)


@pytest.fixture(scope="module", params=with_large_ones_thorough(WITH_VALUES))
def network(request):
    network = built(request.param)
    network.name = request.param
    yield network
    gc.collect()


def test_every_patch_network_is_here():
    assert set(PUBLISHED) == set(PATCH_NETWORKS)


@by_name
def test_sides_and_weights_are_as_published(name):
    network, published = shapes_of(name, 1000), PUBLISHED[name]
    image = torch.empty(1, 3, 227, 227, device="meta")
    assert sides(network.features, image) == published.sides
    layers = [count(layer) for layer in network.features if count(layer)]
    if name == "squeezenet":
        fires = [count(layer) for layer in network.features if isinstance(layer, Fire)]
        layers = [layers[0], *(sum(fires[place : place + 2]) for place in range(0, 8, 2))]
    assert layers == published.weights
    assert count(network) == published.parameters
    assert count(network) - sum(layers) == count(network.last)


@pytest.mark.parametrize("name", WITH_VALUES)
def test_the_docstrings_table_is_as_published(name):
    published = PUBLISHED[name]
    weights, ends = table(PATCH_NETWORKS[name])
    if name == "squeezenet":
        # The table has two fire modules in a row.
        assert ends == [*(published.sides[n] for n in (0, 1, 2, 4, 5, 7, 8, 10, 12)), 1]
        assert weights == published.weights
    else:
        assert ends == [*published.sides, 1]
        assert weights == [*published.weights, 4097]


@by_name
def test_the_receptive_field_is_the_patch_and_what_padding_stands_for(name):
    reach, start, stride = field(PUBLISHED[name].layers)
    assert (reach, reach - 2 * start, stride) == PUBLISHED[name].geometry
    assert shapes_of(name).stride == stride


def inner(name: str) -> tuple[int, int, int]:
    """Receptive field, its start, and an output that sees no border."""
    reach, start, stride = field(PUBLISHED[name].layers)
    return reach, start, -(-start // stride)


@pytest.mark.thorough
def test_an_output_has_a_gradient_from_its_receptive_field_alone(network):
    reach, start, place = inner(network.name)
    first = place * network.stride - start
    rows, columns = seen(network, 227 + 2 * place * network.stride, place)
    assert rows == columns == list(range(first, first + reach))


def test_outputs_move_by_one_when_the_image_moves_by_the_stride(network):
    (*_, place), step = inner(network.name), network.stride
    outputs = 2 * place + 1
    image = torch.rand(1, 3, 227 + (outputs + 1) * step, 227 + (outputs - 1) * step) * 255
    with torch.inference_mode():
        here, below = network(image[:, :, :-step]), network(image[:, :, step:])
    assert here.shape == (1, OUTPUTS, outputs + 1, outputs)
    # Outputs `place` and `place` + 1 see no border.
    torch.testing.assert_close(here[:, :, place + 1, place], below[:, :, place, place])
    assert not torch.allclose(here[:, :, place, place], below[:, :, place, place])


@by_name
@pytest.mark.parametrize("stride", [1, 2, 4, 8])
def test_there_is_a_dense_form_at_every_stride(name, stride):
    network = shapes_of(name)
    assert count(DenseNetwork(network, stride)) == count(network)


@pytest.mark.thorough
@pytest.mark.parametrize("stride", [pytest.param(1, marks=pytest.mark.slow), 4, 8])
def test_the_dense_form_is_the_network_where_that_sees_no_padding(network, stride):
    own, dense = inner_output(network, DenseNetwork(network, stride))
    torch.testing.assert_close(dense, own, atol=1e-4, rtol=1e-4)
