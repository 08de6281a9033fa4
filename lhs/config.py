"""The whole configuration of an experiment: one pydantic model per stage, all in one tree.

The dotted path of a field (`hierarchy.rho`) is its only name: the key in a recipe, in `--set`,
in a sweep's space and in MLflow's parameters.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    AllowInfNan,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_serializer,
    field_validator,
    model_validator,
)

from lhs.names import DatasetName

STRATEGIES = ("baseline", "sequential", "hierarchical")
IMAGE_KINDS = ("image_clusters", "image_embedding")
"""Hierarchies of clusters of whole images: of their GIST, or of what a pretrained network sees."""

WEIGHTS = {
    "lite": ("imagenet",),
    "squeezenet": ("imagenet",),
    "clarifai": ("release",),
    "clarifai512": ("release",),
    "overfeat": ("release",),
    "fcn32s": ("imagenet", "edges"),
    "fcn16s": ("imagenet", "edges"),
    "fcn8s": ("imagenet", "edges"),
    "timm:NAME": ("imagenet",),
}
"""Every network, and the sources of weights it has besides `file` and `none`."""
PATCH_NETWORKS = ("squeezenet", "clarifai", "clarifai512", "overfeat")


class Section(BaseModel):
    """A part of the configuration: frozen, and strict about the names in it."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_values(cls, value: Any, info: ValidationInfo) -> Any:
        # Python takes True for 1, and YAML takes `yes` and `no` for truth values.
        if isinstance(value, bool):
            if info.field_name in ("gpu", "run", "train_on_filled", "compile"):
                return "yes" if value else "no"
            raise ValueError("a truth value is not allowed here")
        if isinstance(value, str) and "\0" in value:
            raise ValueError("the character NUL is not allowed")
        return value


class StanfordConfig(Section):
    fold: int = Field(1, ge=1, le=5)
    """The test fold; the other four train."""
    split: Literal["folds", "random"] = "folds"
    """`random` draws 572 / 143 images with `data.seed`."""


class FolderConfig(Section):
    path: str = ""
    """Folder with `images/`, `labels/` and `classes.txt`."""
    void: int = Field(255, ge=0, le=65535)
    """The id that stands for "not labelled" in the label PNGs."""
    scenes: str = "none"
    """Where scene names come from: `none`, `folder`, `prefix` or the path of a CSV."""


class SyntheticConfig(Section):
    train: int = Field(160, ge=1)
    test: int = Field(40, ge=1)
    height: int = Field(128, ge=32)
    width: int = Field(160, ge=32)
    unlabelled: float = Field(0.05, ge=0.0, le=0.9)
    """Share of pixels that carry no label."""
    seed: int = Field(0, ge=0)


class DataConfig(Section):
    dataset: DatasetName = "synthetic"
    root: str = Field(default_factory=lambda: os.environ.get("LHS_DATA_ROOT", "~/lhs-data"))
    """The folder that `lhs data get` unpacks into."""
    on_bad_image: Literal["fail", "skip"] = "fail"
    max_train: int | None = Field(None, ge=1)
    """Train on a seeded random part of this many images."""
    max_test: int | None = Field(None, ge=1)
    """Test on a seeded random part of this many images."""
    held_out: int | None = Field(None, ge=1)
    """Test on so many of the training images, which are then not trained on, and leave the test
    images alone: to choose settings without a look at them."""
    seed: int = Field(0, ge=0)
    """For the random parts and Stanford's random split."""
    stanford: StanfordConfig = StanfordConfig()
    folder: FolderConfig = FolderConfig()
    synthetic: SyntheticConfig = SyntheticConfig()


class UnlabelledConfig(Section):
    mode: Literal["naive", "filled"] = "naive"
    """`filled`: the baseline, trained first, predicts unlabelled pixels of training images, and the
    hierarchy is made of the maps that it filled."""
    below: float = Field(0.9, gt=0.0, le=1.0)
    """Images are filled of which less than this share is labelled."""
    train_on_filled: Literal["yes", "no"] = "yes"
    """Train on the filled maps (the paper), or on what people annotated."""
    every: Literal[1, 2, 4, 8] = 1
    """As `evaluation.every`, for the filling."""


