"""The dense form against patch by patch, over random architectures."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn

from lhs.networks import memory, pixelwise
from lhs.networks.patch import BatchDropout, PatchNetwork
from lhs.networks.pixelwise import (
    DenseNetwork,
    Sliding,
    batch_to_space,
    dense_scores,
    space_to_batch,
    to_dense,
)
from lhs.networks.products import SummedConvolution
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


def with_border(image: torch.Tensor, width: int) -> torch.Tensor:
    """With the mean colour of each image on all sides."""
    mean = image.mean(dim=(2, 3), keepdim=True).round()
    batch, channels, *sides = image.shape
    padded = mean.expand(batch, channels, *(side + 2 * width for side in sides)).clone()
    padded[:, :, width : width + sides[0], width : width + sides[1]] = image
    return padded


def canvas_of(dense: DenseNetwork, rows: int, columns: int, batch: int = 1) -> torch.Tensor:
    """A random one for so many outputs."""
    return image_of(dense.side(rows), dense.side(columns), batch)


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


@pytest.mark.thorough
@settings(deadline=None, max_examples=80)
@given(networks(), st.integers(1, 14), st.integers(1, 14), st.integers(1, 2))
def test_without_padding_inside_it_equals_patch_by_patch(drawn, height, width, batch):
    """On images of any size, smaller than the patch too, with their mean colour around them."""
    image = image_of(height, width, batch)
    half = drawn.patch // 2
    padded = with_border(image, half)
    assume(min(padded.shape[2:]) >= drawn.patch)
    expected = patch_by_patch(drawn.network, padded, drawn.patch)[:, :, :height, :width]
    with torch.inference_mode():
        found = dense_scores(DenseNetwork(drawn.network), image, 2 * half + 1)
        close(found[:, :, : expected.shape[2], : expected.shape[3]], expected)
    assert found.shape[2:] == (height, width)
    if drawn.patch % 2:
        assert torch.equal(found.argmax(dim=1), expected.argmax(dim=1)) or near_tie(expected)


def near_tie(scores: torch.Tensor) -> bool:
    """Whether two best scores somewhere are closer than arithmetic can tell."""
    best = scores.topk(2, dim=1).values
    return bool((best[:, 0] - best[:, 1]).min() < 2e-4 * max(1, float(scores.abs().max())))


@pytest.mark.thorough
@settings(deadline=None, max_examples=40)
@given(networks(), st.integers(1, 6))
def test_pixels_of_a_patch_that_no_layer_sees_do_not_matter(drawn, more):
    """Where a pool leaves the last pixels out, the output still is of the top left one's patch."""
    with torch.inference_mode():
        patch = drawn.patch + more
        assume(drawn.network(image_of(patch, patch)).shape[2:] == (1, 1))
        dense = DenseNetwork(drawn.network)
        image = canvas_of(dense, 5, 6)
        found = dense(image)
        known = patch_by_patch(drawn.network, image, patch)
        rows, columns = (min(found.shape[side], known.shape[side]) for side in (2, 3))
        close(found[:, :, :rows, :columns], known[:, :, :rows, :columns])


# With padding inside


@pytest.mark.thorough
@settings(deadline=None, max_examples=60)
@given(networks(padded=True, most_stride=6), st.integers(1, 4), st.integers(1, 9))
def test_it_equals_the_network_at_every_shift_stitched(drawn, rows, columns):
    """The network sees zeros at its border; outputs that do not are compared, all of dense's."""
    network, stride = drawn.network, drawn.stride
    dense = DenseNetwork(network)
    assert dense.start == drawn.start
    # So many more pixels before the canvas that every shift has outputs for all of it.
    more = -(-drawn.start // stride) * stride
    canvas = canvas_of(dense, rows, columns)
    whole = image_of(canvas.shape[2] + 2 * more, canvas.shape[3] + 2 * more)
    whole[:, :, more : more + canvas.shape[2], more : more + canvas.shape[3]] = canvas
    with torch.inference_mode():
        found = dense(canvas)
        assert min(found.shape[2] - rows, found.shape[3] - columns) >= 0
        expected = torch.full_like(found, torch.nan)
        for down in range(stride):
            for across in range(stride):
                own = network(whole[:, :, down:, across:])
                for m in range(own.shape[2]):
                    for n in range(own.shape[3]):
                        i = m * stride + down - drawn.start - more
                        j = n * stride + across - drawn.start - more
                        if 0 <= i < found.shape[2] and 0 <= j < found.shape[3]:
                            expected[:, :, i, j] = own[:, :, m, n]
    assert not expected.isnan().any()
    close(found, expected)


# Every n-th pixel


@pytest.mark.thorough
@settings(deadline=None, max_examples=60)
@given(networks(padded=True, strides=(1, 2)), st.integers(1, 9), st.integers(1, 9))
def test_every_nth_pixel_is_the_nth_of_all(drawn, rows, columns):
    whole = DenseNetwork(drawn.network)
    for stride in (2, 4, 8):
        if drawn.stride % stride:
            with pytest.raises(ValueError, match=f"stride = {stride}"):
                DenseNetwork(drawn.network, stride)
            continue
        dense = DenseNetwork(drawn.network, stride)
        assert dense.start == whole.start
        image = canvas_of(whole, rows * stride, columns * stride)
        with torch.inference_mode():
            found = dense(image[:, :, : dense.side(rows), : dense.side(columns)])
            close(
                found[:, :, :rows, :columns],
                whole(image)[:, :, ::stride, ::stride][:, :, :rows, :columns],
            )


def strided(*strides: int) -> PatchNetwork:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 3, 2, stride) for stride in strides]
    return PatchNetwork(nn.Sequential(*layers), 3, 2, stride=int(np.prod(strides))).eval()


