"""Models by address: a folder, a run's storage, or MLflow's `runs:/RUN_ID`."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lhs.engine.pyfunc import INSIDE
from lhs.errors import UserError
from lhs.evaluation.description import DESCRIPTION
from lhs.evaluation.model import Model, load_model
from lhs.names import ClassScores


def open_model(
    address: str, device: str = "cpu", stride: int = 1, class_scores: ClassScores = "w"
) -> Model:
    """Open a model for prediction.

    Parameters
    ----------
    address
        A model folder, the folder above it, or `runs:/RUN_ID`.
    device, stride, class_scores
        As in `load_model`.

    Raises
    ------
    UserError
        If there is no model.
    """
    with model_folder(address) as folder:
        return load_model(folder, device, stride, class_scores=class_scores)


@contextmanager
def model_folder(address: str) -> Iterator[Path]:
    """Context with the local folder of a model."""
    if not address.startswith("runs:/"):
        folder = Path(os.path.expanduser(address))
        inner = folder / "model"
        yield inner if os.path.isfile(inner / DESCRIPTION) else folder
        return
    import mlflow
    from mlflow.exceptions import MlflowException

    from lhs.config import Config
    from lhs.engine.storage import Storage
    from lhs.engine.tracking.tracker import check_store, tracking_uri

    run_id = address.removeprefix("runs:/").split("/")[0]
    uri = tracking_uri(Storage(Config().storage))
    check_store(uri)
    with tempfile.TemporaryDirectory() as scratch:
        try:
            folder = Path(
                mlflow.artifacts.download_artifacts(
                    artifact_uri=f"runs:/{run_id}/model/{INSIDE}",
                    dst_path=scratch,
                    tracking_uri=uri,
                )
            )
        except (MlflowException, OSError) as error:
            raise UserError(
                f"{address}: no model there in the store {uri}: {error}; if the run has another "
                "storage, set LHS_STORAGE to it, or give the model's folder"
            ) from None
        yield folder
