"""What can be said of a training before it begins."""

from __future__ import annotations

from lhs.config import Config

# torch and the networks are imported where they are used: few configurations are looked at.

SIDE = 256
"""Of the image that is tried where a training has whole images, whose sizes are not known."""


def check_batch_norm(config: Config) -> None:
    """Refuse a training whose batch norm would have a single value of each channel.

    Only where a single image goes through the network at once: then the network is built on
    torch's meta device, which computes nothing, and tried in each phase. Not looked at are
    several workers that may be on GPUs, where they share batch norm.

    Raises
    ------
    UserError
        With the settings to change.
    """
    train = config.train
    alone = train.workers in (1, "auto") or train.gpu is False
    if train.fewest_images > 1 or not alone or config.network.patches:
        return
    import torch

    from lhs.networks.build import build_network
    from lhs.training.batch_norm import single_values_explained
    from lhs.training.loop import freeze
    from lhs.training.parallel import has_batch_norm
    from lhs.training.phases import phases

    with torch.device("meta"):
        network = build_network(config.network, 2)
    if not has_batch_norm(network):
        return
    if config.network.weights == "none":
        train = train.model_copy(update={"encoder_statistics": "update"})
    crops = config.examples == "crops"
    sides = (train.crop_height, train.crop_width) if crops else (SIDE, SIDE)
    image = torch.empty(1, 3, *sides, device="meta")
    for phase in phases(train):
        freeze(network, network, phase, train)
        with single_values_explained(train, image.shape), torch.no_grad():
            network(image)
