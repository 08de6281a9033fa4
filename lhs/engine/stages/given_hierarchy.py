"""Ray Data: a hierarchy that the user gives, its subclass maps checked against the label maps."""

from __future__ import annotations

import hashlib
from typing import Any

import pyarrow as pa
import ray

from lhs.config import Config, DataConfig
from lhs.data.contents import contents_digest
from lhs.engine.runtime.progress import Progress, followed
from lhs.engine.stage import Work
from lhs.engine.stages.checked_scenes import CheckedScenes
from lhs.engine.stages.evaluation import png
from lhs.engine.stages.pseudo_label_maps import MAPS, PseudoLabelMaps, map_path
from lhs.engine.stages.scenes import blocks, mapped, worker_dataset
from lhs.engine.storage import Storage, explained
from lhs.errors import UserError
from lhs.hierarchy import Hierarchy
from lhs.hierarchy.given import check_fits, given_hierarchy, given_sources, whole_map

LISTED = 20
"""Bad maps listed in an error; the rest are counted."""


def file_sources(config: Config) -> dict[str, str]:
    """Digests of what `hierarchy.kind = file` reads."""
    return given_sources(config.hierarchy)


def take_given(work: Work, scenes: CheckedScenes, path: str) -> tuple[Hierarchy, dict[str, Any]]:
    """Read the hierarchy of `hierarchy.file`, and copy its subclass maps into the folder `maps`.

    Returns
    -------
    Hierarchy
    dict
        With maps `subclass_maps`, the digest of their content.

    Raises
    ------
    UserError
        If it does not fit the dataset, or a map is missing or does not fit its label map.
    """
    config, dataset, train = work.config, scenes.dataset, scenes.split("train")
    hierarchy = given_hierarchy(config.hierarchy)
    check_fits(hierarchy, str(config.hierarchy.file), dataset.name, dataset.classes, train)
    if not hierarchy.by_map:
        return hierarchy, {}
    rows = [{"id": scene.id} for scene in train]
    with (
        followed("subclass maps checked", len(rows)) as progress,
        explained(work.storage.uri),
    ):
        checked = mapped(
            check_maps,
            rows,
            blocks(len(rows)),
            storage=work.storage,
            maps=f"{path}/{MAPS}",
            hierarchy=hierarchy,
            data=config.data,
            pseudo_labels=scenes.pseudo_labels,
            progress=progress,
        )
        table = pa.concat_tables(ray.get(checked.materialize().to_arrow_refs())).sort_by("id")
    problems = [text for text in table["problem"].to_pylist() if text]
    if problems:
        shown = "\n".join(f"  {text}" for text in problems[:LISTED])
        more = f"\n  and {len(problems) - LISTED} more" if len(problems) > LISTED else ""
        raise UserError(
            f"hierarchy.subclass_maps = {config.hierarchy.subclass_maps}: {len(problems)} of "
            f"{len(rows)} maps do not fit:\n{shown}{more}"
        )
    digests = zip(table["id"].to_pylist(), table["digest"].to_pylist(), strict=True)
    return hierarchy, {"subclass_maps": contents_digest((id, [one]) for id, one in digests)}


def check_maps(
    batch: pa.Table,
    storage: Storage,
    maps: str,
    hierarchy: Hierarchy,
    data: DataConfig,
    pseudo_labels: PseudoLabelMaps | None,
    progress: Progress,
) -> pa.Table:
    """Copy the subclass maps of training images as PNGs of their own. A row an image: id, problem
    (empty if there is none), and the digest of its pixels."""
    dataset = worker_dataset(data, pseudo_labels)
    rows = []
    for name in batch["id"].to_pylist():
        row = {"id": name, "problem": "", "digest": ""}
        try:
            found = whole_map(hierarchy, name, dataset.scene(name).label_map())
            target = map_path(maps, name)
            storage.make_folder(target.rpartition("/")[0])
            storage.write(target, png(found))
            row["digest"] = hashlib.sha256(f"{found.shape}".encode() + found.tobytes()).hexdigest()
        except UserError as error:
            row["problem"] = str(error)
        rows.append(row)
    progress.add(len(rows))
    return pa.Table.from_pylist(rows, schema=_SCHEMA)


_SCHEMA = pa.schema([("id", pa.string()), ("problem", pa.string()), ("digest", pa.string())])
