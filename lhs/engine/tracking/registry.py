"""Registers trained models in MLflow, each once."""

from __future__ import annotations

import logging
import re

from mlflow.exceptions import MlflowException

from lhs.config import Config
from lhs.engine.stage import StageResult
from lhs.engine.tracking.tracker import Tracker

logger = logging.getLogger("lhs")

MODEL_KEY = "lhs.model"
"""Tag of a version: the key of the trained model's stage."""


def registered_name(config: Config) -> str:
    """What a configuration's models are registered as: `lhs-DATASET-NETWORK`."""
    # MLflow takes neither / nor : in names; the others would need quotes in its addresses.
    network = re.sub(r"[^\w.-]+", "-", config.network.label)
    return f"lhs-{config.data.dataset}-{network}"


def register(tracker: Tracker, config: Config, model: StageResult) -> None:
    """Register the run's logged model as a new version, if the same one is not registered yet."""
    client, name = tracker.client, registered_name(config)
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    for version in client.search_model_versions(f"name = '{name}'"):
        if version.tags.get(MODEL_KEY) == model.key:
            logger.info(f"registered already: {name}, version {version.version}")
            return
    made = client.create_model_version(
        name,
        source=f"{client.get_run(tracker.run_id).info.artifact_uri}/model",
        run_id=tracker.run_id,
        tags={MODEL_KEY: model.key, "lhs.strategy": config.train.strategy},
        description=config.description,
    )
    logger.info(f"registered: {name}, version {made.version}")
