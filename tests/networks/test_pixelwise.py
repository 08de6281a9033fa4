"""The dense form against patch by patch, over random architectures."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from lhs.networks.patch import BatchDropout, PatchNetwork
from lhs.networks.pixelwise import dense_scores, pad_with_mean, to_dense
from lhs.networks.squeezenet import Fire

MOST = 40
"""Pixels that a random network's output sees at most."""


class Drawn:
    """A random network with its receptive field, the padding before it and its stride."""

    def __init__(self, layers: list[nn.Module], channels: int, field: tuple[int, int, int]) -> None:
        self.reach, self.start, self.stride = field
        self.patch = self.reach - 2 * self.start
        self.network = PatchNetwork(nn.Sequential(*layers), channels, 3, self.stride).eval()
        for module in self.network.modules():
            if isinstance(module, nn.Conv2d | nn.BatchNorm2d):
                for tensor in (module.bias, getattr(module, "running_mean", None)):
                    if tensor is not None:
                        nn.init.normal_(tensor, std=0.3)
            if isinstance(module, nn.BatchNorm2d):
                nn.init.uniform_(module.running_var, 0.5, 2)
                nn.init.uniform_(module.weight, 0.5, 2)
        nn.init.kaiming_normal_(self.network.last.weight)

    def __repr__(self) -> str:
        return f"{self.network}, patch {self.patch}"


