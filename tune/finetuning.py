"""How should a pretrained network be fine-tuned, before any hierarchy? Settings added one by one.

    lhs sweep tune/finetuning.py
    lhs sweep tune/finetuning.py --recipe stanford-lite-baseline --set data.held_out=114
    ray submit cluster.yaml tune/finetuning.py                the same on a cluster

The baseline, with the encoder frozen under either head as the control that fine-tuning must beat:
then the encoder at a tenth of the rate, with its pretrained statistics, other scales, colours, a
moving average of the weights, larger batches. All see the training images equally often. Scores are
those on 488 training images, which are held out; test images are not used. It has not been run to
its end yet: the recipes' settings are from before it.
"""

from lhs.run import run_file
from lhs.sweeps import Sweep

EPOCHS = 7
TENTH = {"train.encoder_factor": 0.1}
KEPT = TENTH | {"train.encoder_statistics": "keep"}
SCALES = KEPT | {"train.scale_min": 0.5, "train.scale_max": 2.0}
COLOURS = SCALES | {"train.colour_jitter": 0.2}
FROZEN = {
    "train.baseline.new_layers.epochs": EPOCHS,
    "train.baseline.all_layers.enabled": False,
}

SWEEP = Sweep(
    name="finetuning",
    recipe="siftflow-lite-baseline",
    always={
        "data.held_out": 488,
        "report.baseline": "none",
        "train.baseline.new_layers.learning_rate": 0.002,
        "train.baseline.all_layers.learning_rate": 0.001,
        "train.baseline.all_layers.epochs": EPOCHS - 1,
    },
    trials=[
        KEPT,
        FROZEN,
        FROZEN | {"network.head": "pyramid"},
        COLOURS | {"train.ema": 0.998},
        {"train.baseline.new_layers.epochs": 1},
        COLOURS | {"train.class_weights": "inverse_root"},
        COLOURS | {"train.batch_size": 16, "train.baseline.all_layers.learning_rate": 0.002},
        COLOURS,
        COLOURS | {"train.encoder_factor": 0.3},
        SCALES,
        TENTH,
        COLOURS | {"train.encoder_statistics": "update"},
    ],
)

if __name__ == "__main__":
    run_file(__file__)
