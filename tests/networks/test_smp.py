"""Networks of segmentation_models.pytorch: the same scores as smp's own, from the same weights."""

import pytest
import segmentation_models_pytorch as smp
import torch
from torch import nn

from lhs.config import DECODERS, NetworkConfig
from lhs.config.network import LITE
from lhs.errors import UserError
from lhs.networks.encoder import EncoderNetwork
from lhs.networks.patch import BatchDropout
from lhs.networks.smp import SmpNetwork
from lhs.networks.weights import load_weights
from tests.networks.geometry import sums, trained


def shaken(network: SmpNetwork) -> SmpNetwork:
    """Give biases, factors and statistics values of their own too."""
    nn.init.normal_(trained(network).last.bias)
    return network


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("decoder", "encoder"),
    [
        *((decoder, LITE) for decoder in DECODERS),
        ("unet", "resnet18"),
        ("unet", "convnext_atto"),
        ("segformer", "convnext_atto"),
    ],
)
def test_scores_are_those_of_smp_itself(decoder, encoder):
    network = shaken(SmpNetwork(5, decoder, encoder))
    theirs = smp.create_model(decoder, f"tu-{encoder}", encoder_weights=None, classes=5).eval()
    state = {
        name.replace("last.", "segmentation_head.0."): tensor
        for name, tensor in network.state_dict().items()
        if not name.startswith("normalise.")
    }
    theirs.load_state_dict(state)
    image = torch.rand(2, 3, 64, 96) * 255
    with torch.inference_mode():
        expected = theirs(network.normalise(image))
        found = network(image)
        assert float(expected.std()) > 0
        # Beyond the decoder smp only upsamples.
        torch.testing.assert_close(theirs.segmentation_head[1](found), expected)


@pytest.mark.thorough
@pytest.mark.parametrize("stride", [8, 16])
def test_lites_encoder_is_dilated_as_a_decoder_asks(stride):
    """Each change of a stride into a dilation keeps the maps' positions: no map is shifted."""
    decoder = {8: "deeplabv3", 16: "deeplabv3plus"}[stride]
    network = SmpNetwork(2, decoder).eval()
    assert network.multiple == stride
    load_weights(network, NetworkConfig(name=f"smp:{decoder}"))
    plain = EncoderNetwork(2, 8).eval()
    load_weights(plain, NetworkConfig(channels=8))
    image = torch.rand(1, 3, 128, 128) * 255
    with torch.inference_mode():
        dilated = network.encoder(network.normalise(image))
        assert dilated[-1].shape == (1, 320, 128 // stride, 128 // stride)
        usual = plain.encoder(plain.normalise(image))
    torch.testing.assert_close(dilated[3], usual[0])


def test_new_layers_are_exactly_what_has_no_pretrained_weights():
    torch.manual_seed(0)
    network = SmpNetwork(2, "unet")
    before = sums(network)
    pretrained = set(load_weights(network, NetworkConfig(name="smp:unet")))
    after = sums(network)
    new = {name for name in before if name.startswith(("decoder.", "last."))}
    normalisation = {"normalise.mean", "normalise.std"}
    assert new | pretrained | normalisation == set(before)
    assert {name for name in before if before[name] != after[name]} <= pretrained | normalisation
    assert network.new_layers() == [network.decoder, network.last]
    assert network.normalise.mean.flatten().tolist() == [127] * 3


def test_its_encoder_is_that_of_lite():
    ours, lite = SmpNetwork(2, "unet"), EncoderNetwork(2, 8)
    load_weights(ours, NetworkConfig(name="smp:unet"))
    load_weights(lite, NetworkConfig(channels=8))
    theirs = lite.encoder.state_dict()
    state = ours.get_submodule(ours.timm_part).state_dict()
    assert set(state) == set(theirs)
    for name, tensor in state.items():
        assert torch.equal(tensor, theirs[name]), name


@pytest.mark.thorough
@pytest.mark.parametrize("decoder", DECODERS)
def test_there_is_one_dropout_and_it_repeats_by_key(decoder):
    network = SmpNetwork(3, decoder)
    [dropout] = [layer for layer in network.modules() if isinstance(layer, BatchDropout)]
    dropout.p = 0.5
    dropout.train()
    image, keys = torch.rand(2, 3, 64, 64) * 255, torch.tensor([5, 9])
    network.eval()
    dropout.train()
    with torch.inference_mode():
        dropout.keys = keys
        first = network(image)
        torch.testing.assert_close(network(image), first)
        dropout.keys = keys.flip(0)
        torch.testing.assert_close(network(image.flip(0)).flip(0), first)
        dropout.keys = keys + 1
        assert not torch.allclose(network(image), first)


@pytest.mark.parametrize(
    ("decoder", "encoder", "told"),
    [
        ("unet", "no_such_model", "no_such_model"),
        ("unet", "vit_tiny_patch16_224", "downsampling"),
        ("deeplabv3plus", "vgg11", "AssertionError"),
    ],
)
def test_an_encoder_that_does_not_serve_is_refused(decoder, encoder, told):
    with pytest.raises(UserError, match=rf"network\.encoder = {encoder}: .*{told}.*resnet50"):
        SmpNetwork(2, decoder, encoder)


def test_images_are_normalised_as_the_encoder_had_them():
    network = SmpNetwork(2, "unet", "resnet18")
    mean, std = (getattr(network.normalise, part).flatten() for part in ("mean", "std"))
    torch.testing.assert_close(mean, torch.tensor([123.675, 116.28, 103.53]))
    torch.testing.assert_close(std, torch.tensor([58.395, 57.12, 57.375]))
