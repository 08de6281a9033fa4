"""The run that a configuration had before, so that a second one need not say the same."""

from __future__ import annotations

import logging

import mlflow
from mlflow.exceptions import MlflowException

import lhs
from lhs.config import Config
from lhs.engine.cache import Stages
from lhs.engine.graph import EVALUATION
from lhs.engine.storage import DamagedError
from lhs.engine.tracking.run_files import FACTS, PAGE, find_baseline, run_facts, run_folder
from lhs.engine.tracking.tracker import Tracker, tracking_uri

logger = logging.getLogger("lhs")


def finished_before(stages: Stages, config: Config, name: str) -> tuple[Tracker, str] | None:
    """The run in MLflow and the page of a run with the same name, configuration and version, with
    the same results and baseline; None if there is none.

    Parameters
    ----------
    stages
        Where its evaluation is found.
    config, name
        Of the run.
    """
    storage, uri = stages.storage, tracking_uri(stages.storage)
    expected = {
        "version": lhs.__version__,
        "tracking_uri": uri,
        "config": config.model_dump(mode="json"),
    }
    key = stages.key(EVALUATION, config).digest
    baseline, _ = find_baseline(stages, config)
    for folder in storage.list(storage.path("runs")):
        path = storage.path("runs", folder)
        if not folder.startswith(run_folder(name, "")) or not storage.exists(f"{path}/{FACTS}"):
            continue
        try:
            facts = run_facts(storage, path, ("stages", "run_id"))
        except DamagedError as error:
            logger.warning(f"not seen as finished: {error}")
            continue
        if (
            all(facts.get(key) == value for key, value in expected.items())
            and any(row["key"] == key for row in facts["stages"])
            and facts.get("baseline") == (baseline.key if baseline else None)
            and _ended(uri, facts["run_id"])
        ):
            return Tracker(uri, facts["run_id"]), storage.address(f"{path}/{PAGE}")
    return None


def _ended(uri: str, run_id: str) -> bool:
    """Whether MLflow still has the run, and as finished."""
    try:
        status: str = mlflow.MlflowClient(uri).get_run(run_id).info.status
    except MlflowException:
        return False
    return status == "FINISHED"
