"""Table 1 of the paper: how much of the surroundings should a hierarchy see?

    lhs sweep tune/region.py                                  an hour a trial on two cores
    ray submit cluster.yaml tune/region.py                    the same on a cluster

R = 129, 227 and the whole image, for S on label clusters. The trials share their samples. In the
paper R = 129 does best.
"""

from lhs.run import run_file
from lhs.sweeps import Sweep, grid

SWEEP = Sweep(
    name="region",
    recipe="siftflow-lite-s-lc",
    trials=grid({"hierarchy.region": [129, 227, "inf"]}),
)

if __name__ == "__main__":
    run_file(__file__)