class ContextConfig(Section):
    superpixel_size: int = Field(300, ge=4)
    """Mean number of pixels of a superpixel."""
    variants: int = Field(5, ge=0, le=100)
    """Augmented copies of each training image, besides itself."""
    seed: int = Field(0, ge=0)


def _odd_or_inf(value: Any) -> float:
    # Tune and the command line hand over text; YAML reads `.inf`, people write `inf`.
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if math.isinf(number) and number > 0:
        return number
    if not number.is_integer() or number < 1 or number % 2 == 0:
        raise ValueError("must be an odd number of pixels, 1 or more, or inf")
    return number


class HierarchyConfig(Section):
    kind: Literal["label_clusters", "scene_names", "image_clusters", "image_embedding"] = (
        "label_clusters"
    )
    rho: float = Field(0.93, gt=0.0, le=1.0)
    """Share of samples at which classes stop being common."""
    region: Annotated[float, AllowInfNan(True), BeforeValidator(_odd_or_inf)] = 129.0
    """R: side of the window whose labels are counted, odd, or inf for the whole label map."""
    k_scale: float = Field(1.0, gt=0.0, le=100.0)
    """Factor on every K_j that Algorithm 1 finds."""
    n_star: Literal["largest_rare"] | Annotated[int, Field(ge=0)] = "largest_rare"
    """Algorithm 1's bound: every cluster must have more samples than this."""
    image_clusters: int = Field(8, ge=2, le=1000)
    """Clusters of images (`image_clusters`, `image_embedding`). The paper gives no number; 8 is as
    many as SIFTFlow has scene names."""
    max_fit_samples: int = Field(200_000, ge=100)
    """Above this many samples of a class, k-means fits a seeded sample and assigns the rest."""
    backend: Literal["auto", "sklearn", "cuml"] = "auto"
    seed: int = Field(0, ge=0)

    @field_serializer("region")
    def _region_text(self, region: float) -> int | str:
        return "inf" if math.isinf(region) else int(region)


def _family(network: str) -> str:
    return "timm:NAME" if network.startswith("timm:") else network


class NetworkConfig(Section):
    name: str = "lite"
    """A network of this project, or `timm:NAME` for any timm backbone under `lite`'s head."""
    weights: Literal["imagenet", "edges", "release", "file", "none"] = "imagenet"
    """Where it starts; random weights must be asked for. `release` and `file` read
    `weights_file`: the network's public release, or tensors under this network's own names."""
    weights_file: str = ""
    channels: int = Field(96, ge=8, le=1024)
    """Width of the feature-pyramid head (`lite`, `timm:NAME`)."""
    dropout: float | None = Field(None, ge=0.0, lt=1.0)
    """Instead of the network's own."""

    @property
    def patches(self) -> bool:
        """Whether it classifies patches, not whole images."""
        return self.name in PATCH_NETWORKS

    @field_validator("name")
    @classmethod
    def _known(cls, name: str) -> str:
        if _family(name) not in WEIGHTS:
            raise ValueError(f"allowed are {', '.join(WEIGHTS)}")
        # Before a name, timm takes `hf-hub:` and `local-dir:` to fetch a model's description.
        if name.startswith("timm:") and not re.fullmatch(r"timm:[\w.-]{1,100}", name, re.ASCII):
            raise ValueError(
                "allowed after timm: is the bare name of one of timm's models (letters, digits, "
                "_ . -), without `:` and `/`: no hub's address and no folder"
            )
        return name

    @model_validator(mode="after")
    def _weights_fit(self) -> Self:
        key = _family(self.name)
        allowed = (*WEIGHTS[key], "file", "none")
        if self.weights not in allowed:
            raise ValueError(
                f"weights = {self.weights!r}: allowed for {self.name} are {', '.join(allowed)}"
            )
        if self.weights in ("release", "file") and not self.weights_file:
            raise ValueError(f"weights = {self.weights!r} needs weights_file, the path of the file")
        return self


class PhaseConfig(Section):
    epochs: int = Field(0, ge=0)
    """Passes over the training examples; 0 skips the phase."""
    steps: int | None = Field(None, ge=0)
    """Its length in steps, instead of epochs."""
    learning_rate: float = Field(1e-3, gt=0.0)
    run: Literal["yes", "no"] = "yes"
    """`no` leaves the phase out."""

    @property
    def on(self) -> bool:
        """Whether the phase takes place."""
        length = self.epochs if self.steps is None else self.steps
        return self.run == "yes" and length > 0


