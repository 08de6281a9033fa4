"""The strategies of the paper as lists of phases (METHOD section 4, paper section 3.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lhs.config import BaselinePhases, PhaseConfig, TrainConfig

Target = Literal["class", "subclass", "both"]
Trains = Literal["new", "last", "all"]


@dataclass(frozen=True, kw_only=True)
class Phase:
    """One phase of training.

    Attributes
    ----------
    name
        The phase's name in the configuration.
    target
        Target of the loss: `class`, `subclass`, or `both` joined by W.
    trains
        `new`: layers without pretrained weights; `last`: the last layer; `all`.
    fresh_last_layer
        Whether the phase starts with a new, random last layer for its target.
    learns_w
        Whether W is learned (second step of H).
    continues
        Whether the phase goes on with the optimizer and the learning-rate cycle of the one before.
    """

    name: str
    target: Target
    trains: Trains
    epochs: int
    steps: int | None
    learning_rate: float
    fresh_last_layer: bool
    learns_w: bool
    continues: bool

    def length(self, steps_per_epoch: int, max_steps: int | None) -> int:
        """Steps of the phase: as configured, or whole epochs; at most `max_steps`."""
        steps = self.epochs * steps_per_epoch if self.steps is None else self.steps
        return steps if max_steps is None else min(steps, max_steps)


PHASES: dict[str, list[tuple[str, Target, Trains]]] = {
    "baseline": [("new_layers", "class", "new"), ("all_layers", "class", "all")],
    "sequential": [
        ("subclass_new_layers", "subclass", "new"),
        ("subclass_all_layers", "subclass", "all"),
        ("class_last_layer", "class", "last"),
        ("class_all_layers", "class", "all"),
    ],
    "hierarchical": [
        ("new_layers", "both", "new"),
        ("fixed_w", "both", "all"),
        ("learned_w", "both", "all"),
    ],
}


def target_of(strategy: str, phase: str) -> Target:
    """What a phase of a strategy, named as in the configuration, trains on."""
    return next(target for name, target, _ in PHASES[strategy] if name == phase)


def phases(config: TrainConfig, *, trained: bool = False) -> list[Phase]:
    """The enabled phases of `config.strategy`.

    Where a phase that starts with a new last layer is disabled (step 1 or 3 of S), the phase after
    it starts with the new layer.

    Parameters
    ----------
    config
        The strategy, and the length, rate and switch of each of its phases.
    trained
        Whether the network's last layer is trained on the classes already, and kept.
    """
    kept: list[Phase] = []
    last = "class" if trained else None
    for name, target, trains in PHASES[config.strategy]:
        settings: PhaseConfig = getattr(getattr(config, config.strategy), name)
        if settings.on:
            phase = Phase(
                name=name,
                target=target,
                trains=trains,
                epochs=settings.epochs,
                steps=settings.steps,
                learning_rate=settings.learning_rate,
                fresh_last_layer=target != last,
                learns_w=name == "learned_w",
                continues=config.optimizer_state == "kept" and name == "learned_w",
            )
            kept.append(phase)
            last = target
    return kept


def coarser_phases(config: TrainConfig) -> BaselinePhases:
    """The phases of the coarser network that a finer one starts from: see `train.coarser`."""
    return BaselinePhases(new_layers=PhaseConfig(), all_layers=config.coarser)


def is_coarser(config: TrainConfig) -> bool:
    """Whether this is the training of a coarser network for a finer one."""
    return (
        config.strategy == "baseline"
        and config.coarser.on
        and config.baseline == coarser_phases(config)
    )


def learning_rate_setting(config: TrainConfig, phase: Phase) -> str:
    """The dotted name of the setting that is a phase's learning rate."""
    if config.strategy == "baseline" and config.baseline == coarser_phases(config):
        return "train.coarser.learning_rate"
    return f"train.{config.strategy}.{phase.name}.learning_rate"
