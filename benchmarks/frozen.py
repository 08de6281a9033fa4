"""A phase that trains the last layer alone: with the features below it kept, and without.

Step 3 of S: five epochs of `squeezenet`'s last layer on the patches of eight SIFTFlow images and
their variants. The second side computes the fixed layers at every step. The losses of the two may
differ only by what features of 16 bits round away.
"""

from __future__ import annotations

import sys
import tempfile
import time

import numpy as np
import torch
from reporting import options, report, with_memory_kept

from lhs.config import Config
from lhs.engine.cluster import connected, cores
from lhs.engine.feeding import PatchFeed
from lhs.engine.samples import sample_stage
from lhs.engine.scenes import checked_scenes
from lhs.engine.stages import Stages
from lhs.engine.storage import Storage
from lhs.engine.targets import TargetReader, target_stage
from lhs.loading import load_config
from lhs.networks.build import build_network
from lhs.networks.weights import load_weights
from lhs.training.loop import train

EPOCHS = 5


def experiment(root: str, storage: str, images: int, features_gb: float) -> Config:
    """S with nothing but its third step."""
    settings = [
        "data.dataset=siftflow",
        f"data.root={root}",
        f"data.max_train={images}",
        "data.max_test=1",
        f"storage={storage}",
        "network.name=squeezenet",
        "train.strategy=sequential",
        "train.batch_size=64",
        f"train.features_gb={features_gb}",
        "train.sequential.subclass_new_layers.epochs=0",
        "train.sequential.subclass_all_layers.epochs=0",
        f"train.sequential.class_last_layer.epochs={EPOCHS}",
        "train.sequential.class_all_layers.epochs=0",
    ]
    return load_config("demo", settings)


def phase(config: Config) -> tuple[float, np.ndarray]:
    """Seconds of the phase, and its losses."""
    storage = Storage(config.storage)
    stages = Stages(storage)
    scenes = checked_scenes(stages, config.data)
    samples = sample_stage(stages, config, scenes)
    targets = target_stage(stages, config, scenes, samples, None)
    feed = PatchFeed(
        config,
        [scene.id for scene in scenes.split("train")],
        TargetReader(storage, f"{targets.path}/rows"),
    )
    torch.manual_seed(config.train.seed)
    network = build_network(config.network, len(scenes.dataset.classes))
    load_weights(network, config.network)
    # Ray Data's own start, which would fall on the side that comes first.
    next(feed.batches(0, 0))
    started = time.perf_counter()
    _, history = train(
        network,
        config.train,
        classes=len(scenes.dataset.classes),
        matrix=None,
        void=scenes.dataset.void,
        feed=feed,
        device=torch.device("cpu"),
        on_step=lambda row, steps: None,
    )
    seconds = time.perf_counter() - started
    print(f"{len(history)} steps in {seconds:.1f} s", flush=True)
    return seconds, np.array([row["loss"] for row in history])


def main() -> None:
    parser = options(__doc__)
    parser.add_argument("--images", type=int, default=8)
    chosen = parser.parse_args()
    with_memory_kept()
    torch.set_num_threads(cores())
    with tempfile.TemporaryDirectory() as folder, connected():
        kept, again = (
            phase(experiment(chosen.data_root, folder, chosen.images, gigabytes))
            for gigabytes in (20.0, 0.0)
        )
    apart = float(np.abs(kept[1] - again[1]).max())
    figures = {
        "steps": len(kept[1]),
        "seconds_kept": kept[0],
        "seconds_again": again[0],
        "first_and_last_loss": [float(again[1][0]), float(again[1][-1])],
    }
    report(
        "frozen",
        figures,
        {
            "features kept against computed again": (again[0] / kept[0], ">=", 5.0),
            "largest difference of the losses": (apart, "<=", 2e-3),
        },
    )


if __name__ == "__main__":
    from lhs.errors import UserError

    try:
        main()
    except UserError as error:
        sys.exit(f"benchmarks/frozen.py: {error}")