class BaselinePhases(Section):
    new_layers: PhaseConfig = PhaseConfig(epochs=1, learning_rate=2e-3)
    all_layers: PhaseConfig = PhaseConfig(epochs=10, learning_rate=2e-3)


class SequentialPhases(Section):
    subclass_new_layers: PhaseConfig = PhaseConfig(epochs=1, learning_rate=2e-3)
    subclass_all_layers: PhaseConfig = PhaseConfig(epochs=6, learning_rate=2e-3)
    class_last_layer: PhaseConfig = PhaseConfig(epochs=1, learning_rate=2e-3)
    class_all_layers: PhaseConfig = PhaseConfig(epochs=6, learning_rate=1e-3)


class HierarchicalPhases(Section):
    fixed_w: PhaseConfig = PhaseConfig(epochs=4, learning_rate=2e-3)
    learned_w: PhaseConfig = PhaseConfig(epochs=8, learning_rate=2e-3)
    """The longer step: W moves by no more than its solver's rates add up to."""


class TrainConfig(Section):
    strategy: Literal["baseline", "sequential", "hierarchical"] = "baseline"
    baseline: BaselinePhases = BaselinePhases()
    sequential: SequentialPhases = SequentialPhases()
    hierarchical: HierarchicalPhases = HierarchicalPhases()
    coarser: PhaseConfig = PhaseConfig()
    """fcn16s and fcn8s: first train the next coarser network on the classes for so long, all
    layers, and start from it; by default they start from `network.weights` alone."""
    max_steps: int | None = Field(None, ge=1)
    """Stop every phase after this many steps."""
    batch_size: int = Field(8, ge=1)
    """Examples (images or patches) of one step, over all workers."""
    micro_batch: int | None = Field(None, ge=1)
    """Most examples that a worker takes through the network at once; a step's gradients are
    summed over as many such parts as it needs."""
    examples: Literal["crops", "variants"] | None = None
    """What networks of whole images train on: random crops, or the images and their augmented
    variants as the samples have them. None: `variants` for FCN, else `crops`. Patch networks
    always train on patches around samples."""
    sampling: Literal["all", "balanced"] = "all"
    """Patches: each sample once an epoch (the paper), or every class as often as any other."""
    crop_height: int = Field(192, ge=32)
    crop_width: int = Field(256, ge=32)
    scale_jitter: float = Field(0.25, ge=0.0, lt=1.0)
    """Crops are drawn from the image scaled by a factor within 1 +- this."""
    flip: float = Field(0.5, ge=0.0, le=1.0)
    """Probability of a horizontal flip."""
    alpha: float = Field(1.0, ge=0.0)
    """Weight of the class loss beside the subclass loss (H)."""
    learn_w: Literal["masked", "dense"] = "dense"
    """Second step of H: whether the zeros of W may move (`dense`) or stay (`masked`)."""
    solver: Literal["adamw", "sgd"] = "adamw"
    schedule: Literal["one_cycle", "steps"] = "one_cycle"
    """`steps` is the paper's: a tenth of the rate every `step_size` steps."""
    step_size: int = Field(20_000, ge=1)
    momentum: float = Field(0.9, ge=0.0, lt=1.0)
    weight_decay: float = Field(0.01, ge=0.0)
    """Beta: the paper's is 0.00025 with `sgd`."""
    precision: Literal["auto", "float32", "tf32", "bfloat16"] = "auto"
    """`auto`: TF32 where the GPU multiplies it, else float32. Settled before the training begins,
    and part of what the model is."""
    compile: Literal["yes", "no"] = "no"
    """Let `torch.compile` make the network's kernels: minutes at the start of each phase."""
    workers: Literal["auto"] | Annotated[int, Field(ge=1)] = 1
    """`auto`: one a GPU of the cluster, or one on CPUs."""
    threads: int | None = Field(None, ge=1)
    """Of a worker without a GPU; None shares a node's cores among the workers there."""
    gpu: Literal["auto", "yes", "no"] = "auto"
    gpu_share: float = Field(1.0, gt=0.0, le=1.0)
    """Of a GPU that one worker books: with 0.125, eight trainings of a sweep share a card. Models
    that label images book as much."""
    accelerator: str | None = None
    """Type of GPU that workers must have, as Ray names it."""
    seed: int = Field(0, ge=0)
    log_every: int = Field(10, ge=1)
    """Steps that one point of a curve stands for. Losses are read from the device this often."""
    checkpoint_minutes: float = Field(5.0, gt=0.0)
    """Longest time between two checkpoints; every phase ends with one."""
    checkpoint_steps: int | None = Field(None, ge=1)
    """Steps between two checkpoints, besides."""
    restarts: int = Field(3, ge=0)
    """How often dead workers are replaced before the run gives up."""
    validate_every: int | None = Field(None, ge=1)
    """Epochs between two looks at the scores on the images that `data.held_out` keeps out."""
    cache_mb: int = Field(1024, ge=0)
    """Memory of one worker for decoded training images and their subclass maps."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.workers != "auto" and self.workers > self.batch_size:
            raise ValueError(
                f"workers = {self.workers} can't share batch_size = {self.batch_size}; "
                "allowed is one worker an image at most"
            )
        if self.gpu_share < 1 and self.workers not in (1, "auto"):
            raise ValueError(
                f"gpu_share = {self.gpu_share:g} with workers = {self.workers}: the workers of one "
                "training need a GPU each; allowed is gpu_share = 1 or workers = 1"
            )
        phases = dict(getattr(self, self.strategy))
        if self.strategy == "sequential":
            phases = {name: phase for name, phase in phases.items() if name.startswith("class_")}
        if not any(phase.on for phase in phases.values()):
            raise ValueError(
                f"{self.strategy}: the epochs of {' and '.join(phases)} are 0, so the classes "
                "are never trained; allowed is 1 or more in one of them"
            )
        return self


class EvaluationConfig(Section):
    every: Literal[1, 2, 4, 8] = 1
    """Patch networks: pixels between two scores; those between are interpolated."""
    precision: Literal["auto", "float32", "tf32", "bfloat16"] = "auto"
    """Of trained networks, also where they make pseudo-labels; see `train.precision`."""


class ReportConfig(Section):
    baseline: Literal["train", "reuse", "none"] = "reuse"
    """Compare with the same network trained as `baseline`: train it first, or reuse it where it
    is already trained, or do not compare."""
    scenes: int = Field(6, ge=0, le=50)
    """Test images drawn in the report."""


class Config(Section):
    description: str = ""
    storage: str = Field(
        default_factory=lambda: os.environ.get("LHS_STORAGE", "~/lhs-results"), min_length=1
    )
    """Folder or URI (s3://, gs://) that stages, models and reports go to."""
    data: DataConfig = Field(default_factory=DataConfig)
    unlabelled: UnlabelledConfig = UnlabelledConfig()
    context: ContextConfig = ContextConfig()
    hierarchy: HierarchyConfig = HierarchyConfig()
    network: NetworkConfig = NetworkConfig()
    train: TrainConfig = TrainConfig()
    evaluation: EvaluationConfig = EvaluationConfig()
    report: ReportConfig = ReportConfig()

    @model_validator(mode="after")
    def _validates_on_training_images(self) -> Self:
        if self.train.validate_every is not None and self.data.held_out is None:
            raise ValueError(
                f"train.validate_every = {self.train.validate_every} needs data.held_out, the "
                "number of training images to look at: test images are for the end"
            )
        return self

    @model_validator(mode="after")
    def _fills_for_a_hierarchy(self) -> Self:
        if self.unlabelled.mode == "filled" and self.train.strategy == "baseline":
            raise ValueError(
                "unlabelled.mode = 'filled' needs train.strategy sequential or hierarchical: the "
                "baseline is what fills"
            )
        return self

    @property
    def examples(self) -> Literal["patches", "variants", "crops"]:
        """What the network trains on: see `train.examples`."""
        if self.network.patches:
            return "patches"
        usual: Literal["variants", "crops"] = (
            "variants" if self.network.name.startswith("fcn") else "crops"
        )
        return self.train.examples or usual

    def dotted(self) -> dict[str, Any]:
        """Every setting under its dotted name."""
        return dict(_flatten(self.model_dump(mode="json")))

    def yaml(self) -> str:
        """The whole tree as YAML that `load_config` reads back."""
        return yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
