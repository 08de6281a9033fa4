"""The whole configuration of an experiment: one pydantic model per stage, all in one tree.

The dotted path of a field (`hierarchy.rho`) is its only name: the key in a recipe, in `--set`,
in a sweep's space and in MLflow's parameters.
"""

from __future__ import annotations

import difflib
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    AllowInfNan,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_serializer,
    field_validator,
    model_validator,
)

from lhs.errors import UserError

DATASETS = ("synthetic", "siftflow", "stanford", "barcelona", "lmsun", "folder")
STRATEGIES = ("baseline", "sequential", "hierarchical")


class Section(BaseModel):
    """A part of the configuration: frozen, and strict about the names in it."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _no_truth_values(cls, value: Any, info: ValidationInfo) -> Any:
        # Python takes True for 1, and YAML takes `yes` and `no` for truth values.
        if isinstance(value, bool):
            if info.field_name == "gpu":
                return "yes" if value else "no"
            raise ValueError("a truth value is not allowed here")
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
    dataset: Literal["synthetic", "siftflow", "stanford", "barcelona", "lmsun", "folder"] = (
        "synthetic"
    )
    root: str = Field(default_factory=lambda: os.environ.get("LHS_DATA_ROOT", "~/lhs-data"))
    """The folder that `lhs data get` unpacks into."""
    on_bad_image: Literal["fail", "skip"] = "fail"
    max_train: int | None = Field(None, ge=1)
    """Train on a seeded random part of this many images."""
    max_test: int | None = Field(None, ge=1)
    """Test on a seeded random part of this many images."""
    seed: int = Field(0, ge=0)
    """For the random parts and Stanford's random split."""
    stanford: StanfordConfig = StanfordConfig()
    folder: FolderConfig = FolderConfig()
    synthetic: SyntheticConfig = SyntheticConfig()


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
    kind: Literal["label_clusters", "scene_names"] = "label_clusters"
    rho: float = Field(0.93, gt=0.0, le=1.0)
    """Share of samples at which classes stop being common."""
    region: Annotated[float, AllowInfNan(True), BeforeValidator(_odd_or_inf)] = 129.0
    """R: side of the window whose labels are counted, odd, or inf for the whole label map."""
    k_scale: float = Field(1.0, gt=0.0, le=100.0)
    """Factor on every K_j that Algorithm 1 finds."""
    n_star: Literal["largest_rare"] | Annotated[int, Field(ge=0)] = "largest_rare"
    """Algorithm 1's bound: every cluster must have more samples than this."""
    max_fit_samples: int = Field(200_000, ge=100)
    """Above this many samples of a class, k-means fits a seeded sample and assigns the rest."""
    backend: Literal["auto", "sklearn", "cuml"] = "auto"
    seed: int = Field(0, ge=0)

    @field_serializer("region")
    def _region_text(self, region: float) -> int | str:
        return "inf" if math.isinf(region) else int(region)


class NetworkConfig(Section):
    name: Literal["lite"] = "lite"
    weights: Literal["imagenet", "none"] = "imagenet"
    """Where the encoder starts; random weights must be asked for."""
    channels: int = Field(96, ge=8, le=1024)
    """Width of the feature-pyramid head."""


class PhaseConfig(Section):
    epochs: int = Field(ge=0)
    """Passes over the training images; 0 skips the phase."""
    learning_rate: float = Field(gt=0.0)


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
    max_steps: int | None = Field(None, ge=1)
    """Stop every phase after this many steps."""
    batch_size: int = Field(8, ge=1)
    """Images of one step, over all workers."""
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
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """`auto`: bfloat16 where the device multiplies it natively, else float32."""
    workers: int = Field(1, ge=1)
    gpu: Literal["auto", "yes", "no"] = "auto"
    seed: int = Field(0, ge=0)
    cache_mb: int = Field(1024, ge=0)
    """Memory of one worker for decoded training images."""

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.workers > self.batch_size:
            raise ValueError(
                f"workers = {self.workers} can't share batch_size = {self.batch_size}; "
                "allowed is one worker an image at most"
            )
        phases = dict(getattr(self, self.strategy))
        if self.strategy == "sequential":
            phases = {name: phase for name, phase in phases.items() if name.startswith("class_")}
        if not any(phase.epochs for phase in phases.values()):
            raise ValueError(
                f"{self.strategy}: the epochs of {' and '.join(phases)} are 0, so the classes "
                "are never trained; allowed is 1 or more in one of them"
            )
        return self


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
    context: ContextConfig = ContextConfig()
    hierarchy: HierarchyConfig = HierarchyConfig()
    network: NetworkConfig = NetworkConfig()
    train: TrainConfig = TrainConfig()
    report: ReportConfig = ReportConfig()

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


