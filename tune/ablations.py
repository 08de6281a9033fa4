"""What in H costs or gains accuracy? The recipe's H, and one change of it at a time.

    lhs sweep tune/ablations.py                               an hour a trial on two cores
    lhs sweep tune/ablations.py --set data.max_train=60 --set data.max_test=20 --name try
    ray submit cluster.yaml tune/ablations.py                 the same on a cluster

The weight of the class loss; the class of a pixel by W p, by its best subclass, or by summed
probabilities; subclasses by what a crop shows; the subclass loss on a head that is dropped; one
optimizer over both steps; W's own rate and decay. The first trial is the paper's H but for W's
rate, a tenth of the other layers'; those that differ only in how classes are scored share its
network. Scores are those on 488 training images, which are held out; test images are not used.
"""

from lhs.run import run_file
from lhs.sweeps import Sweep

SWEEP = Sweep(
    name="ablations",
    recipe="siftflow-lite-h-lc",
    always={"data.held_out": 488, "report.baseline": "none"},
    trials=[
        {"train.alpha": 1.0},
        {"train.alpha": 0.3},
        {"train.alpha": 3.0},
        {"evaluation.class_scores": "best_subclass"},
        {"evaluation.class_scores": "summed_probabilities"},
        {"train.subclass_context": "crop"},
        {
            "train.subclass_head": "auxiliary",
            # There is no second step: the first is as long as both.
            "train.hierarchical.learned_w.enabled": False,
            "train.hierarchical.fixed_w.epochs": 12,
        },
        {"train.optimizer_state": "kept"},
        {"train.w_factor": 1.0},
        {"train.w_weight_decay": 0.0},
    ],
)

if __name__ == "__main__":
    run_file(__file__)
