"""All of rho x k_scale x R: 27 hierarchies, and as many networks where they are trained too.

    lhs sweep tune/grid.py --until hierarchy                  minutes on two cores
    lhs sweep tune/grid.py                                    a day and more: meant for a cluster
    ray submit cluster.yaml tune/grid.py

Samples are made once, histograms once for each R. The result is one table with the number of common
classes and subclasses of each setting, and how far the hierarchies agree.
"""

from lhs.run import run_file
from lhs.sweeps import Sweep, grid

SWEEP = Sweep(
    name="grid",
    recipe="siftflow-lite-s-lc",
    trials=grid(
        {
            "hierarchy.rho": [0.93, 0.90, 0.95],
            "hierarchy.k_scale": [1.0, 0.8, 1.5],
            "hierarchy.region": [129, 227, "inf"],
        }
    ),
)

if __name__ == "__main__":
    run_file(__file__)
