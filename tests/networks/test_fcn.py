"""The FCNs: VGG16's layers, where the scores stand, and how a finer one starts."""

import gc

import pytest
import torch
from torch import nn
from torch.nn import functional
from torchvision.models import vgg16

from lhs.networks.fcn import FCN, bilinear
from tests.networks.geometry import OUTPUTS, count, field, table

# (kernel, stride, padding), configuration D of Simonyan and Zisserman, and the 7 x 7 layer.
CONV, POOL = (3, 1, 1), (2, 2, 0)
BLOCKS = [[CONV] * convolutions + [POOL] for convolutions in (2, 2, 3, 3, 3)]
LAYERS = [*(layer for block in BLOCKS for layer in block), (7, 1, 3)]


def unfilled(name: str) -> FCN:
    """Without the time that random weights take: only the last layers have their start."""
    with torch.device("meta"):
        network = FCN(name, OUTPUTS)
    network.to_empty(device="cpu").reset_classifier(OUTPUTS)
    return network.eval()


@pytest.fixture(scope="module")
def coarse():
    torch.manual_seed(0)
    network = FCN("fcn32s", OUTPUTS).eval()
    # As if trained: scores of a size where errors show, biases too.
    nn.init.normal_(network.score.weight, std=0.05)
    nn.init.normal_(network.score.bias)
    yield network
    gc.collect()


@pytest.fixture(scope="module")
def middle(coarse):
    torch.manual_seed(1)
    network = unfilled("fcn16s")
    network.start_from(coarse)
    return network


@pytest.fixture(scope="module")
def fine(middle):
    network = unfilled("fcn8s")
    network.start_from(middle)
    return network


@pytest.fixture
def trained(middle):
    """The fcn16s when its pool 4 scores something and its upsampling has moved."""
    start = {name: tensor.clone() for name, tensor in middle.state_dict().items()
             if name.startswith(("score_pool", "up"))}  # fmt: skip
    torch.manual_seed(2)
    nn.init.normal_(middle.score_pool[0].weight, std=0.05)
    with torch.no_grad():
        middle.up[0].weight.mul_(1.1)
    yield middle
    middle.load_state_dict(start, strict=False)


def image_of(height: int, width: int) -> torch.Tensor:
    torch.manual_seed(3)
    return torch.rand(1, 3, height, width) * 255


# Layers


@pytest.mark.thorough
def test_every_block_halves_the_side_and_the_top_keeps_it(coarse):
    with torch.inference_mode():
        features, found = coarse.normalise(image_of(224, 224)), []
        for block in coarse.blocks:
            for layer in block:
                before, features = features, layer(features)
                if not isinstance(layer, nn.MaxPool2d):
                    assert features.shape[2:] == before.shape[2:]
            found.append(features.shape[1:])
        top = coarse.top(features)
        pooled = coarse.pooled(image_of(224, 224))
    torch.testing.assert_close(pooled, features.mean(dim=(2, 3)))
    assert found == [
        (64, 112, 112), (128, 56, 56), (256, 28, 28), (512, 14, 14), (512, 7, 7)
    ]  # fmt: skip
    assert top.shape[1:] == (4096, 7, 7)


@pytest.mark.thorough
def test_the_weights_are_vgg16s_layer_by_layer(coarse):
    with torch.device("meta"):
        theirs = vgg16(weights=None)
    ours = [*(layer for block in coarse.blocks for layer in block), *coarse.top]
    found = [count(layer) for layer in ours if count(layer)]
    expected = [count(m) for m in (*theirs.features, *theirs.classifier) if count(m)]
    assert found == expected[:-1]
    assert sum(found) + 1000 * 4097 == sum(expected) == 138_357_544


def test_the_weights_are_the_tables(coarse):
    big = [count(coarse.blocks), count(coarse.top[0]), count(coarse.top[3]), 4097]
    assert table(FCN)[0] == big
    assert count(coarse.score) == OUTPUTS * 4097


