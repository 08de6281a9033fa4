"""The strategies of the paper as lists of phases (METHOD section 4, paper section 3.2)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from lhs.config import PhaseConfig, TrainConfig

Target = Literal["class", "subclass", "both"]
Trains = Literal["new", "last", "all"]


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One stretch of training.

    Attributes
    ----------
    name
        The phase's name in the configuration.
    target
        What the loss asks for: `class`, `subclass`, or `both` joined by W.
    trains
        `new`: layers without pretrained weights; `last`: the last layer; `all`.
    fresh_last_layer
        Whether the phase begins with a new, random last layer for its target.
    learns_w
        Whether W moves (second step of H).
    """

    name: str
    target: Target
    trains: Trains
    epochs: int
    learning_rate: float
    fresh_last_layer: bool = False
    learns_w: bool = False


def phases(config: TrainConfig) -> list[Phase]:
    """The phases of `config.strategy`, those of length 0 left out.

    A new last layer does not vanish with its phase: where S skips step 1 or 3, the step after it
    starts with the new layer.
    """
    every: list[Phase]
    match config.strategy:
        case "baseline":
            b = config.baseline
            every = [
                _phase("new_layers", b.new_layers, "class", "new"),
                _phase("all_layers", b.all_layers, "class", "all"),
            ]
        case "sequential":
            s = config.sequential
            every = [
                _phase("subclass_new_layers", s.subclass_new_layers, "subclass", "new"),
                _phase("subclass_all_layers", s.subclass_all_layers, "subclass", "all"),
                _phase("class_last_layer", s.class_last_layer, "class", "last"),
                _phase("class_all_layers", s.class_all_layers, "class", "all"),
            ]
        case "hierarchical":
            h = config.hierarchical
            every = [
                _phase("fixed_w", h.fixed_w, "both", "all"),
                _phase("learned_w", h.learned_w, "both", "all", learns_w=True),
            ]
    kept: list[Phase] = []
    for phase in every:
        if phase.epochs:
            fresh = not kept or kept[-1].target != phase.target
            kept.append(replace(phase, fresh_last_layer=fresh))
    return kept


def _phase(
    name: str, config: PhaseConfig, target: Target, trains: Trains, *, learns_w: bool = False
) -> Phase:
    return Phase(
        name=name,
        target=target,
        trains=trains,
        epochs=config.epochs,
        learning_rate=config.learning_rate,
        learns_w=learns_w,
    )