@st.composite
def networks(draw, padded=False, strides=(1, 2, 3), most_stride=9):
    """Any of the layers that have a dense form, one to seven of them."""
    torch.manual_seed(draw(st.integers(0, 2**20)))
    layers, channels, reach, start, step = [], 3, 1, 0, 1
    kinds = ["conv", "conv", "max", "mean", "relu", "norm", "batch", "dropout"]
    for _ in range(draw(st.integers(1, 7))):
        kind = draw(st.sampled_from([*kinds, "fire"] if padded else kinds))
        kernel, stride, padding = 1, 1, 0
        if kind == "conv":
            kernel = draw(st.integers(1, 5))
            stride = draw(st.sampled_from(strides))
            padding = draw(st.integers(0, (kernel - 1) // 2)) if padded else 0
        elif kind == "max":
            kernel, stride = draw(st.integers(1, 3)), draw(st.sampled_from(strides))
        elif kind == "mean":
            kernel, stride = draw(st.integers(1, 4)), draw(st.sampled_from((1, 2)))
        elif kind == "fire":
            kernel, padding = 3, 1
        if reach + (kernel - 1) * step > MOST or step * stride > most_stride:
            break
        after = draw(st.integers(1, 5))
        match kind:
            case "conv":
                layer = nn.Conv2d(
                    channels, after, kernel, stride, padding, bias=draw(st.booleans())
                )
                channels = after
            case "max":
                layer = nn.MaxPool2d(kernel, stride)
            case "mean":
                layer = nn.AvgPool2d(kernel, stride)
            case "relu":
                layer = nn.ReLU(inplace=draw(st.booleans()))
            case "norm":
                layer = nn.LocalResponseNorm(draw(st.integers(1, 5)), alpha=0.5)
            case "batch":
                layer = nn.BatchNorm2d(channels)
            case "dropout":
                layer = draw(st.sampled_from((nn.Dropout, BatchDropout)))(0.5)
            case "fire":
                layer = Fire(channels, after, 2)
                channels = 4
        layers.append(layer)
        reach, start, step = reach + (kernel - 1) * step, start + padding * step, step * stride
    return Drawn(layers, channels, (reach, start, step))


def image_of(height: int, width: int, batch: int = 1) -> torch.Tensor:
    return torch.randint(0, 256, (batch, 3, height, width)).float()


def close(found: torch.Tensor, expected: torch.Tensor) -> None:
    """To 1e-4, of the largest score where that is above 1."""
    assert found.shape == expected.shape
    assert float((found - expected).abs().max()) < 1e-4 * max(1, float(expected.abs().max()))


@torch.inference_mode()
def patch_by_patch(network: PatchNetwork, image: torch.Tensor, patch: int) -> torch.Tensor:
    """Scores (B, outputs, H - patch + 1, W - patch + 1)."""
    windows = image.unfold(2, patch, 1).unfold(3, patch, 1).permute(0, 2, 3, 1, 4, 5)
    scores = network(windows.flatten(0, 2))
    assert scores.shape[2:] == (1, 1)
    return scores.view(*windows.shape[:3], -1).permute(0, 3, 1, 2)


# Without padding inside


@settings(deadline=None, max_examples=80)
@given(networks(), st.integers(1, 14), st.integers(1, 14), st.integers(1, 2))
def test_without_padding_inside_it_equals_patch_by_patch(drawn, height, width, batch):
    """On images of any size, smaller than the patch too, their borders padded."""
    padded = pad_with_mean(image_of(height, width, batch), drawn.patch // 2)
    assume(min(padded.shape[2:]) >= drawn.patch)
    expected = patch_by_patch(drawn.network, padded, drawn.patch)
    with torch.inference_mode():
        close(to_dense(drawn.network)(padded), expected)


@settings(deadline=None, max_examples=40)
@given(networks(), st.integers(1, 6))
def test_pixels_of_a_patch_that_no_layer_sees_do_not_matter(drawn, more):
    """Where a pool leaves the last pixels out, the output still is of the top left one's patch."""
    with torch.inference_mode():
        patch = drawn.patch + more
        assume(drawn.network(image_of(patch, patch)).shape[2:] == (1, 1))
        image = image_of(patch + 4, patch + 5)
        expected = patch_by_patch(drawn.network, image, patch)
        close(to_dense(drawn.network)(image)[:, :, :5, :6], expected)


# With padding inside


def stitched(layers: list[nn.Module], maps: torch.Tensor) -> torch.Tensor:
    """Go through every layer at each of its shifts, and put the maps back together."""
    for place, layer in enumerate(layers):
        stride = getattr(layer, "stride", 1)
        stride = stride[0] if isinstance(stride, tuple) else stride
        if stride == 1:
            maps = layer(maps)
            continue
        if isinstance(layer, nn.Conv2d):
            maps = functional.pad(maps, [layer.padding[0]] * 4)

        def run(part, layer=layer, stride=stride):
            if isinstance(layer, nn.Conv2d):
                return functional.conv2d(part, layer.weight, layer.bias, stride)
            return layer(part)

        parts = [
            [stitched(layers[place + 1 :], run(maps[:, :, down:, across:]))
             for across in range(stride)] for down in range(stride)
        ]  # fmt: skip
        height = sum(row[0].shape[2] for row in parts)
        width = sum(part.shape[3] for part in parts[0])
        whole = torch.full((*parts[0][0].shape[:2], height, width), torch.nan)
        for down, row in enumerate(parts):
            for across, part in enumerate(row):
                whole[:, :, down::stride, across::stride] = part
        return whole
    return maps


@settings(deadline=None, max_examples=60)
@given(networks(padded=True, most_stride=6), st.integers(0, 9), st.integers(0, 9))
def test_with_padding_it_equals_every_shift_of_every_layer_stitched(drawn, more, other):
    network, least = drawn.network, drawn.patch + drawn.stride - 1
    image = image_of(least + more, least + other)
    with torch.inference_mode():
        layers = [network.normalise, *network.features, network.last]
        expected = stitched(layers, image)
        assert expected.shape[2:] == (drawn.stride + more, drawn.stride + other)
        close(to_dense(network)(image), expected)


@settings(deadline=None, max_examples=40)
@given(networks(padded=True, most_stride=6))
def test_away_from_the_border_it_equals_the_network_on_every_shifted_image(drawn):
    network, stride, start = drawn.network, drawn.stride, drawn.start
    side = drawn.reach + 2 * stride
    image, compared = image_of(side, drawn.reach + stride), 0
    with torch.inference_mode():
        dense = to_dense(network)(image)
        for down in range(stride):
            for across in range(stride):
                shifted = image[:, :, down:, across:]
                own = network(shifted)
                # Of output m the network sees pixels m * stride - start and `reach` further ones.
                rows, columns = (
                    [
                        m
                        for m in range(own.shape[dim])
                        if m * stride >= start
                        and m * stride - start + drawn.reach <= shifted.shape[dim]
                    ]
                    for dim in (2, 3)
                )
                for m in rows:
                    for n in columns:
                        found = dense[:, :, down + m * stride, across + n * stride]
                        close(found, own[:, :, m, n])
                        compared += 1
    assert compared


@settings(deadline=None, max_examples=40)
@given(networks(padded=True), st.integers(0, 20), st.integers(0, 20))
def test_it_passes_through_the_networks_own_outputs(drawn, more, other):
    """At the border too: there both see the same zeros."""
    image = image_of(drawn.patch + more, drawn.patch + other)
    with torch.inference_mode():
        dense = to_dense(drawn.network)(image)
        assert dense.shape[2:] == (more + 1, other + 1)
        close(dense[:, :, :: drawn.stride, :: drawn.stride], drawn.network(image))


# Every n-th pixel


@settings(deadline=None, max_examples=60)
@given(networks(padded=True, strides=(1, 2)), st.integers(0, 9), st.integers(0, 9))
def test_every_nth_pixel_is_the_nth_of_all(drawn, more, other):
    image = image_of(drawn.patch + more, drawn.patch + other)
    with torch.inference_mode():
        whole = to_dense(drawn.network)(image)
        for every in (2, 4, 8):
            if drawn.stride % every:
                with pytest.raises(ValueError, match=f"every = {every}"):
                    to_dense(drawn.network, every)
            else:
                close(to_dense(drawn.network, every)(image), whole[:, :, ::every, ::every])


def strided(*strides: int) -> PatchNetwork:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 3, 2, stride) for stride in strides]
    return PatchNetwork(nn.Sequential(*layers), 3, 2, stride=int(np.prod(strides))).eval()


@pytest.mark.parametrize(
    ("strides", "every"),
    [((4, 2), 2), ((4, 2), 4), ((4, 2), 8), ((4, 2, 2, 2), 8), ((3, 2), 2), ((3, 2), 3)],
)
def test_layers_whose_stride_is_too_large_are_dilated_and_later_ones_kept(strides, every):
    network, image = strided(*strides), image_of(61, 50)
    with torch.inference_mode():
        whole = to_dense(network)(image)
        close(to_dense(network, every)(image), whole[:, :, ::every, ::every])


@pytest.mark.parametrize(("strides", "every"), [((2, 2), 3), ((2, 2), 8), ((4,), 2), ((2,), 0)])
def test_a_distance_at_which_no_layer_ends_is_refused(strides, every):
    with pytest.raises(ValueError, match=f"every = {every} pixels"):
        to_dense(strided(*strides), every)


# What it is made of


def network_of(*layers: nn.Module) -> PatchNetwork:
    return PatchNetwork(nn.Sequential(*layers), 3, 2, stride=1).eval()


@pytest.mark.parametrize(
    "layer",
    [
        nn.Sigmoid(),
        nn.Linear(3, 3),
        nn.AdaptiveAvgPool2d(1),
        nn.ConvTranspose2d(3, 3, 2),
        nn.InstanceNorm2d(3),
        nn.Upsample(scale_factor=2),
        nn.Sequential(nn.ReLU()),
        nn.Conv2d(3, 3, 3, dilation=2),
        nn.Conv2d(3, 3, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(3, 3, 3, padding="same"),
        nn.Conv2d(3, 3, 3, stride=(1, 2)),
        nn.MaxPool2d(3, stride=2, padding=1),
        nn.MaxPool2d(3, stride=2, ceil_mode=True),
        nn.MaxPool2d(3, stride=2, dilation=2),
        nn.MaxPool2d((2, 3)),
        nn.AvgPool2d(3, padding=1),
        nn.AvgPool2d(3, ceil_mode=True),
        nn.AvgPool2d((2, 3), stride=1),
        nn.AvgPool2d(3, stride=1, divisor_override=5),
    ],
    ids=str,
)
def test_a_layer_without_a_dense_form_is_refused(layer):
    with pytest.raises(ValueError, match=r"dense form|equal strides"):
        to_dense(network_of(nn.Conv2d(3, 3, 3, stride=2), layer))


def test_its_weights_are_the_networks_own_and_follow_them():
    network = network_of(
        nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.MaxPool2d(2), Fire(4, 2, 2),
        nn.Conv2d(4, 3, 2),
    )  # fmt: skip
    dense, image = to_dense(network), image_of(20, 20)
    assert {id(p) for p in dense.parameters()} == {id(p) for p in network.parameters()}
    with torch.no_grad():
        before = dense(image)
        for parameter in network.parameters():
            parameter.add_(0.1)
        network.normalise.set((0.0, 0.0, 0.0), (50.0, 60.0, 70.0))
        assert not torch.allclose(dense(image), before)
        torch.testing.assert_close(dense(image), to_dense(network)(image))


def test_the_network_itself_stays_as_it_was():
    network = network_of(
        nn.Conv2d(3, 3, 3, 2, 1), BatchDropout(0.5), Fire(3, 2, 2), nn.Conv2d(4, 3, 1)
    )
    image = image_of(20, 20)
    described, before = str(network), network.eval()(image)
    network.train()
    to_dense(network).eval()
    assert all(module.training for module in network.modules())
    assert str(network) == described
    torch.testing.assert_close(network.eval()(image), before)


# Whole images


def test_the_border_is_each_images_own_mean_colour():
    image = image_of(3, 5, batch=2)
    padded = pad_with_mean(image, 2)
    assert padded.shape == (2, 3, 7, 9)
    assert torch.equal(padded[:, :, 2:5, 2:7], image)
    border = torch.ones(7, 9, dtype=torch.bool)
    border[2:5, 2:7] = False
    for b in range(2):
        for channel in range(3):
            mean = np.round(image[b, channel].numpy().mean())
            assert (padded[b, channel][border] == mean).all()


def small() -> PatchNetwork:
    """Patches of 15 pixels, outputs 8 apart; scores of a size where errors show."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 5, 3, 2), nn.ReLU(), nn.MaxPool2d(3, 2), nn.ReLU(), nn.MaxPool2d(3, 2)]
    network = PatchNetwork(nn.Sequential(*layers, nn.Conv2d(5, 5, 1)), 5, 3, stride=8).eval()
    nn.init.normal_(network.last.weight)
    return network


@pytest.mark.parametrize("size", [(17, 26), (9, 8), (16, 33), (5, 3), (1, 1), (2, 12)])
@pytest.mark.parametrize("every", [1, 2, 4, 8])
def test_scores_between_the_grids_points_are_linear(size, every):
    """And those behind the last point are its own; numpy interpolates rows, then columns."""
    network, image = small(), image_of(*size, batch=2)
    with torch.inference_mode():
        exact = patch_by_patch(network, pad_with_mean(image, 7), 15)[:, :, : size[0], : size[1]]
        found = dense_scores(to_dense(network, every), image, 15, every)
    expected = exact[:, :, ::every, ::every].numpy()
    for axis, side in ((2, size[0]), (3, size[1])):
        points = np.arange(0, side, every)
        expected = np.apply_along_axis(
            lambda row, points=points, side=side: np.interp(np.arange(side), points, row),
            axis,
            expected,
        )
    close(found, torch.from_numpy(expected).float())
    close(found[:, :, ::every, ::every], exact[:, :, ::every, ::every])


@pytest.mark.parametrize("every", [1, 2, 4, 8])
def test_an_image_keeps_its_size_where_pools_leave_pixels_of_the_patch_out(every):
    """Of 19 pixels the network sees 15: it has scores for more places than there are."""
    network, image = small(), image_of(10, 6)
    with torch.inference_mode():
        assert network(image_of(19, 19)).shape[2:] == (1, 1)
        expected = patch_by_patch(network, pad_with_mean(image, 9), 19)
        found = dense_scores(to_dense(network, every), image, 19, every)
    assert found.shape == (1, 3, 10, 6)
    close(found[:, :, ::every, ::every], expected[:, :, ::every, ::every])