@pytest.mark.parametrize(
    ("name", "pools", "ups", "stride"),
    [("fcn32s", [], 0, 32), ("fcn16s", [513], 1, 16), ("fcn8s", [513, 257], 2, 8)],
)
def test_with_21_classes_each_has_the_size_of_the_paper(name, pools, ups, stride):
    """134.5 million parameters (Long et al., Table 1), and the scores of pools 4 and 3."""
    with torch.device("meta"):
        network = FCN(name, 21)
    assert [count(layer) for layer in network.score_pool] == [21 * number for number in pools]
    assert [count(layer) for layer in network.up] == [21 * 16] * ups
    assert count(network.up_last) == 21 * 4 * stride**2
    assert count(network) == pytest.approx(134.5e6, rel=0.001)


# Where the scores stand


@pytest.mark.thorough
def test_features_are_the_top_and_the_finer_pools(coarse, middle, fine):
    image = image_of(64, 96)
    with torch.inference_mode():
        maps = [[tuple(m.shape) for m in n.forward_features(image)] for n in (coarse, middle, fine)]
    expected = [(1, 4096, 2, 3), (1, 512, 4, 6), (1, 256, 8, 12)]
    assert maps == [expected[:1], expected[:2], expected]


@pytest.mark.thorough
def test_a_score_sees_404_pixels_around_its_cell(coarse):
    reach, start, stride = field(LAYERS)
    assert (reach, stride) == (404, 32)
    assert 2 * start + stride == reach
    first = 6 * 32 - start
    for turned in (False, True):
        image = image_of(416, 32).requires_grad_()
        seen_as = image.transpose(2, 3) if turned else image
        score = coarse.score(coarse.forward_features(seen_as)[0])
        score = score.transpose(2, 3) if turned else score
        assert score.shape[2:] == (13, 1)
        (moved,) = torch.autograd.grad(score[0, :, 6].square().sum(), image)
        rows = moved.abs().amax(dim=(0, 1, 3))
        assert rows.nonzero().flatten().tolist() == list(range(first, first + reach))


@pytest.mark.thorough
def test_scores_move_by_one_when_the_image_moves_by_32_pixels(coarse):
    image = image_of(480, 32)
    with torch.inference_mode():
        here, below = (coarse.score(coarse.forward_features(part)[0])
                       for part in (image[:, :, :-32], image[:, :, 32:]))  # fmt: skip
    # Scores 6 and 7 see no border above or below.
    torch.testing.assert_close(here[:, :, 7], below[:, :, 6])
    assert not torch.allclose(here[:, :, 6], below[:, :, 6])


@pytest.mark.thorough
def test_a_changed_pixel_changes_the_scores_around_itself_most(fine):
    """The scores of a finer map stand where the image's content is."""
    image = image_of(96, 128)
    other = image.clone()
    other[:, :, 40:48, 104:112] = 255 - other[:, :, 40:48, 104:112]
    with torch.inference_mode():
        fine.score_pool[1].weight.normal_(std=1.0)
        difference = (fine(image) - fine(other)).abs().sum(dim=(0, 1))
        fine.score_pool[1].weight.zero_()
    row, column = divmod(int(difference.argmax()), 128)
    assert abs(row - 44) <= 8
    assert abs(column - 108) <= 8


# Upsampling


