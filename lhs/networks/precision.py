"""The arithmetic of a network: float32, TF32 or bfloat16, chosen once and by name."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, cast

import torch

from lhs.errors import UserError

Precision = Literal["float32", "tf32", "bfloat16"]


def resolve_precision(setting: str, device: torch.device, name: str) -> Precision:
    """Resolve a setting for a device.

    `auto` is TF32 on GPUs that support it (compute capability 8.0 and above), else float32.

    Parameters
    ----------
    setting
        `auto`, `float32`, `tf32` or `bfloat16`.
    device
        Where the network will run.
    name
        The setting's dotted name, for the message.

    Raises
    ------
    UserError
        If the device does not support it.
    """
    cuda = device.type == "cuda"
    has_tf32 = cuda and torch.cuda.get_device_capability(device) >= (8, 0)
    if setting == "auto":
        return "tf32" if has_tf32 else "float32"
    if setting == "tf32" and not has_tf32:
        raise UserError(
            f"{name} = tf32: found {_described(device)}, which does not multiply TF32 (GPUs of "
            "compute capability 8.0 and above do); allowed here are auto and float32"
        )
    # Emulated bfloat16, as on a T4, is slower than float32. On CPUs the user decides.
    emulated = cuda and not torch.cuda.is_bf16_supported(including_emulation=False)
    if setting == "bfloat16" and emulated:
        raise UserError(
            f"{name} = bfloat16: found {_described(device)}, which only emulates it; allowed here "
            "are auto and float32"
        )
    return cast(Precision, setting)


@contextmanager
def arithmetic(precision: Precision, device: torch.device) -> Iterator[None]:
    """Context in which a device computes at a precision."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    # By default torch lets cuDNN use TF32.
    torch.backends.cuda.matmul.allow_tf32 = precision != "float32"
    torch.backends.cudnn.allow_tf32 = precision != "float32"
    try:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
            yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def _described(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"device {device.type}"
