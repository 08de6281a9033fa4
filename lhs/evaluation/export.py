"""A trained model as one file for other programs: ONNX or torch.export."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from timm.layers import Conv2dSame
from torch import Tensor, nn
from torch.nn import functional

from lhs.evaluation.model import Model
from lhs.evaluation.pooling import SubclassPool
from lhs.networks.patch import PatchNetwork

SUFFIXES = {"onnx": ".onnx", "torch-export": ".pt2"}
"""Of the files, by format."""
CLASSES = "classes.json"
"""Name of the list of classes inside a file."""
LONG_SIDE = "long_side"
"""Name of `ModelDescription.long_side` inside a file."""
EXAMPLE = (4, 5)
"""Sides of the example image of a file for any size, in multiples of `network.multiple`."""


class _AnySize(nn.Module):
    """Scores of every pixel of images whose sides are multiples of `network.multiple`."""

    def __init__(self, whole: nn.Module, stride: int, pool: SubclassPool | None) -> None:
        super().__init__()
        self.whole, self.stride, self.pool = whole, stride, pool

    def forward(self, image: Tensor) -> Tensor:
        scores: Tensor = self.whole(image)
        if self.stride != 1:
            scores = functional.interpolate(
                scores, scale_factor=float(self.stride), mode="bilinear", align_corners=False
            )
        return scores if self.pool is None else self.pool(scores[0])[None]


def export_model(model: Model, path: Path, kind: str, size: tuple[int, int] | None = None) -> None:
    """Write a model as one file.

    Its input is `image`, (1, 3, H, W) float32 RGB 0..255, its output `scores`, (1, L, H, W): the
    label of a pixel is the class with the best score. The names of the classes are in the file
    too: metadata `classes.json` in ONNX, an extra file of that name in torch.export. So is
    `long_side` if the model resizes images: callers do that.

    Parameters
    ----------
    model
        On the CPU. Not to be used for anything else afterwards.
    path
        The file to write; its name ends as `SUFFIXES` says.
    kind
        A key of `SUFFIXES`.
    size
        Height and width of images. None is any size whose sides are multiples, two at least, of
        `network.multiple`; callers pad images to it with their mean colour.

    Raises
    ------
    ValueError
        If a patch network has no size: its tiles depend on it.
    """
    scores = model.scores
    image = torch.rand(1, 3, *(size or (side * model.network.multiple for side in EXAMPLE))) * 255
    program: nn.Module = scores
    shapes = None
    if size is None:
        if isinstance(model.network, PatchNetwork):
            raise ValueError("a patch network is exported for images of one size")
        with torch.inference_mode():
            stride = image.shape[3] // scores.fast(image).shape[3]
        _fix_padding(scores.fast)
        program = _AnySize(scores.fast, stride, scores.pool)
        multiple = model.network.multiple
        sides = [multiple * torch.export.Dim(name, min=2, max=4096) for name in ("rows", "columns")]
        shapes = {"image": {2: sides[0], 3: sides[1]}}
    elif scores.dense is not None:
        # One pass, without a loop over parts.
        scores.dense.chunk, scores.budget = math.inf, math.inf
    facts = {CLASSES: json.dumps(model.classes)}
    if model.description.long_side is not None:
        facts[LONG_SIDE] = str(model.description.long_side)
    with torch.no_grad(), _quiet():
        exported = torch.export.export(program, (image,), dynamic_shapes=shapes)
        if kind == "torch-export":
            # Not to the file itself: on a full disk torch would end the process.
            content = io.BytesIO()
            torch.export.save(exported, content, extra_files=facts)
            path.write_bytes(content.getbuffer())
            return
        written = torch.onnx.export(
            exported, dynamo=True, input_names=["image"], output_names=["scores"], verbose=False
        )
        assert written is not None
        written.model.metadata_props.update(facts)
        written.save(path, external_data=False)


def _fix_padding(whole: nn.Module) -> None:
    """Replace TensorFlow's "same" padding, computed from the image, by its constant value.

    It is constant where a map's sides are multiples of the stride. The exporter would reason about
    rounded quotients of unknown sides, for minutes.
    """
    for layer in list(whole.modules()):
        for name, child in layer.named_children():
            if isinstance(child, Conv2dSame):
                pads: tuple[int, ...] = ()
                for size, stride, dilation in zip(
                    child.kernel_size, child.stride, child.dilation, strict=True
                ):
                    total = max(0, dilation * (size - 1) + 1 - stride)
                    pads = (total // 2, total - total // 2, *pads)
                plain = nn.Conv2d(
                    child.in_channels, child.out_channels, (1, 1), child.stride,
                    dilation=child.dilation, groups=child.groups,
                )  # fmt: skip
                plain.weight, plain.bias = child.weight, child.bias
                setattr(
                    layer,
                    name,
                    nn.Sequential(nn.ZeroPad2d((pads[0], pads[1], pads[2], pads[3])), plain),
                )


def share_alike(
    model: Model,
    path: Path,
    kind: str,
    images: Sequence[np.ndarray],
    size: tuple[int, int] | None = None,
) -> tuple[int, int]:
    """Number of pixels that a file labels as the model does, and of all pixels.

    `images` are (H, W, 3) uint8; `kind` and `size` are those of the file.
    """
    run = _opened(path, kind)
    multiple = 1 if size else model.network.multiple
    same = total = 0
    for image in images:
        height, width = image.shape[:2]
        tensor = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float()
        mean = tensor.mean(dim=(2, 3), keepdim=True)
        padded = mean.repeat(1, 1, height + -height % multiple, width + -width % multiple)
        padded[:, :, :height, :width] = tensor
        labels = run(padded)[0, :, :height, :width].argmax(axis=0)
        same += int((labels == model.predict(image).label_map).sum())
        total += labels.size
    return same, total


def _opened(path: Path, kind: str) -> Callable[[Tensor], np.ndarray]:
    if kind == "torch-export":
        module = torch.export.load(path).module()

        def by_torch(image: Tensor) -> np.ndarray:
            with torch.inference_mode():
                return np.asarray(module(image))

        return by_torch
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda image: np.asarray(session.run(["scores"], {"image": image.numpy()})[0])


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's progress and warnings."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
