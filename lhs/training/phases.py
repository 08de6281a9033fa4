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
    steps: int | None
    learning_rate: float
    fresh_last_layer: bool = False
    learns_w: bool = False

    def length(self, steps_per_epoch: int, max_steps: int | None) -> int:
        """Steps of the phase: as set, or whole epochs; at most `max_steps`."""
        steps = self.epochs * steps_per_epoch if self.steps is None else self.steps
        return steps if max_steps is None else min(steps, max_steps)


def phases(config: TrainConfig, *, trained: bool = False) -> list[Phase]:
    """The phases of `config.strategy`, those that are switched off or of length 0 left out.

    A new last layer does not vanish with its phase: where S skips step 1 or 3, the step after it
    starts with the new layer.

    Parameters
    ----------
    config
        The strategy, and the length, rate and switch of each of its phases.
    trained
        Whether the network comes with a last layer trained on the classes, to be kept.
    """
    every: list[Phase | None]
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
    last = "class" if trained else None
    for phase in filter(None, every):
        kept.append(replace(phase, fresh_last_layer=phase.target != last))
        last = phase.target
    return kept


def _phase(
    name: str, config: PhaseConfig, target: Target, trains: Trains, *, learns_w: bool = False
) -> Phase | None:
    if not config.on:
        return None
    return Phase(
        name=name,
        target=target,
        trains=trains,
        epochs=config.epochs,
        steps=config.steps,
        learning_rate=config.learning_rate,
        learns_w=learns_w,
    )
