"""Settings of the training: strategies, their phases, and how each step is made."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from lhs.config.section import Section

STRATEGIES = ("baseline", "sequential", "hierarchical")
OPERATIONAL = {
    "gpu", "gpu_share", "workers", "accelerator", "cache_mb", "log_every", "checkpoint_minutes",
    "checkpoint_steps", "restarts", "coarser", "validate_every",
}  # fmt: skip
"""Settings of `train` that change how a model is trained, not the result."""
OF_H = ("alpha", "learn_w", "w_factor", "w_weight_decay")
"""Settings of `train` that the strategy `hierarchical` alone uses."""

Weight = Annotated[float, Field(ge=0.0, le=1e6)]


class PhaseConfig(Section):
    epochs: int = Field(0, ge=0)
    """Passes over the training examples; 0 skips the phase."""
    steps: int | None = Field(None, ge=0)
    """Its length in steps, instead of epochs."""
    # Beyond the bound torch could not write it, or its multiples, as a float32.
    learning_rate: float = Field(1e-3, gt=0.0, le=1e30)
    enabled: bool = True
    """`false` leaves the phase out."""

    @property
    def on(self) -> bool:
        """Whether the phase takes place."""
        length = self.epochs if self.steps is None else self.steps
        return self.enabled and length > 0


class BaselinePhases(Section):
    new_layers: PhaseConfig = PhaseConfig(epochs=1, learning_rate=1e-2)
    all_layers: PhaseConfig = PhaseConfig(epochs=10, learning_rate=1e-2)


class SequentialPhases(Section):
    subclass_new_layers: PhaseConfig = PhaseConfig(epochs=1, learning_rate=1e-2)
    subclass_all_layers: PhaseConfig = PhaseConfig(epochs=6, learning_rate=1e-2)
    class_last_layer: PhaseConfig = PhaseConfig(epochs=1, learning_rate=1e-2)
    class_all_layers: PhaseConfig = PhaseConfig(epochs=6, learning_rate=1e-2)


class HierarchicalPhases(Section):
    new_layers: PhaseConfig = PhaseConfig(learning_rate=1e-2)
    """Before the paper's two steps: layers without pretrained weights alone, W fixed."""
    fixed_w: PhaseConfig = PhaseConfig(epochs=4, learning_rate=1e-2)
    learned_w: PhaseConfig = PhaseConfig(epochs=8, learning_rate=1e-2)
    """The longer step: W moves by at most the sum of its learning rates."""


