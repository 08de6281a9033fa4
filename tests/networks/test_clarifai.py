"""The ZF networks: what the shared tests of patch networks do not say."""

import pytest
import torch

from tests.networks.geometry import shapes_of


def test_clarifai512_scores_the_same_203_pixels_whether_227_are_there_or_not():
    """Its pools leave the last 24 pixels of a patch out."""
    network = shapes_of("clarifai512")
    assert network(torch.empty(1, 3, 203, 203, device="meta")).shape[2:] == (1, 1)
    with pytest.raises(RuntimeError):
        network(torch.empty(1, 3, 202, 202, device="meta"))
