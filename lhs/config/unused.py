"""Settings that the chosen network or strategy does not use."""

from __future__ import annotations

from lhs.config import Config

CROPS = ("crop_height", "crop_width", "scale_min", "scale_max", "flip", "colour_jitter")
STARTS_COARSER = ("fcn16s", "fcn8s")


def unused(config: Config) -> dict[str, str]:
    """What makes a setting one without effect, such as `train.optimizer = adamw`, by its dotted
    name; the name of a section is for all of its settings.

    Only the training and what depends on the network: the settings of hierarchies are used by
    `lhs hierarchy` whatever is trained.
    """
    train, network = config.train, config.network
    found: dict[str, str] = {}

    def refuse(reason: str, *names: str) -> None:
        found.update(dict.fromkeys(names, reason))

    strategy, name = f"train.strategy = {train.strategy}", f"network.name = {network.name}"
    compared = config.report.baseline != "none" or config.unlabelled.mode == "pseudo_labels"
    if train.strategy != "baseline" and not compared:
        refuse(f"{strategy} and report.baseline = none", "train.baseline")
    for other in ("sequential", "hierarchical"):
        if train.strategy != other:
            refuse(strategy, f"train.{other}")
    if train.strategy != "hierarchical":
        refuse(strategy, "train.alpha")
    if not train.has_w:
        why = strategy
        if train.strategy == "hierarchical":
            why = f"train.subclass_head = {train.subclass_head}"
        refuse(why, "train.learn_w", "train.w_factor", "train.w_weight_decay")
    elif not train.hierarchical.learned_w.on:
        refuse("train.hierarchical.learned_w off", "train.learn_w", "train.w_factor")
    if config.examples != "crops":
        why = name if train.examples is None or network.patches else "train.examples = variants"
        refuse(f"{why}, which trains on {config.examples}", *(f"train.{one}" for one in CROPS))
    if network.patches:
        refuse(f"{name}, which trains on patches", "train.examples")
    else:
        why = f"{name}, which takes whole images"
        refuse(why, "train.sampling", "evaluation.stride", "unlabelled.stride")
    if network.name not in STARTS_COARSER:
        refuse(name, "train.coarser")
    if not network.has_head:
        refuse(name, "network.head", "network.channels")
    if network.weights not in ("release", "file"):
        refuse(f"network.weights = {network.weights}", "network.weights_file")
    if network.weights == "none" and not (network.name in STARTS_COARSER and train.coarser.on):
        refuse("network.weights = none", "train.encoder_factor", "train.encoder_statistics")
    if train.optimizer != "sgd":
        refuse(f"train.optimizer = {train.optimizer}", "train.momentum")
    if train.schedule != "steps":
        refuse(f"train.schedule = {train.schedule}", "train.step_size")
    if train.gpu is False:
        refuse("train.gpu = false", "train.gpu_share", "train.accelerator")
    return found
