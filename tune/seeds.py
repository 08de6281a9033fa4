"""One recipe over seeds: how far do scores differ by chance alone?

    lhs sweep tune/seeds.py                                   a quarter of an hour a trial
    lhs sweep tune/seeds.py --recipe stanford-lite-h-lc --name seeds-h
    ray submit cluster.yaml tune/seeds.py

Three seeds of the training; the hierarchy is the same. The result is mean and standard deviation of
the scores: differences between settings that are smaller prove nothing.
"""

from lhs.run import run_file
from lhs.sweeps import Sweep, grid

SWEEP = Sweep(
    name="seeds",
    recipe="stanford-lite-s-lc",
    trials=grid({"train.seed": [0, 1, 2]}),
)

if __name__ == "__main__":
    run_file(__file__)