def recipes() -> dict[str, Path]:
    """The packaged recipes: name to file."""
    folder = Path(str(resources.files("lhs") / "recipes"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load_config(recipe: str = "demo", settings: Sequence[str] = ()) -> Config:
    """Read a recipe and put single settings over it.

    Parameters
    ----------
    recipe
        The name of a packaged recipe, or the path of a YAML file.
    settings
        `key=value` texts, the key dotted, the value in YAML.

    Raises
    ------
    UserError
        For an unknown recipe, an unknown key or a value out of range.
    """
    known = recipes()
    path = known.get(recipe) or Path(recipe).expanduser()
    if recipe not in known and not path.is_file():
        near = difflib.get_close_matches(recipe, known, n=3)
        hint = f"did you mean {', '.join(near)}? " if near else ""
        raise UserError(
            f"unknown recipe {recipe!r}: {hint}allowed are {', '.join(known)}, "
            "or the path of a YAML file"
        )
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UserError(f"recipe {path}: not readable as YAML: {error}") from None
    if tree is None:
        tree = {}
    if not isinstance(tree, dict):
        raise UserError(f"recipe {path}: found {type(tree).__name__}, allowed is a mapping of keys")
    for setting in settings:
        _put(tree, setting)
    return build_config(tree, source=f"recipe {recipe}")


def build_config(tree: Mapping[str, Any], source: str = "configuration") -> Config:
    """Validate a nested mapping; every mistake becomes one line of a UserError."""
    try:
        return Config.model_validate(_merged(Config().model_dump(), tree))
    except ValidationError as error:
        told: dict[str, list[str]] = {}
        for problem in error.errors():
            found, allowed = _explain(dict(problem))
            told.setdefault(found, []).append(allowed)
        lines = [f"  {found}: {' or '.join(allowed)}" for found, allowed in told.items()]
        raise UserError("\n".join([f"{source}:", *lines])) from None


def _merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        below = merged.get(key)
        both = isinstance(below, Mapping) and isinstance(value, Mapping)
        merged[key] = _merged(below, value) if both else value  # type: ignore[arg-type]
    return merged


def _put(tree: dict[str, Any], setting: str) -> None:
    key, equals, text = setting.partition("=")
    if not equals or not key.strip():
        raise UserError(f"--set {setting}: allowed is key=value, as in hierarchy.rho=0.93")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise UserError(f"--set {setting}: the value {text!r} is not readable as YAML") from None
    *parents, last = key.strip().split(".")
    node = tree
    for parent in parents:
        child = node.setdefault(parent, {})
        if not isinstance(child, dict):
            raise UserError(f"--set {setting}: {parent!r} is a single setting, not a section")
        node = child
    node[last] = value


def _explain(problem: dict[str, Any]) -> tuple[str, str]:
    # A union's branches appear in the location behind the field's own name.
    location = [str(part) for part in problem["loc"]]
    known = list(Config().dotted())
    while location and not any(
        name == (dotted := ".".join(location)) or name.startswith(dotted + ".") for name in known
    ):
        if problem["type"] == "extra_forbidden":
            break
        location.pop()
    name = ".".join(location) or "the configuration"
    if problem["type"] == "extra_forbidden":
        near = [key for key in known if key.endswith(f".{name}")]
        near = near or difflib.get_close_matches(name, known, n=3)
        section = name.rpartition(".")[0]
        allowed = near or [key for key in known if key.rpartition(".")[0] == section] or known
        return f"unknown key {name!r}", f"allowed are {', '.join(allowed)}"
    message = str(problem["msg"]).removeprefix("Value error, ")
    found = name if isinstance(problem["input"], Mapping) else f"{name} = {problem['input']!r}"
    return found, f"{message[0].lower()}{message[1:]}"