@pytest.mark.parametrize(
    ("strides", "stride"),
    [((4, 2), 2), ((4, 2), 4), ((4, 2), 8), ((4, 2, 2, 2), 8), ((4,), 2), ((3, 2), 3)],
)
def test_a_stride_is_kept_as_far_as_outputs_stand_apart(strides, stride):
    network = strided(*strides)
    whole, dense = DenseNetwork(network), DenseNetwork(network, stride)
    image = canvas_of(whole, 24, 16)
    with torch.inference_mode():
        found = dense(image[:, :, : dense.side(24 // stride), : dense.side(16 // stride)])
        expected = whole(image)[:, :, ::stride, ::stride]
        close(found, expected[:, :, : found.shape[2], : found.shape[3]])


@pytest.mark.parametrize(("strides", "stride"), [((2, 2), 3), ((2, 2), 8), ((3, 2), 2), ((2,), 6)])
def test_a_distance_at_which_no_layer_ends_is_refused(strides, stride):
    with pytest.raises(ValueError, match=f"stride = {stride} pixels"):
        DenseNetwork(strided(*strides), stride)


# Phases


@given(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3), st.integers(1, 4))
def test_phases_are_every_nth_row_and_column(batch, height, width, phases):
    maps = torch.randn(batch, 2, height * phases, width * phases)
    parts = space_to_batch(maps, phases)
    for down in range(phases):
        for across in range(phases):
            number = (down * phases + across) * batch
            own = maps[:, :, down::phases, across::phases]
            assert torch.equal(parts[number : number + batch], own)
    assert torch.equal(batch_to_space(parts, phases), maps)


def test_phases_go_through_in_parts_of_a_size_and_come_out_the_same():
    network = small()
    dense = DenseNetwork(network)
    image = canvas_of(dense, 24, 32, batch=2)
    with torch.inference_mode():
        whole = dense(image)
        for chunk in (1, 3000, 20_000):
            dense.chunk = chunk
            close(dense(image), whole)


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
        DenseNetwork(network_of(nn.Conv2d(3, 3, 3, stride=2), layer))


def test_its_weights_are_the_networks_own_and_follow_them():
    network = network_of(
        nn.Conv2d(3, 4, 3, stride=2), nn.BatchNorm2d(4), nn.MaxPool2d(2), Fire(4, 2, 2),
        nn.Conv2d(4, 3, 2),
    )  # fmt: skip
    dense = DenseNetwork(network)
    image = canvas_of(dense, 4, 4)
    assert {id(p) for p in dense.parameters()} == {id(p) for p in network.parameters()}
    with torch.no_grad():
        before = dense(image)
        for parameter in network.parameters():
            parameter.add_(0.1)
        network.normalise.set((0.0, 0.0, 0.0), (50.0, 60.0, 70.0))
        assert not torch.allclose(dense(image), before)
        torch.testing.assert_close(dense(image), DenseNetwork(network)(image))


def test_the_network_itself_stays_as_it_was():
    network = network_of(
        nn.Conv2d(3, 3, 3, 2, 1), BatchDropout(0.5), Fire(3, 2, 2), nn.Conv2d(4, 3, 1)
    )
    image = image_of(20, 20)
    described, before = str(network), network.eval()(image)
    network.train()
    DenseNetwork(network)
    assert all(module.training for module in network.modules())
    assert str(network) == described
    torch.testing.assert_close(network.eval()(image), before)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("bias", [True, False])
def test_large_layers_equal_patch_by_patch(layout, bias):
    torch.manual_seed(0)
    layers = [
        nn.Conv2d(3, 64, 3, 2), nn.Conv2d(64, 1024, 6, bias=bias), nn.Conv2d(1024, 8, 2, bias=bias),
        nn.MaxPool2d(2), nn.Conv2d(8, 1024, 1), nn.Conv2d(1024, 3, 1, bias=bias),
    ]  # fmt: skip
    network = PatchNetwork(nn.Sequential(*layers), 3, 2, stride=4).eval()
    network.to(memory_format=layout)
    image = image_of(22, 25, batch=2)
    with torch.inference_mode():
        dense = DenseNetwork(network)
        assert sum(isinstance(layer, SummedConvolution) for layer in dense.layers) == 3
        canvas = torch.zeros(2, 3, dense.side(6), dense.side(9))
        canvas[:, :, :22, :25] = image
        close(dense(canvas)[:, :, :6, :9], patch_by_patch(network, image, 17))


@pytest.mark.parametrize("kernel", [1, 3])
def test_a_large_layer_is_a_plain_convolution_under_autocast(kernel):
    """In bfloat16, like its neighbours; in float32 the products are the convolution's."""
    layer = nn.Conv2d(1024, 8, kernel)
    features = torch.randn(2, 1024, 5, 7).to(memory_format=torch.channels_last)
    with torch.inference_mode():
        expected, found = layer(features), SummedConvolution(layer)(features)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
        with torch.autocast("cpu", torch.bfloat16):
            low, plain = SummedConvolution(layer)(features), layer(features)
    assert low.dtype == torch.bfloat16
    assert torch.equal(low, plain)


def test_a_mean_is_summed_in_float32():
    """169 numbers that bfloat16 has exactly; its sums would stop growing."""
    ones = torch.full((1, 2, 13, 13), 1.0078125, dtype=torch.bfloat16)
    mean = Sliding(torch.add, 13, 1)(ones)
    assert float((mean - 1.0078125).abs().max()) < 1e-6
    assert Sliding(torch.maximum, 13, 1)(ones).dtype == torch.bfloat16


# Limits by the device


@pytest.mark.parametrize(
    ("free", "chunk", "tile"),
    [
        (78 * 2**30, 2**28, 2**33),  # H100
        (75 * 2**30, 2**28, 2**33),
        (22 * 2**30, 2**26, 2**31),  # A10G
        (14 * 2**30, 2**26, 2**30),  # T4
        (1 * 2**30, 2**26, 2**27),
    ],
)
def test_chunk_and_tile_follow_the_free_memory_of_a_gpu(monkeypatch, free, chunk, tile):
    """What torch holds and does not use is free too."""
    device = torch.device("cuda:0")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda which: (free - 3 * 2**20, 80 * 2**30))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda which: 5 * 2**20)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda which: 2 * 2**20)
    memory.limits.cache_clear()
    try:
        assert memory.limits(device) == (chunk, tile)
        monkeypatch.setattr(torch.cuda, "mem_get_info", lambda which: (0, 0))
        assert memory.limits(device) == (chunk, tile)  # measured once a process
    finally:
        memory.limits.cache_clear()


