"""The hierarchies beside the paper's numbers: common classes, SN, LC literally, and other n*.

Uses the storage of the program: `lhs hierarchy RECIPE` with the same recipe makes the samples and
histograms that this reads. Algorithm 1's fits do not depend on n*, so all of them are made once
and every n* is read off their traces.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from reporting import options, report

from lhs.hierarchy.classes import common_classes, largest_rare
from lhs.hierarchy.clustering import count_from_trace
from lhs.loading import load_config

PAPER: dict[str, dict[str, Any]] = {
    "siftflow": {"common": {0.90: 9, 0.93: 11, 0.95: 13}, "scene_names": 101, "clusters": 128},
    "stanford": {"common": {}, "scene_names": None, "clusters": 30},
}


def main() -> None:
    import ray

    from lhs.engine.cache import Stages
    from lhs.engine.graph import HIERARCHY, HISTOGRAMS, SAMPLES, annotated_scenes
    from lhs.engine.runtime.cluster import connected
    from lhs.engine.stages.hierarchy import cluster_label
    from lhs.engine.storage import Storage

    parser = options(__doc__)
    parser.add_argument("--dataset", choices=sorted(PAPER), default="siftflow")
    parser.add_argument("--storage", help="default: the program's own")
    arguments = parser.parse_args()
    paper = PAPER[arguments.dataset]
    settings = [f"data.root={arguments.data_root}", "hierarchy.n_star=largest_rare"]
    settings += [f"storage={arguments.storage}"] if arguments.storage else []
    config = load_config(f"{arguments.dataset}-lite-h-lc", settings)
    with connected():
        stages = Stages(Storage(config.storage))
        scenes = annotated_scenes(stages, config)
        samples, histograms = stages.make(SAMPLES, config), stages.make(HISTOGRAMS, config)
        literal = stages.make(HIERARCHY, config).facts
        by_name = None
        if paper["scene_names"]:
            named = load_config(
                f"{arguments.dataset}-lite-h-lc", [*settings, "hierarchy.kind=scene_names"]
            )
            by_name = stages.make(HIERARCHY, named).facts["subclasses"]
        counts = np.array(samples.facts["class_counts"])
        common = common_classes(counts, config.hierarchy.rho)
        task = ray.remote(num_cpus=1)(cluster_label)
        found = ray.get(
            [
                task.remote(
                    stages.storage, histograms.path, int(label), len(counts), config, 0, "sklearn"
                )
                for label in common
            ]
        )
    traces = {int(label): clusters.trace for label, clusters in zip(common, found, strict=True)}
    rare = len(counts) - len(common)

    def per_class(n_star: int) -> dict[str, int]:
        return {
            scenes.dataset.classes[label]: count_from_trace(trace, n_star)
            for label, trace in traces.items()
        }

    # K changes only where n* passes the size of some smallest cluster.
    bounds = sorted({0, *(trial.smallest for trace in traces.values() for trial in trace)})
    totals = {n_star: rare + sum(per_class(n_star).values()) for n_star in bounds}
    nearest = min(totals, key=lambda n_star: (abs(totals[n_star] - paper["clusters"]), n_star))
    sizes = {rho: len(common_classes(counts, rho)) for rho in (0.90, 0.93, 0.95)}
    size = samples.facts["mean_superpixel_size"]
    report(
        f"paper_hierarchies {arguments.dataset}",
        {
            "samples": samples.facts["samples"],
            "mean_superpixel_size": size,
            "common_classes": {str(rho): number for rho, number in sizes.items()},
            "scene_name_subclasses": by_name,
            "literal_n_star": largest_rare(counts, common),
            "literal_subclasses": literal["subclasses"],
            "literal_per_class": literal["subclasses_per_class"],
            "paper_subclasses": paper["clusters"],
            "nearest_n_star": nearest,
            "nearest_subclasses": totals[nearest],
            "nearest_per_class": per_class(nearest),
        },
        {
            "mean superpixel size, off 300 by": (abs(size - 300) / 300, "<=", 0.05),
            **{
                f"common classes at rho {rho}, off the paper's by": (
                    abs(sizes[rho] - number),
                    "<=",
                    1,
                )
                for rho, number in paper["common"].items()
            },
        },
    )


if __name__ == "__main__":
    from lhs.errors import UserError

    try:
        main()
    except UserError as error:
        sys.exit(f"benchmarks/paper_hierarchies.py: {error}")