class TrainConfig(Section):
    strategy: Literal["baseline", "sequential", "hierarchical"] = "baseline"
    baseline: BaselinePhases = BaselinePhases()
    sequential: SequentialPhases = SequentialPhases()
    hierarchical: HierarchicalPhases = HierarchicalPhases()
    coarser: PhaseConfig = PhaseConfig()
    """fcn16s and fcn8s: first train all layers of the next coarser network on the classes for this
    long, and start from it; by default they start from `network.weights` alone."""
    max_steps: int | None = Field(None, ge=1)
    """Stop every phase after this many steps."""
    batch_size: int = Field(8, ge=1)
    """Examples (images or patches) of one step, all workers together."""
    micro_batch: Literal["auto"] | Annotated[int, Field(ge=1)] | None = None
    """Most examples that a worker takes through the network at once; gradients are accumulated over
    as many micro-batches as a step needs. `auto`: all at first, and half as many each time that a
    GPU is out of memory."""
    examples: Literal["crops", "variants"] | None = None
    """What networks of whole images train on: random crops, or the images and the augmented
    variants that the samples come from. None: `variants` for FCN, else `crops`. Patch networks
    always train on patches around samples."""
    sampling: Literal["all", "balanced"] = "all"
    """Patches: each sample once an epoch (the paper), or all classes equally often."""
    crop_height: int = Field(192, ge=32, le=16384)
    crop_width: int = Field(256, ge=32, le=16384)
    scale_min: float = Field(0.8, gt=0.0, le=1.0)
    scale_max: float = Field(1.25, ge=1.0, le=10.0)
    """Crops are drawn from the image scaled by a factor between the two; its logarithm is uniform,
    so that smaller is as likely as larger."""
    flip: float = Field(0.5, ge=0.0, le=1.0)
    """Probability of a horizontal flip."""
    colour_jitter: float = Field(0.0, ge=0.0, lt=1.0)
    """Crops: brightness, contrast and saturation are each changed by a factor within 1 +- this."""
    class_weights: Literal["none", "inverse_root"] | list[Weight] = "none"
    """Weight of each class's pixels in the loss; a subclass has its class's. `inverse_root`: by the
    inverse square root of its share of the training pixels; or one number for each class."""
    alpha: float = Field(1.0, ge=0.0)
    """Weight of the class loss beside the subclass loss (H)."""
    learn_w: Literal["masked", "dense"] = "dense"
    """Second step of H: whether the zeros of W may move (`dense`) or stay (`masked`)."""
    encoder_factor: float = Field(0.01, ge=0.0, le=10.0)
    """Factor on a phase's rate for layers that start from pretrained weights."""
    encoder_statistics: Literal["update", "keep"] = "keep"
    """Batch norm of layers that start from pretrained weights: by the batch, and running statistics
    follow; or by the pretrained statistics, which stay."""
    ema: float = Field(0.0, ge=0.0, lt=1.0)
    """Decay of an exponential moving average of all weights, which each phase ends with; 0: none.
    The decay rises from 0 to this, so that short phases are averaged as well."""
    w_factor: float = Field(0.1, gt=0.0, le=1000.0)
    """H: factor on the rate of `learned_w` for W."""
    w_weight_decay: float | None = Field(None, ge=0.0)
    """H: weight decay of W; None: `weight_decay`, as of all weights but biases and norms."""
    subclass_head: Literal["joint", "auxiliary"] = "joint"
    """H: `joint` scores subclasses and W sums them (the paper). `auxiliary`: the last layer scores
    classes, and another one beside it subclasses; it is dropped after the training."""
    subclass_context: Literal["image", "crop"] = "image"
    """Label clusters with crops: whether the labels around a pixel are counted in the whole image
    or in what the crop shows of it."""
    optimizer_state: Literal["per_step", "kept"] = "per_step"
    """H: each step has an optimizer and a learning-rate cycle of its own, or both share one."""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    schedule: Literal["one_cycle", "steps"] = "one_cycle"
    """`steps` is the paper's: a tenth of the rate every `step_size` steps."""
    step_size: int = Field(20_000, ge=1)
    momentum: float = Field(0.9, ge=0.0, lt=1.0)
    weight_decay: float = Field(0.01, ge=0.0)
    """Beta: the paper's is 0.00025 with `sgd`."""
    precision: Literal["auto", "float32", "tf32", "bfloat16"] = "auto"
    """`auto`: TF32 where the GPU has it, else float32. Decided before the training begins, and
    part of the model's key."""
    compile: bool = False
    """Compile the network with `torch.compile`: minutes at the start of each phase."""
    workers: Literal["auto"] | Annotated[int, Field(ge=1)] = 1
    """`auto`: one a GPU of the cluster, or one on CPUs."""
    threads: int | None = Field(None, ge=1)
    """Of a worker without a GPU; None shares a node's cores among the workers there."""
    gpu: Literal["auto"] | bool = "auto"
    """Train and predict on GPUs; `auto`: where the cluster has one."""
    gpu_share: float = Field(1.0, gt=0.0, le=1.0)
    """Share of a GPU that one worker books: with 0.125, eight trainings of a sweep share a GPU.
    Models that predict book as much."""
    accelerator: str | None = None
    """Type of GPU that workers must have, as Ray names it."""
    seed: int = Field(0, ge=0)
    log_every: int = Field(10, ge=1)
    """Steps averaged in one point of a curve; losses are read from the device this often."""
    checkpoint_minutes: float = Field(5.0, gt=0.0)
    """Longest time between two checkpoints; every phase ends with one."""
    checkpoint_steps: int | None = Field(None, ge=1)
    """Steps between two checkpoints, in addition."""
    restarts: int = Field(3, ge=0)
    """How often dead workers are replaced before the run gives up."""
    validate_every: int | None = Field(None, ge=1)
    """Epochs between two validations on the images of `data.held_out`."""
    cache_mb: int = Field(1024, ge=0)
    """Memory of one worker for decoded training images and their subclass maps."""

    @property
    def fewest_images(self) -> int:
        """Fewest examples that go through the network at once: in the smallest micro-batch of the
        smallest worker."""
        workers = 1 if self.workers == "auto" else self.workers
        fewest, most = self.batch_size // workers, -(-self.batch_size // workers)
        parts = 1
        if isinstance(self.micro_batch, int):
            parts = min(-(-most // self.micro_batch), fewest)
        return fewest // parts

    @property
    def has_w(self) -> bool:
        """Whether the trained network scores subclasses and has W on top."""
        return self.strategy == "hierarchical" and self.subclass_head == "joint"

    @model_validator(mode="after")
    def _steps_of_h(self) -> Self:
        fixed, learned = self.hierarchical.fixed_w, self.hierarchical.learned_w
        if self.subclass_head == "auxiliary" and (self.strategy != "hierarchical" or learned.on):
            raise ValueError(
                "subclass_head = 'auxiliary' is for train.strategy hierarchical and has no W to "
                f"learn; found {self.strategy}, and train.hierarchical.learned_w is "
                f"{'on' if learned.on else 'off'}; set train.hierarchical.learned_w.enabled=false "
                "and, to train as long, more epochs of train.hierarchical.fixed_w"
            )
        if self.optimizer_state == "kept" and not (
            self.strategy == "hierarchical"
            and fixed.on
            and learned.on
            and fixed.learning_rate == learned.learning_rate
        ):
            raise ValueError(
                "optimizer_state = 'kept' needs train.strategy hierarchical with both steps, "
                "fixed_w and learned_w, at the same learning_rate: they share one cycle; found "
                f"{self.strategy}, "
                + ", ".join(
                    f"{name} {f'at {step.learning_rate:g}' if step.on else 'off'}"
                    for name, step in (("fixed_w", fixed), ("learned_w", learned))
                )
            )
        return self

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.workers != "auto" and self.workers > self.batch_size:
            raise ValueError(
                f"train.workers ({self.workers}) must not exceed train.batch_size "
                f"({self.batch_size})"
            )
        if self.micro_batch == "auto" and self.workers not in (1, "auto"):
            raise ValueError(
                f"micro_batch = 'auto' with workers = {self.workers}: workers wait for each other "
                "in every step; allowed is workers = 1 or a number for micro_batch"
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