def test_on_cpus_chunk_and_tile_are_fixed():
    dense = DenseNetwork(small())
    assert dense.limits == memory.CPU == (8e6, 2e9)
    dense.chunk = 3000
    assert dense.limits == (3000, 2e9)


def test_a_tile_fits_what_the_device_may_use(monkeypatch):
    dense, image = DenseNetwork(small()), image_of(41, 57)
    whole = dense_scores(dense, image, 15)
    sizes = []
    run = dense.forward
    monkeypatch.setattr(dense, "forward", lambda canvas: sizes.append(canvas.shape) or run(canvas))
    budget = dense.memory(41, 57) / 4
    monkeypatch.setattr(pixelwise, "limits", lambda device: memory.Limits(8e6, budget))
    close(dense_scores(dense, image, 15), whole)
    assert len(sizes) > 4


# Whole images


def small() -> PatchNetwork:
    """Patches of 15 pixels, outputs 8 apart; scores of a size where errors show."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 5, 3, 2), nn.ReLU(), nn.MaxPool2d(3, 2), nn.ReLU(), nn.MaxPool2d(3, 2)]
    network = PatchNetwork(nn.Sequential(*layers, nn.Conv2d(5, 5, 1)), 5, 3, stride=8).eval()
    nn.init.normal_(network.last.weight)
    return network


@pytest.mark.parametrize("size", [(17, 26), (9, 8), (16, 33), (5, 3), (1, 1), (2, 12)])
@pytest.mark.parametrize("stride", [1, 2, 4, 8])
def test_every_nth_pixel_of_an_image_is_scored(size, stride):
    network, image = small(), image_of(*size, batch=2)
    with torch.inference_mode():
        exact = patch_by_patch(network, with_border(image, 7), 15)[:, :, : size[0], : size[1]]
        found = dense_scores(DenseNetwork(network, stride), image, 15)
    close(found, exact[:, :, ::stride, ::stride])


@pytest.mark.parametrize("stride", [1, 2, 4, 8])
def test_an_image_keeps_its_size_where_pools_leave_pixels_of_the_patch_out(stride):
    """Of 19 pixels the network sees 15: it has scores for more places than there are."""
    network, image = small(), image_of(10, 6)
    with torch.inference_mode():
        assert network(image_of(19, 19)).shape[2:] == (1, 1)
        expected = patch_by_patch(network, with_border(image, 9), 19)
        found = dense_scores(DenseNetwork(network, stride), image, 19)
    assert found.shape == (1, 3, -(-10 // stride), -(-6 // stride))
    close(found, expected[:, :, :10:stride, :6:stride])


# Tiles


@pytest.mark.thorough
@pytest.mark.parametrize("stride", [1, 2, 8])
@pytest.mark.parametrize("parts", [2, 7, 1000])
def test_tiles_have_no_seams(stride, parts):
    """Also with padding inside, and down to tiles of a pixel."""
    torch.manual_seed(0)
    network = PatchNetwork(
        nn.Sequential(
            nn.Conv2d(3, 5, 3, 2, 1), nn.ReLU(), nn.MaxPool2d(3, 2), Fire(5, 3, 3), nn.AvgPool2d(2)
        ), 6, 3, stride=8,
    ).eval()  # fmt: skip
    dense, image = DenseNetwork(network, stride), image_of(41, 57, batch=2)
    whole, tiled = (
        dense_scores(dense, image, 15, budget).detach()
        for budget in (1e12, 2 * dense.memory(-(-41 // stride), -(-57 // stride)) / parts)
    )
    close(tiled, whole)
    assert torch.equal(tiled.argmax(dim=1), whole.argmax(dim=1))


PEAK = """
import re, sys, torch
from pathlib import Path
from lhs.networks.pixelwise import DenseNetwork
from lhs.networks.squeezenet import squeezenet

