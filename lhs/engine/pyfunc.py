"""A model folder as an MLflow pyfunc, made from code: nothing is pickled."""

from __future__ import annotations

import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from lhs.evaluation.model import load_model

INSIDE = "artifacts/model"
"""Where a pyfunc model keeps the model folder: MLflow takes the folder's own name, `model`."""

NEEDED = (
    "torch", "torchvision", "timm", "segmentation-models-pytorch", "numpy",
    "opencv-contrib-python-headless", "pillow", "safetensors", "pydantic",
)  # fmt: skip
"""What a model needs besides this package, which is not on every registry."""

CODE = """\
from mlflow.models import set_model

from lhs.engine.pyfunc import pyfunc_model

set_model(pyfunc_model())
"""


def save_pyfunc(model: Path, target: Path, example: np.ndarray) -> None:
    """Wrap a model folder as an MLflow pyfunc, from code: nothing is pickled.

    Parameters
    ----------
    model
        The model folder.
    target
        The folder to make.
    example
        (N, H, W, 3) uint8, small images, as an example of what it takes.
    """
    import lhs

    with tempfile.TemporaryDirectory() as scratch:
        code = Path(scratch) / "lhs_pyfunc.py"
        code.write_text(CODE, encoding="utf-8")
        with warnings.catch_warnings():
            # Its own classes are warned of at the first import.
            warnings.simplefilter("ignore", UserWarning)
            import mlflow.pyfunc
            from mlflow.models import ModelSignature
            from mlflow.types import Schema, TensorSpec

            mlflow.pyfunc.save_model(
                str(target),
                python_model=str(code),
                # Of any height and width: MLflow's own guess would freeze both.
                signature=ModelSignature(
                    Schema([TensorSpec(np.dtype(np.uint8), (-1, -1, -1, 3))]),
                    Schema([TensorSpec(np.dtype(np.uint8), (-1, -1, -1))]),
                ),
                artifacts={"lhs_model": str(model)},
                input_example=example,
                pip_requirements=[
                    f"lhs=={lhs.__version__}",
                    *(f"{name}=={version(name)}" for name in NEEDED),
                ],
            )


def pyfunc_model() -> Any:
    """MLflow's view of a model: images (N, H, W, 3) uint8 in, label maps (N, H, W) out."""
    import mlflow.pyfunc

    class LabelModel(mlflow.pyfunc.PythonModel):
        def load_context(self, context: Any) -> None:
            self.model = load_model(Path(context.artifacts["lhs_model"]))

        # Hints that MLflow leaves alone: it would take others for the schema of the input.
        def predict(
            self, context: Any, model_input: np.ndarray, params: dict[str, Any] | None = None
        ) -> np.ndarray:
            return np.stack([self.model.predict(image).label_map for image in model_input])

    return LabelModel()
