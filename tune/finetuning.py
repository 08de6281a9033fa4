"""How should a pretrained network be fine-tuned, before any hierarchy?

    lhs sweep tune/finetuning.py                              a quarter of an hour a trial
    lhs sweep tune/finetuning.py --recipe stanford-lite-baseline --set data.held_out=114
    ray submit cluster.yaml tune/finetuning.py                the same on a cluster

The baseline: the encoder's rate, as a factor on that of the new layers; its batch norm; a lower
rate for all; crops of other scales; colours; a moving average of the weights; larger batches. The
control that it must beat trains the new layers alone, on the frozen encoder, under either head. All
see the training images equally often. Scores are those on 488 training images, which are held out;
test images are not used. `docs/results.md` has what was seen.
"""

from lhs.run import run_file
from lhs.sweeps import Sweep

EPOCHS = 7
FROZEN = {
    "train.baseline.new_layers.epochs": EPOCHS,
    "train.baseline.all_layers.enabled": False,
}
FACTOR = "train.encoder_factor"
SCALES = {"train.scale_min": 0.5, "train.scale_max": 2.0}
AVERAGE = {"train.ema": 0.998}
NEW, ALL = (f"train.baseline.{phase}.learning_rate" for phase in ("new_layers", "all_layers"))

SWEEP = Sweep(
    name="finetuning",
    recipe="siftflow-lite-baseline",
    always={
        "data.held_out": 488,
        "report.baseline": "none",
        "train.baseline.all_layers.epochs": EPOCHS - 1,
        "train.threads": 1,
    },
    trials=[
        {FACTOR: 0.01},
        FROZEN,
        AVERAGE | {FACTOR: 0.03},
        SCALES | {FACTOR: 0.05},
        AVERAGE | SCALES | {FACTOR: 0.1},
        AVERAGE | SCALES | {FACTOR: 0.2, NEW: 0.002, ALL: 0.002, "train.batch_size": 16},
        FROZEN | {"network.head": "pyramid"},
        SCALES,
        AVERAGE,
        {"train.colour_jitter": 0.2},
        {"train.encoder_statistics": "update"},
        {"train.class_weights": "inverse_root"},
    ],
)

if __name__ == "__main__":
    run_file(__file__)
