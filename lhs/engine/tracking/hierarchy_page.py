"""The page of a hierarchy alone, which needs no run in MLflow."""

from __future__ import annotations

from lhs.config import Config
from lhs.engine.cache import Stages
from lhs.engine.graph import SAMPLES, context_scenes
from lhs.engine.stage import StageResult
from lhs.engine.stages.checked_scenes import CheckedScenes
from lhs.engine.stages.hierarchy import read_hierarchy
from lhs.engine.stages.subclass_samples import SubclassSamples, subclass_samples
from lhs.engine.tracking.examples import hierarchy_arrays
from lhs.hierarchy.document import HIERARCHY_FILE
from lhs.report.hierarchy import hierarchy_section
from lhs.report.page import render_section


def write_hierarchy_page(stages: Stages, config: Config, name: str, result: StageResult) -> str:
    """Write the page of a hierarchy to `hierarchies/`; returns its path."""
    storage, digest = stages.storage, str(result.facts["digest"])
    scenes, found = samples_of(stages, config, result)
    number = f"{result.facts['subclasses']} subclasses of {len(found.hierarchy.classes)} classes"
    html = render_section(
        f"{name}: hierarchy",
        f"{scenes.dataset.name}, {number}",
        hierarchy_section(hierarchy_arrays(config, scenes, found)),
        {"hierarchy": storage.address(f"{result.path}/{HIERARCHY_FILE}"), "digest": digest},
    )
    page = storage.path("hierarchies", f"{name.replace(' ', '-')}-{digest[:8]}.html")
    storage.make_folder(storage.path("hierarchies"))
    storage.write(page, html.encode())
    return storage.address(page)


def samples_of(
    stages: Stages, config: Config, result: StageResult
) -> tuple[CheckedScenes, SubclassSamples]:
    """The scenes that a hierarchy was made from, and some of their samples."""
    storage, scenes = stages.storage, context_scenes(stages, config)
    hierarchy = read_hierarchy(storage, result.path)
    # A hierarchy that the user gives was not made from them.
    samples = stages.aside().make(SAMPLES, config)
    return scenes, subclass_samples(storage, scenes, hierarchy, samples.path)
