"""How long must a baseline train until more changes nothing?

    lhs sweep tune/lengths.py --recipe stanford-lite-baseline --set data.held_out=114
    lhs sweep tune/lengths.py --name lengths-siftflow         an hour or more on two cores
    ray submit cluster.yaml tune/lengths.py                   the same on a cluster

Passes of all layers over the training images, each length with its own cycle of rates. Scores are
those on training images that are held out (488 of SIFTFlow's); test images are not used.
`tune/evidence.py` takes its lengths from here; `docs/results.md` has what was seen.
"""

from lhs.run import run_file
from lhs.sweeps import Sweep

SWEEP = Sweep(
    name="lengths",
    recipe="siftflow-lite-baseline",
    always={"data.held_out": 488, "report.baseline": "none", "train.threads": 1},
    trials=[{"train.baseline.all_layers.epochs": epochs} for epochs in (24, 12, 6, 3)],
)

if __name__ == "__main__":
    run_file(__file__)