@pytest.mark.parametrize("factor", [2, 8, 16, 32])
def test_upsampling_starts_as_bilinear_interpolation(factor):
    """Torch's own, away from the border, where it repeats the outermost values."""
    torch.manual_seed(0)
    maps = torch.randn(2, 3, 5, 4)
    with torch.inference_mode():
        found = bilinear(3, factor)(maps)
    expected = functional.interpolate(maps, scale_factor=factor, mode="bilinear")
    assert found.shape == expected.shape
    inside = (..., *[slice(factor // 2, -(factor // 2))] * 2)
    torch.testing.assert_close(found[inside], expected[inside])


def test_an_output_is_upsampled_from_its_own_map_alone():
    maps = torch.randn(1, 3, 4, 4)
    other = maps.clone()
    other[:, 1] += 1
    up = bilinear(3, 8)
    changed = (up(maps) != up(other)).any(dim=(0, 2, 3))
    assert changed.tolist() == [False, True, False]


# From coarse to fine


@pytest.mark.parametrize("pair", [("coarse", "middle"), ("trained", "fine")])
def test_a_finer_network_takes_all_that_the_coarser_has(pair, request):
    coarser, finer = (request.getfixturevalue(name) for name in pair)
    place = len(finer.up) - 1
    new = {f"score_pool.{place}.weight", f"score_pool.{place}.bias", f"up.{place}.weight"}
    before = {name: finer.state_dict()[name].clone() for name in (*new, "up_last.weight")}
    taken = finer.start_from(coarser)
    state, theirs = finer.state_dict(), coarser.state_dict()
    assert set(taken) == set(state) - set(before)
    assert all(torch.equal(state[name], theirs[name]) for name in taken)
    assert all(torch.equal(state[name], tensor) for name, tensor in before.items())


@pytest.mark.thorough
def test_fcn16s_starts_as_the_fcn32s_but_for_cut_corners(coarse, middle):
    """Interpolating between interpolated scores cuts the corner at each score, by an eighth of
    the second difference there at most; where scores lie on a line nothing is cut."""
    image = image_of(160, 192)
    with torch.inference_mode():
        features = coarse.forward_features(image)
        scores = coarse.score(features[0])
        found, expected = middle(image), coarse.forward_head(features)
        twice = bilinear(OUTPUTS, 16)(bilinear(OUTPUTS, 2)(scores))
    torch.testing.assert_close(found, twice)
    inside = (..., slice(32, -32), slice(32, -32))
    bent = sum(scores.diff(n=2, dim=dim).abs().max() for dim in (2, 3)) / 8
    difference = (found - expected)[inside].abs().max()
    assert 0 < difference <= bent
    assert (found - expected)[inside].abs().mean() < 0.1 * expected[inside].std()


def test_both_ways_of_interpolating_agree_on_a_slope(coarse, middle):
    rows, columns = torch.meshgrid(torch.arange(5.0), torch.arange(6.0), indexing="ij")
    slope = (2 * rows - 3 * columns + 1).expand(1, OUTPUTS, 5, 6)
    with torch.inference_mode():
        one, two = coarse.up_last(slope), middle.up_last(middle.up[0](slope))
    inside = (..., slice(32, -32), slice(32, -32))
    torch.testing.assert_close(one[inside], two[inside])


@pytest.mark.thorough
def test_fcn8s_starts_as_the_fcn16s_that_it_comes_from(trained, fine):
    fine.start_from(trained)
    image = image_of(96, 128)
    with torch.inference_mode():
        top, pool4 = trained.forward_features(image)
        at16 = trained.up[0](trained.score(top)) + trained.score_pool[0](pool4)
        twice = bilinear(OUTPUTS, 8)(bilinear(OUTPUTS, 2)(at16))
        torch.testing.assert_close(fine(image), twice, atol=1e-4, rtol=1e-4)


def test_a_coarser_network_of_other_classes_gives_its_lower_layers_alone(coarse, middle):
    coarse.reset_classifier(OUTPUTS + 1)
    taken = set(middle.start_from(coarse))
    coarse.reset_classifier(OUTPUTS)
    last = {name for name in middle.state_dict() if name.startswith(("score", "up"))}
    assert taken == set(middle.state_dict()) - last


@pytest.mark.thorough
def test_a_new_head_ignores_finer_maps_and_interpolates(fine):
    fine.reset_classifier(OUTPUTS)
    assert not any(parameter.any() for parameter in fine.score_pool.parameters())
    assert torch.equal(fine.up[0].weight, bilinear(OUTPUTS, 2).weight)
    assert torch.equal(fine.up_last.weight, bilinear(OUTPUTS, 8).weight)
