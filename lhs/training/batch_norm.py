"""Batch norm in training needs more than one value of each channel."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from lhs.config import TrainConfig
from lhs.errors import UserError


@contextmanager
def single_values_explained(train: TrainConfig, shape: Sequence[int]) -> Iterator[None]:
    """Report torch's error about a single value of each channel as a `UserError`.

    Parameters
    ----------
    train
        The settings.
    shape
        (B, 3, H, W) of the images that go through the network.
    """
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        raise UserError(
            f"train.batch_size = {train.batch_size}, train.micro_batch = {train.micro_batch}, "
            f"train.workers = {train.workers}: batch norm has a single value of each channel "
            f"where {shape[0]} image of {shape[2]} x {shape[3]} goes through the network at once; "
            "allowed are two images or more, or larger ones (crops: train.crop_height, "
            "train.crop_width) unless the network has batch norm after pooling, as smp:deeplabv3"
        ) from None
