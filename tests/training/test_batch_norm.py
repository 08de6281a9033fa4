"""Trainings that leave batch norm a single value of each channel are refused, all others not."""

import pytest
import torch

from lhs.errors import UserError
from lhs.loading import build_config
from lhs.training.checking import check_batch_norm
from lhs.training.data_source import Batch
from tests.training.test_loop import trained

SMALLEST = {"crop_height": 32, "crop_width": 32}
DEEPLAB = {"name": "smp:deeplabv3"}


def checked(network=None, **train):
    check_batch_norm(build_config({"network": network or {}, "train": train}))


@pytest.mark.parametrize(
    ("network", "train"),
    [
        ({}, {"batch_size": 1, **SMALLEST}),
        ({}, {"batch_size": 1, "encoder_statistics": "keep", **SMALLEST}),
        ({}, {"batch_size": 4, "micro_batch": 1, **SMALLEST}),
        ({}, {"batch_size": 5, "micro_batch": 2, **SMALLEST}),
        ({}, {"batch_size": 4, "workers": 4, "gpu": False, **SMALLEST}),
        # Random weights have no statistics to keep.
        (
            {"name": "smp:unet", "weights": "none"},
            {"batch_size": 1, "encoder_statistics": "keep", **SMALLEST},
        ),
        (DEEPLAB, {"batch_size": 1}),
        (DEEPLAB, {"batch_size": 1, "encoder_statistics": "keep"}),
        (DEEPLAB, {"batch_size": 1, "examples": "variants"}),
    ],
)
def test_a_single_value_is_refused(network, train):
    with pytest.raises(UserError, match=r"train\.batch_size = .*single value .*two images or more"):
        checked(network, **train)


@pytest.mark.parametrize(
    ("network", "train"),
    [
        ({}, {"batch_size": 1, "crop_height": 32, "crop_width": 64}),
        ({}, {"batch_size": 2, **SMALLEST}),
        ({}, {"batch_size": 4, "micro_batch": 2, **SMALLEST}),
        # On GPUs workers share batch norm.
        ({}, {"batch_size": 4, "workers": 4, **SMALLEST}),
        (DEEPLAB, {"batch_size": 2}),
        ({"name": "smp:unet"}, {"batch_size": 1}),
        ({"name": "smp:unet"}, {"batch_size": 1, "encoder_statistics": "keep", **SMALLEST}),
        # Without batch norm.
        ({"name": "fcn16s"}, {"batch_size": 1}),
        ({"name": "squeezenet"}, {"batch_size": 1}),
        # One phase alone, in which only the last layer learns.
        (
            DEEPLAB,
            {
                "batch_size": 1,
                "strategy": "sequential",
                "sequential": {
                    "subclass_new_layers": {"enabled": False},
                    "subclass_all_layers": {"enabled": False},
                    "class_all_layers": {"enabled": False},
                },
            },
        ),
    ],
)
def test_more_values_are_not(network, train):
    checked(network, **train)


def test_a_training_that_gets_there_all_the_same_says_so():
    """With fewer images than a batch, or whole images of a size that nobody knew."""

    def batches(epoch):
        images = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
        ids = torch.zeros(1, 32, 32, dtype=torch.int64)
        yield from [Batch(images, ids, ids, torch.arange(1))] * 3

    with pytest.raises(UserError, match=r"1 image of 32 x 32 goes through the network"):
        trained("baseline", batches=batches)
