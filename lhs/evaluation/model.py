"""A trained model in a folder: predicts without its dataset; nothing is pickled."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from lhs.context.samples import centre_pixels
from lhs.data.images import read_image
from lhs.data.resizing import resized_image
from lhs.errors import UserError
from lhs.evaluation.description import DESCRIPTION, ModelDescription, read_description
from lhs.evaluation.grid import ScoreGrid
from lhs.evaluation.pooling import SubclassPool
from lhs.evaluation.prediction import (
    Prediction,
    at_full_size,
    best_classes,
    best_of_superpixels,
    best_scored,
    enlarged,
)
from lhs.evaluation.scoring import PixelScores, SummedNetwork, inference_network
from lhs.hierarchy import Hierarchy
from lhs.hierarchy.document import HIERARCHY_FILE
from lhs.names import ClassScores
from lhs.networks.base import SceneNetwork
from lhs.networks.build import build_network
from lhs.networks.finite import non_finite
from lhs.networks.precision import Precision, arithmetic
from lhs.untrusted import shortened

MOST_PIXELS = 2**22
"""Of a batch on a GPU."""
WEIGHTS = "weights.safetensors"


def save_model(folder: Path, model: nn.Module, description: ModelDescription) -> None:
    """Write weights and description into an existing folder."""
    state = {
        name: tensor.detach().cpu().contiguous()
        for name, tensor in inference_network(model).state_dict().items()
    }
    save_file(state, str(folder / WEIGHTS))
    (folder / DESCRIPTION).write_text(description.as_json() + "\n", encoding="utf-8")


class Model:
    """A network and its classes, ready to predict.

    Parameters
    ----------
    network
        Scores L classes.
    description
        Its classes and origin.
    device
        Where it runs.
    stride
        Patch networks: pixels between two scores, down and across; others are interpolated.
    precision
        The network's arithmetic, which the device must have: see `resolve_precision`.
    pool
        Makes class scores of subclass scores, instead of W.

    Raises
    ------
    ValueError
        If the network cannot score at this stride.
    """

    def __init__(
        self,
        network: nn.Module,
        description: ModelDescription,
        device: str = "cpu",
        stride: int = 1,
        precision: Precision = "float32",
        pool: SubclassPool | None = None,
    ) -> None:
        self.device = torch.device(device)
        self.precision = precision
        self.most_pixels = MOST_PIXELS
        network.to(self.device, memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
        # Folding compares scores: in TF32 they would differ too much.
        with arithmetic("float32", self.device):
            self.scores = PixelScores(network, stride, pool)
        self.description = description

    @property
    def network(self) -> SceneNetwork:
        """The network alone, without W."""
        return self.scores.network

    @property
    def classes(self) -> tuple[str, ...]:
        """Name of each class id."""
        return self.description.classes

    @property
    def colours(self) -> np.ndarray:
        """(L, 3) uint8."""
        return np.array(self.description.colours, np.uint8).reshape(-1, 3)

    def predict(
        self, image: np.ndarray | str | Path, superpixels: np.ndarray | None = None
    ) -> Prediction:
        """Label every pixel of an image of any size.

        Where the model was trained with `data.long_side`, a larger image is resized as in training,
        and each pixel gets the label and the scores of the nearest one of the resized image.

        Parameters
        ----------
        image
            (H, W, 3) uint8 RGB, or the path of an image file, which is turned as its EXIF
            orientation says.
        superpixels
            Patch networks: (H, W) ids from 0 without gaps. Then only the patch around the centre of
            each is scored, and all its pixels get that label.

        Raises
        ------
        UserError
            For an unreadable file or an array of another shape or type, superpixels of another
            shape, or superpixels for a network that is no patch network.
        """
        if superpixels is None:
            return self.predict_batch([image])[0]
        [pixels] = self._checked([image])
        [seen] = self.resized([pixels])
        places = self._centres(pixels, superpixels)
        # Their pixels in the resized image.
        sides = torch.tensor([pixels.shape[:2], seen.shape[:2]])
        places = (2 * places + 1) * sides[1] // (2 * sides[0])
        with torch.inference_mode(), arithmetic(self.precision, self.device):
            return best_of_superpixels(
                pixels, self.scores.at(self._tensor([seen]), places), superpixels, self.classes,
                self.colours,
            )  # fmt: skip

    def resized(self, images: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Images (H, W, 3) uint8 as the network is to see them: see `data.long_side`."""
        return [resized_image(image, self.description.long_side) for image in images]

    def predict_batch(
        self, images: Sequence[np.ndarray | str | Path], *, resize: bool = True
    ) -> list[Prediction]:
        """Label every pixel of images of one size, in batches where that is faster.

        Parameters
        ----------
        images
            (H, W, 3) uint8 RGB each, or paths of image files.
        resize
            False for images that `resized` has made, or scaled ones of these.

        Raises
        ------
        UserError
            For an unreadable file, an array of another shape or type, or images of several sizes.
        """
        pixels = self._checked(images)
        seen = self.resized(pixels) if resize else pixels
        with torch.inference_mode():
            return [
                at_full_size(best_scored(small, grid, self.classes, self.colours), image)
                for image, small, grid in zip(pixels, seen, self._grids(seen), strict=True)
            ]

    def label_batch(self, images: Sequence[np.ndarray]) -> list[torch.Tensor]:
        """Class ids alone, left on the device, of images as `predict_batch` takes them.

        Returns
        -------
        list of Tensor
            (H, W) uint8, uint16 above 255 classes.
        """
        pixels = self._checked(images)
        with torch.inference_mode():
            return [
                enlarged(best_classes(grid, len(self.classes)), image.shape[:2])
                for image, grid in zip(pixels, self._grids(self.resized(pixels)), strict=True)
            ]

    def _checked(self, images: Sequence[np.ndarray | str | Path]) -> list[np.ndarray]:
        return _checked(images, self.description.image_range)

    def _grids(self, images: list[np.ndarray]) -> Iterator[ScoreGrid]:
        # One image of a patch network fills a GPU, and CPUs gain nothing from batches.
        size = 1
        if self.device.type == "cuda" and self.scores.dense is None and images:
            size = max(1, self.most_pixels // (images[0].shape[0] * images[0].shape[1]))
        first = 0
        while first < len(images):
            part = images[first : first + size]
            try:
                with arithmetic(self.precision, self.device):
                    grids = self.scores.grids(self._tensor(part))
            except torch.OutOfMemoryError:
                if len(part) == 1:
                    raise
                size = -(-len(part) // 2)
                # Later batches begin with as many.
                self.most_pixels = size * images[0].shape[0] * images[0].shape[1]
            else:
                first += len(part)
                yield from grids
                continue
            # Only here are the failed pass's tensors free.
            torch.cuda.empty_cache()

    def _tensor(self, images: list[np.ndarray]) -> torch.Tensor:
        """(B, 3, H, W) float32 on the device; what is copied there is uint8."""
        stacked = torch.from_numpy(np.stack(images)).to(self.device)
        return stacked.permute(0, 3, 1, 2).float()

    def _centres(self, pixels: np.ndarray, superpixels: np.ndarray) -> torch.Tensor:
        if self.scores.dense is None:
            raise UserError(
                f"superpixels' centres: the model is {self.description.network.name}, which scores "
                "whole images; allowed are patch networks"
            )
        if superpixels.shape != pixels.shape[:2]:
            raise UserError(
                f"superpixels: found {superpixels.shape}, the image has {pixels.shape[:2]}"
            )
        return torch.from_numpy(np.stack(np.divmod(centre_pixels(superpixels), pixels.shape[1]), 1))


def _checked(
    images: Sequence[np.ndarray | str | Path], image_range: tuple[float, float] | None
) -> list[np.ndarray]:
    """Images (H, W, 3) uint8 of one size; files are read."""
    found = []
    for image in images:
        pixels = (
            image
            if isinstance(image, np.ndarray)
            else read_image(Path(image), upright=True, value_range=image_range)
        )
        if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8 or not pixels.size:
            raise UserError(
                f"image: found {pixels.shape} {pixels.dtype}, allowed is (H, W, 3) uint8"
            )
        found.append(pixels)
    sizes = {pixels.shape for pixels in found}
    if len(sizes) > 1:
        raise UserError(f"images: found sizes {sorted(sizes)}, allowed together is one")
    return found


def load_model(
    folder: Path,
    device: str = "cpu",
    stride: int = 1,
    precision: Precision = "float32",
    class_scores: ClassScores = "w",
) -> Model:
    """Open a model folder; `device`, `stride` and `precision` as in `Model`.

    `class_scores` is `evaluation.class_scores`; other values than `w` need a model with W and the
    hierarchy in its folder.

    Raises
    ------
    UserError
        If a file is missing, malformed or does not fit the other, weights are not finite, or the
        network cannot score at this stride or by these `class_scores`.
    """
    description = read_description(folder)
    pool = None if class_scores == "w" else _pool(folder, description, class_scores)
    try:
        # safetensors says of a file that may not be read that it is not there.
        (folder / WEIGHTS).open("rb").close()
    except OSError as error:
        raise UserError(f"{folder / WEIGHTS}: {error.strerror}") from None
    try:
        # On the meta device first: the description may ask for any number of outputs.
        with torch.device("meta"):
            _check_weights(_build(description), folder / WEIGHTS)
        network = _build(description)
        state = load_file(str(folder / WEIGHTS))
        network.load_state_dict(state)
    except (OSError, ValueError, SafetensorError, RuntimeError) as error:
        raise UserError(
            f"{folder / WEIGHTS}: does not fit {DESCRIPTION}: {shortened(str(error), 1000)}"
        ) from None
    bad = non_finite(state)
    if bad:
        raise UserError(
            f"{folder / WEIGHTS}: {bad[0]} holds infinity or nan: its training diverged; train "
            "again with a lower learning rate"
        )
    try:
        return Model(network, description, device, stride, precision, pool)
    except ValueError as error:
        raise UserError(f"{description.network.name}: {error}") from None


def _pool(folder: Path, description: ModelDescription, rule: ClassScores) -> SubclassPool:
    """The pooling of a model's subclass scores, by the hierarchy in its folder."""
    if not description.has_w:
        raise UserError(
            f"class_scores = {rule}: the model in {folder} scores classes alone (it was trained as "
            f"{description.strategy}); allowed is w"
        )
    hierarchy = Hierarchy.load(folder / HIERARCHY_FILE)
    if hierarchy.digest != description.hierarchy_digest:
        raise UserError(
            f"{folder / HIERARCHY_FILE}: has the digest {hierarchy.digest[:12]}..., the model was "
            f"trained with {str(description.hierarchy_digest)[:12]}..."
        )
    found = (hierarchy.classes, len(hierarchy.subclasses))
    if found != (description.classes, description.outputs):
        raise UserError(
            f"{folder / HIERARCHY_FILE}: its classes or number of subclasses are not those of "
            f"{DESCRIPTION}"
        )
    return SubclassPool(rule, hierarchy.parents)


def _build(description: ModelDescription) -> nn.Module:
    network: nn.Module = build_network(description.network, description.outputs)
    if description.has_w:
        empty = torch.zeros(len(description.classes), description.outputs)
        network = SummedNetwork(network, empty)
    return network


def _check_weights(network: nn.Module, path: Path) -> None:
    """Compare names and shapes with those in the file's header."""
    wanted = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    with safe_open(path, framework="pt") as file:
        found = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    for name in wanted:
        if name not in found:
            raise ValueError(f'tensor "{name}" is missing')
        if found[name] != wanted[name]:
            raise ValueError(f"{name} has shape {found[name]}, needed is {wanted[name]}")
    for name in found:
        if name not in wanted:
            raise ValueError(f'tensor "{shortened(name)}" is unknown')
