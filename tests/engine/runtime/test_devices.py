"""Which device a process takes, on machines whose cards and drivers are made up."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from lhs.engine.runtime.devices import usable
from lhs.errors import UserError


def cuda(available: bool, error: Exception | None = None) -> Any:
    """torch's module on a machine with a card, or where it fails to start with an error."""

    def init() -> None:
        if error is not None:
            raise error

    return SimpleNamespace(is_available=lambda: available, init=init)


def test_a_card_is_used_and_a_logical_gpu_is_a_cpu() -> None:
    assert usable(cuda(True))
    without = "Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU"
    assert not usable(cuda(False, RuntimeError(without)))


def test_torch_names_a_missing_driver_in_these_words() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("for machines without a card")
    assert not usable(torch.cuda)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            RuntimeError(
                "The NVIDIA driver on your system is too old (found version 12040). Please update"
            ),
            r"it: The NVIDIA driver on your system is too old \(found version 12040\); clusters",
        ),
        (AssertionError("Torch not compiled with CUDA enabled"), "Torch not compiled with CUDA"),
        (None, "torch sees no card"),
    ],
)  # fmt: skip
def test_a_card_that_torch_cannot_use_is_no_reason_to_train_on_cpus_without_a_word(
    error: Exception | None, reason: str
) -> None:
    with pytest.raises(UserError, match=rf"Ray counts a GPU here, .*{reason}.*train\.gpu=false"):
        usable(cuda(False, error))
