"""`lhs predict`, `lhs view`, `lhs evaluate`, `lhs export`."""

from __future__ import annotations

import json
from argparse import SUPPRESS, ArgumentParser, Namespace
from typing import TYPE_CHECKING

from lhs.cli.data import add_data_root, data_settings
from lhs.cli.options import Group, add_command, add_json, add_settings, scale, whole
from lhs.errors import UserError
from lhs.names import CLASS_SCORES, DATASETS, STRIDES

if TYPE_CHECKING:
    from lhs.engine.inference.tta import PredictOptions


def add_commands(commands: Group) -> None:
    """Add the commands of this file."""
    predictor = add_command(commands, "predict", predict, "label images with a trained model")
    predictor.add_argument("model", help="model folder or runs:/RUN_ID")
    predictor.add_argument(
        "images", nargs="*", metavar="IMAGE", help="file, folder, pattern in quotes, or URI"
    )
    predictor.add_argument(
        "--demo",
        action="store_true",
        help="also label three procedural scenes (DIR/demo)",
    )
    predictor.add_argument("--out", required=True, metavar="DIR", help="folder or URI for results")
    _add_prediction_options(predictor)
    # The option's name in earlier versions.
    predictor.add_argument(
        "--every", dest="stride", type=int, choices=STRIDES, default=1, help=SUPPRESS
    )
    predictor.add_argument("--probabilities", action="store_true", help="write them too (.npy)")
    predictor.add_argument(
        "--workers", type=whole(1, 4096), metavar="N", help="models at once; one a GPU, or one"
    )

    viewer = add_command(commands, "view", view, "a page on this machine to try a model on images")
    viewer.add_argument("model", help="model folder or runs:/RUN_ID")
    _add_prediction_options(viewer)
    viewer.add_argument(
        "--port", type=whole(1, 65_535), metavar="N", help="default: the first free one from 7860"
    )

    exporter = add_command(commands, "export", export, "a model as one file for other programs")
    exporter.add_argument("model", help="model folder or runs:/RUN_ID")
    exporter.add_argument("--format", required=True, choices=("onnx", "torch-export"))
    exporter.add_argument("--out", metavar="FILE", help="default: model.onnx or model.pt2, here")
    exporter.add_argument(
        "--size", type=whole(1, 100_000), nargs=2, metavar=("HEIGHT", "WIDTH"),
        help="for images of this size alone; patch networks need it",
    )  # fmt: skip
    _add_class_scores(exporter)
    exporter.add_argument(
        "--check", nargs="+", default=[], metavar="IMAGE",
        help="images on which file and model are compared; default: four procedural scenes",
    )  # fmt: skip

    scorer = add_command(commands, "evaluate", evaluate, "score a trained model on a test split")
    scorer.add_argument("model", help="model folder or runs:/RUN_ID")
    scorer.add_argument("--dataset", required=True, choices=DATASETS)
    add_data_root(scorer)
    add_settings(scorer, "of data and evaluation, as in `lhs run`")
    add_json(scorer)


def _add_prediction_options(command: ArgumentParser) -> None:
    """Add the options that say how images are labelled."""
    command.add_argument(
        "--stride", type=int, choices=STRIDES, default=1,
        help="patch networks: predict at every Nth pixel of both axes, interpolate between",
    )  # fmt: skip
    command.add_argument("--flip", action="store_true", help="average with the mirrored image")
    command.add_argument(
        "--scales", type=scale, nargs="+", default=[1.0], metavar="F",
        help="average predictions at these scales, 0.25 to 4",
    )  # fmt: skip
    command.add_argument(
        "--superpixels", type=whole(4, 100_000), nargs="?", const=300, default=0, metavar="PIXELS",
        help="let superpixels of this mean size (300) vote on their label",
    )  # fmt: skip
    command.add_argument(
        "--centres", type=whole(4, 100_000), nargs="?", const=300, default=0, metavar="PIXELS",
        help="patch networks: score only the centre of each superpixel of this mean size (300)",
    )  # fmt: skip
    _add_class_scores(command)


def _add_class_scores(command: ArgumentParser) -> None:
    """Add `--class-scores`."""
    command.add_argument(
        "--class-scores", choices=CLASS_SCORES, default="w",
        help="models of H: how subclass scores become classes",
    )  # fmt: skip


def predict(options: Namespace) -> int:
    """`lhs predict`."""
    from lhs.engine.inference.models import model_folder
    from lhs.engine.runtime.cluster import connected

    if not options.images and not options.demo:
        raise UserError("lhs predict: found no IMAGE; name files or folders, or try --demo")
    with connected(), model_folder(options.model) as folder:
        from lhs.engine.inference.demo import write_demo_images
        from lhs.engine.inference.prediction import predict_files

        images = options.images + (write_demo_images(options.out) if options.demo else [])
        return predict_files(
            folder, images, options.out, _prediction_options(options), options.workers
        )


def _prediction_options(options: Namespace) -> PredictOptions:
    from lhs.engine.inference.tta import PredictOptions

    return PredictOptions(
        stride=options.stride,
        flip=options.flip,
        scales=tuple(options.scales),
        superpixels=options.superpixels,
        centres=options.centres,
        probabilities=getattr(options, "probabilities", False),
        class_scores=options.class_scores,
    )


def view(options: Namespace) -> int:
    """`lhs view`."""
    from lhs.engine.inference.models import model_folder
    from lhs.engine.inference.view import view_model

    with model_folder(options.model) as folder:
        view_model(folder, _prediction_options(options), options.port)
    return 0


def evaluate(options: Namespace) -> int:
    """`lhs evaluate`."""
    from lhs.engine.inference.models import model_folder
    from lhs.engine.runtime.cluster import connected

    config = data_settings(options, ("data", "evaluation"))
    with connected(), model_folder(options.model) as folder:
        from lhs.engine.runtime.resources import wants_gpu
        from lhs.engine.stages.evaluation import evaluate_folder

        wanted = config.evaluation
        evaluation = evaluate_folder(
            folder, config.data, wants_gpu("auto"), wanted.stride, wanted.precision,
            wanted.class_scores,
        )  # fmt: skip
    for name, value in evaluation.scores.headline().items():
        print(f"{name:<18} {value:.4f}")
    if options.json:
        print(json.dumps(evaluation.scores.as_dict() | {"counts": evaluation.counts.tolist()}))
    return 0


def export(options: Namespace) -> int:
    """`lhs export`."""
    from lhs.engine.inference.exporting import export_file
    from lhs.engine.inference.models import model_folder

    size = tuple(options.size) if options.size else None
    with model_folder(options.model) as folder:
        return export_file(
            folder, options.format, options.out, size, options.check, options.class_scores
        )
