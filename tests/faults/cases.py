"""Which faults are tried at which stages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from lhs.config import STRATEGIES, TrainConfig

STEPS = 8
"""Of every phase of a training."""
PHASES = {name: tuple(dict(getattr(TrainConfig(), name))) for name in STRATEGIES}
FAULTS = {
    "worker": "SIGKILL of the process that does the work",
    "raylet": "SIGKILL of the raylet, and all below it, of one of two nodes that work",
    "driver": "SIGKILL of the driver",
    "full": "no block is left in the storage",
    "read-only": "the storage can be read only",
    "mlflow": "the MLflow server is gone for a minute and back",
    "image": "one image is cut short (unpack: the archive)",
    "store": "an object store of 75 MiB, of which 70 are taken",
}


@dataclass(frozen=True)
class Stage:
    """A moment at which faults strike.

    Attributes
    ----------
    name
        In the table.
    command
        What is run, see `tests.faults.runs`.
    target, call
        The process that returns from the function for that time stands still, and the fault
        strikes.
    made
        Stages of the storage that are still to be made.
    left_out
        Faults that make no sense, each with the reason.
    on_node
        Where a node is lost: another target, since the head is none of the nodes that work.
    """

    name: str
    command: str
    target: str
    call: int
    made: tuple[str, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    on_node: str = ""


TRAINED = ("model", "evaluation")
STEP = "lhs.training.trainer:PhaseTrainer._record"
NO_RAY = "no Ray"
NO_MLFLOW = "no MLflow"

STAGES = [
    Stage(
        "unpack", "unpack", "lhs.data.archive:_write_member", 9,
        left_out={"worker": NO_RAY, "raylet": NO_RAY, "store": NO_RAY, "mlflow": NO_MLFLOW},
    ),
    Stage(
        "checking", "hierarchy", "lhs.data.scenes:Scene.load", 5,
        ("scenes", "samples", "histograms", "hierarchy", *TRAINED),
    ),
    Stage(
        "samples", "hierarchy", "lhs.engine.stages.samples:sample_rows", 5,
        ("samples", "histograms", "hierarchy", *TRAINED),
    ),
    Stage(
        "histograms", "hierarchy", "lhs.engine.stages.samples:histogram_rows", 5,
        ("histograms", "hierarchy", *TRAINED),
    ),
    Stage(
        "clustering", "hierarchy", "lhs.engine.stages.hierarchy:cluster_class", 1,
        ("hierarchy", *TRAINED), left_out={"image": "reads no image"},
    ),
    *(
        Stage(phase, strategy, STEP, number * STEPS + 2, TRAINED)
        for strategy, phases in PHASES.items()
        for number, phase in enumerate(phases)
    ),
    Stage(
        "evaluation", "hierarchical", "lhs.evaluation.prediction:count_pairs", 1,
        ("evaluation",),
    ),
    Stage(
        "prediction", "predict", "lhs.engine.inference.prediction:predict_with_tta", 3,
        left_out={"mlflow": NO_MLFLOW},
    ),
    Stage("sweep", "sweep", "lhs.engine.pipeline:log_training", 1, on_node=STEP),
]  # fmt: skip
