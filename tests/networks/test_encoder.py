"""The encoder networks: shapes, size, what is pretrained and what is not."""

import pytest
import timm
import torch
from torch.nn import functional as F

from lhs.config import NetworkConfig
from lhs.errors import UserError
from lhs.networks.encoder import EncoderNetwork, MlpHead
from lhs.networks.weights import load_weights
from tests.networks.geometry import count

LITE = NetworkConfig(channels=8)


@pytest.fixture(scope="module", params=["mlp", "pyramid"])
def network(request):
    torch.manual_seed(0)
    return EncoderNetwork(11, 96, head=request.param).eval()


def test_every_pixel_sees_the_whole_scene(network):
    image = torch.full((1, 3, 128, 256), 100.0)
    other = image.clone()
    other[:, :, :, 224:] = torch.rand(1, 3, 128, 32) * 255
    with torch.inference_mode():
        difference = (network(image) - network(other)).abs().amax(dim=(0, 1, 2))
    assert (difference > 0).all()


@pytest.mark.parametrize("head", ["mlp", "pyramid"])
def test_its_size_counted_by_hand(head):
    """EfficientNet-Lite0 without its 1280-wide top and classifier, and the head written out."""
    network = EncoderNetwork(8, 96, head=head)
    whole = timm.create_model("tf_efficientnet_lite0", pretrained=False)
    top = count(whole.conv_head) + count(whole.bn2) + count(whole.classifier)
    maps = (40, 112, 320)
    if head == "mlp":
        expected = sum(2 * n + n * 96 for n in maps) + 320 * 96 + 2 * 96
    else:
        expected = sum(n * 96 + 96 for n in (*maps, 320)) + 3 * (96 * 9 + 96 * 96 + 2 * 96)
    last = 8 * 96 + 8
    assert count(network.encoder) == count(whole) - top
    assert count(network.head) == expected
    assert count(network.last) == last
    assert count(network) == count(whole) - top + expected + last
    if head == "pyramid":
        assert count(network) == pytest.approx(3.07e6, rel=0.05)


def test_the_mlp_head_is_a_layer_over_all_levels_beside_each_other():
    """Upsampled and concatenated before one projection, as is usually written."""
    torch.manual_seed(0)
    head = MlpHead((3, 5, 4), 6).eval()
    for norm in (*head.norms, head.norm):
        torch.nn.init.uniform_(norm.running_mean)
        torch.nn.init.uniform_(norm.running_var, 0.5, 2)
        torch.nn.init.uniform_(norm.weight)
        torch.nn.init.uniform_(norm.bias)
    maps = [torch.randn(2, n, 16 // s, 24 // s) for n, s in ((3, 1), (5, 2), (4, 4))]
    levels = [norm(features) for norm, features in zip(head.norms, maps, strict=True)]
    mean = levels[-1].mean(dim=(2, 3), keepdim=True).expand(-1, -1, 16, 24)
    beside = torch.cat([F.interpolate(x, size=(16, 24), mode="bilinear") for x in levels], 1)
    weights = torch.cat([*(layer.weight for layer in head.projections), head.scene.weight], 1)
    expected = F.relu(head.norm(F.conv2d(torch.cat([beside, mean], 1), weights)))
    torch.testing.assert_close(head(maps), expected)


@pytest.mark.parametrize(
    ("settings", "width"),
    [({}, 256), ({"head": "pyramid"}, 96), ({"channels": 8}, 8), ({"name": "fcn16s"}, 96)],
)
def test_widths_are_those_of_the_heads(settings, width):
    assert NetworkConfig(**settings).width == width


@pytest.mark.parametrize(("outputs", "channels"), [(1, 8), (300, 32)])
def test_outputs_and_channels_are_as_asked(outputs, channels):
    network = EncoderNetwork(outputs, channels)
    assert network.last.out_channels == outputs
    assert network.last.in_channels == channels


def test_new_layers_are_exactly_what_has_no_pretrained_weights():
    network = EncoderNetwork(2, 8)
    pretrained = set(load_weights(network, LITE))
    prefixes = {id(module): name for name, module in network.named_modules()}
    names = [prefixes[id(layer)] for layer in network.new_layers()]
    new = {
        name
        for name in network.state_dict()
        if any(name.startswith(prefix + ".") for prefix in names)
    }
    normalisation = {"normalise.mean", "normalise.std"}
    assert new | pretrained | normalisation == set(network.state_dict())
    assert not new & pretrained
    assert set(network.last_layers()) < set(network.new_layers())


# Other backbones


@pytest.mark.parametrize("backbone", ["resnet18", "convnext_atto", "mobilenetv3_small_050"])
def test_any_backbone_with_maps_at_strides_8_16_and_32_serves(backbone):
    network = EncoderNetwork(4, 8, backbone).eval()
    assert network.encoder.feature_info.reduction() == [8, 16, 32]
    with torch.inference_mode():
        assert network(torch.rand(1, 3, 64, 96) * 255).shape == (1, 4, 8, 12)


def test_images_are_normalised_as_the_backbone_had_them():
    network = EncoderNetwork(2, 8, "resnet18")
    mean, std = (getattr(network.normalise, part).flatten() for part in ("mean", "std"))
    torch.testing.assert_close(mean, torch.tensor([123.675, 116.28, 103.53]))
    torch.testing.assert_close(std, torch.tensor([58.395, 57.12, 57.375]))


@pytest.mark.parametrize("backbone", ["no_such_model", "vit_tiny_patch16_224"])
def test_a_backbone_that_gives_no_such_maps_is_refused(backbone):
    with pytest.raises(UserError, match=rf"network\.name = timm:{backbone}: .*(allowed|needed)"):
        EncoderNetwork(2, 8, backbone)