def status(name):
    return 1024 * int(re.search(rf"{name}:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

height, width, stride = map(int, sys.argv[1:])
dense = DenseNetwork(squeezenet(5).eval(), stride)
with torch.inference_mode():
    dense(torch.rand(1, 3, dense.side(1), dense.side(1)))
    image = torch.rand(1, 3, dense.side(height), dense.side(width))
    Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    dense(image)
print((status("VmHWM") - before) / dense.memory(height, width))
"""


@pytest.mark.thorough
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's counters")
@pytest.mark.parametrize(
    "size", [pytest.param((256, 320, 1), marks=pytest.mark.slow), (96, 128, 4)]
)
def test_memory_is_what_a_process_takes(size):
    """A process of its own, against the formula that tiles are cut by."""
    command = [sys.executable, "-c", PEAK, *map(str, size)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path.cwd())
    assert 0.2 < float(done.stdout) < 1.05


def test_every_valid_centre_and_no_other_has_an_output():
    network = network_of(nn.Conv2d(3, 3, 3, stride=4), nn.AvgPool2d(57, stride=1))
    image = image_of(230, 228, batch=2)
    patches = [image[:, :, y : y + 227, x : x + 227] for y in range(4) for x in range(2)]
    with torch.inference_mode():
        expected = torch.stack([network(patch)[:, :, 0, 0] for patch in patches], dim=2)
        found = to_dense(network)(image)
    assert found.shape[2:] == (4, 2)
    close(found.flatten(2), expected)
    with pytest.raises(ValueError, match="found 226 x 300 pixels, allowed are 227 x 227"):
        to_dense(network)(image_of(226, 300))
