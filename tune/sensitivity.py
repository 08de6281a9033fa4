"""Table 2 of the paper: do rho and the number of subclasses matter?

    lhs sweep tune/sensitivity.py                             an hour a trial on two cores
    lhs sweep tune/sensitivity.py --recipe stanford-lite-s-lc --name stanford    a quarter of it
    ray submit cluster.yaml tune/sensitivity.py               the same on a cluster

Five settings of S on label clusters around the paper's own, rho = 0.93 and Algorithm 1's K_j. They
share samples and histograms. The result is a table of scores with the number of common classes and
subclasses; the paper finds per-pixel accuracies within 0.2 % of each other.
"""

from lhs.run import run_file
from lhs.sweeps import Sweep

SWEEP = Sweep(
    name="sensitivity",
    recipe="siftflow-lite-s-lc",
    trials=[
        {"hierarchy.rho": 0.93, "hierarchy.k_scale": 1.0},
        {"hierarchy.rho": 0.90, "hierarchy.k_scale": 1.0},
        {"hierarchy.rho": 0.95, "hierarchy.k_scale": 1.0},
        {"hierarchy.rho": 0.93, "hierarchy.k_scale": 0.8},
        {"hierarchy.rho": 0.93, "hierarchy.k_scale": 1.5},
    ],
)

if __name__ == "__main__":
    run_file(__file__)
