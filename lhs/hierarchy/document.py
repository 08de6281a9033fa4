"""The hierarchy file: one JSON that any trainer can read, checked in full when it is read.

{"format": "lhs-hierarchy", "schema": 2, "dataset", "classes", "void", "made": how it was made,
"subclasses": [{"name", "title", "parent", "count", "scene" or "centre"}, ...], "digest"}. The
digest is the sha256 of the JSON of all else without the titles and with schema 1, which had none:
keys sorted, without spaces, ASCII only.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections import Counter
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from lhs.config import IMAGE_KINDS
from lhs.data.scenes import void_of
from lhs.errors import UserError
from lhs.untrusted import parse_json, shortened

if TYPE_CHECKING:
    from lhs.hierarchy.model import Hierarchy

SCHEMA, FIRST_SCHEMA = 2, 1
HIERARCHY_FILE = "hierarchy.json"
"""Name of the file in the folders of a hierarchy and of a model."""
LARGEST_FILE = 64 * 2**20

_CLUSTERED = {"rho", "seed", "backend"}
_OF_IMAGES = _CLUSTERED | {"described_by", "image_centres", "images"}
REQUIRED = {
    "scene_names": {"rho"},
    "label_clusters": _CLUSTERED | {"region", "k_scale", "n_star", "min_size", "clusterings"},
    **dict.fromkeys(IMAGE_KINDS, _OF_IMAGES),
    "classes": set[str](),
    "random": {"rho", "seed", "like", "like_digest"},
    "subclass_maps": set[str](),
}
"""Fields that `made` has only for a kind of hierarchy."""

Name = Annotated[str, Field(min_length=1, max_length=500)]
ClassId = Annotated[int, Field(ge=0, lt=65535)]
Count = Annotated[int, Field(ge=0, lt=2**62)]
# A mean of vectors of length 1; rounding in k-means leaves some bins a little below zero.
Coordinate = Annotated[float, Field(ge=-1.001, le=1.001)]


class _Entry(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class SubclassEntry(_Entry):
    name: Name
    parent: ClassId
    count: Count
    scene: Name | None = None
    centre: Annotated[list[Coordinate], Field(max_length=65535)] | None = None
    title: Annotated[str, Field(max_length=5000)] = ""
    """For people; not in the digest."""


class TrialEntry(_Entry):
    """One step of Algorithm 1."""

    clusters: Annotated[int, Field(ge=1)]
    iterations: Count
    converged: bool
    smallest: Count


class ClusteringEntry(_Entry):
    """How one common class was clustered."""

    parent: ClassId
    k: Annotated[int, Field(ge=1)]
    """K_j of Algorithm 1, before k_scale."""
    fitted_on: Count
    iterations: Count
    converged: bool
    trace: Annotated[list[TrialEntry], Field(max_length=100)]


class Made(_Entry):
    """How a hierarchy was made; the fields from `region` on belong to clusters and controls."""

    kind: Literal[
        "scene_names", "label_clusters", "image_clusters", "image_embedding", "classes", "random",
        "subclass_maps",
    ]  # fmt: skip
    rho: Annotated[float, Field(gt=0, le=1)] | None = None
    common_classes: list[ClassId]
    class_counts: list[Count]
    region: Literal["inf"] | Annotated[int, Field(ge=1)] | None = None
    k_scale: Annotated[float, Field(gt=0)] | None = None
    n_star: Literal["largest_rare"] | Count | None = None
    """The setting."""
    min_size: Count | None = None
    """Its resolved value: every cluster of Algorithm 1 has more samples."""
    seed: int | None = None
    backend: Literal["sklearn", "cuml"] | None = None
    max_fit_samples: Count | None = None
    grid: Annotated[int, Field(ge=1)] | None = None
    """Label clusters of label maps alone: pixels between two samples, down and across."""
    clusterings: list[ClusteringEntry] | None = None
    described_by: Name | None = None
    """Image clusters: the kind of descriptors."""
    image_centres: (
        dict[Name, Annotated[list[float], Field(min_length=1, max_length=65535)]] | None
    ) = None
    """By cluster name; subclasses name their cluster as `scene`."""
    images: dict[Name, Name] | None = None
    """Cluster of every training image, by its id."""
    like: Literal["label_clusters", "scene_names", "image_clusters"] | None = None
    """Random subclasses: the kind of the hierarchy whose numbers and shares they have."""
    like_digest: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None = None
    """The digest of that hierarchy."""


class Document(_Entry):
    format: Literal["lhs-hierarchy"]
    schema_: Literal[1, 2] = Field(alias="schema")
    dataset: Annotated[str, Field(max_length=500)]
    classes: Annotated[list[Name], Field(min_length=1, max_length=65535)]
    void: Annotated[int, Field(ge=0, le=65535)]
    made: Made
    subclasses: Annotated[list[SubclassEntry], Field(min_length=1, max_length=65535)]
    digest: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]

    @model_validator(mode="after")
    def _fits_together(self) -> Document:
        total, made = len(self.classes), self.made
        if self.void != void_of(total):
            raise ValueError(f"void is {self.void}, {void_of(total)} for {total} classes")
        _once("classes", self.classes)
        _once("subclasses", [subclass.name for subclass in self.subclasses])
        _once("made.common_classes", made.common_classes)
        if len(made.class_counts) != total:
            raise ValueError(f"made.class_counts has {len(made.class_counts)} of {total} counts")
        if any(label >= total for label in made.common_classes):
            raise ValueError("made.common_classes names a class that is not there")
        parents = [subclass.parent for subclass in self.subclasses]
        if sorted(set(parents)) != list(range(total)):
            raise ValueError(
                f"the parents of the subclasses are not just the classes 0..{total - 1}"
            )
        per_class = Counter(parents)
        by_scene = made.kind in ("scene_names", *IMAGE_KINDS)
        for place, subclass in enumerate(self.subclasses):
            where, common = f"subclasses.{place}", subclass.parent in made.common_classes
            if per_class[subclass.parent] > 1 and not common:
                raise ValueError(f"{where} is one of several of a class that is not common")
            if (subclass.scene is not None) != (common and by_scene):
                raise ValueError(
                    f"{where}.scene: the common classes have one, with scene names and image "
                    "clusters alone"
                )
            if (subclass.centre is not None) != (common and made.kind == "label_clusters"):
                raise ValueError(f"{where}.centre: the common classes have one with label_clusters")
            if subclass.centre is not None and len(subclass.centre) != total:
                raise ValueError(f"{where}.centre has {len(subclass.centre)} of {total} numbers")
        self._check_clustering()
        return self

    def _check_clustering(self) -> None:
        made = self.made
        missing = sorted(name for name in REQUIRED[made.kind] if getattr(made, name) is None)
        if missing:
            raise ValueError(f"made.{missing[0]} is missing")
        if made.kind in IMAGE_KINDS:
            self._check_image_clusters()
        if made.kind == "classes" and made.common_classes:
            raise ValueError("made.common_classes: with classes none is common")
        if made.kind == "random":
            self._check_shares()
        if made.kind != "label_clusters":
            return
        if isinstance(made.region, int) and made.region % 2 == 0:
            raise ValueError(f"made.region is {made.region}, allowed are odd numbers and 'inf'")
        clustered = [entry.parent for entry in made.clusterings or []]
        if sorted(clustered) != sorted(made.common_classes):
            raise ValueError("made.clusterings are not those of made.common_classes")

    def _check_shares(self) -> None:
        counts = Counter[int]()
        for subclass in self.subclasses:
            counts[subclass.parent] += subclass.count
        for label in self.made.common_classes:
            if not counts[label]:
                raise ValueError(f"the subclasses of class {label} have no samples, so no shares")

    def _check_image_clusters(self) -> None:
        centres, images = self.made.image_centres or {}, self.made.images or {}
        if len({len(centre) for centre in centres.values()}) != 1:
            raise ValueError("made.image_centres are not all of one length")
        unknown = {subclass.scene for subclass in self.subclasses} - {None} - set(centres)
        unknown |= set(images.values()) - set(centres)
        if unknown:
            raise ValueError(f"made.image_centres has no {min(map(str, unknown))!r}")


def _once(what: str, values: list[Any]) -> None:
    value, times = Counter(values).most_common(1)[0] if values else (None, 1)
    if times > 1:
        raise ValueError(f"{what}: {value!r} stands there {times} times")


def to_document(hierarchy: Hierarchy) -> dict[str, Any]:
    """What the digest is made from: the content of a file of schema 1, without titles."""
    subclasses = []
    for subclass in hierarchy.subclasses:
        entry: dict[str, Any] = {
            "name": subclass.name,
            "parent": subclass.parent,
            "count": subclass.count,
        }
        if subclass.scene is not None:
            entry["scene"] = subclass.scene
        if subclass.centre is not None:
            # The shortest decimal of a float32 reads back as the same float32.
            entry["centre"] = [float(str(value)) for value in subclass.centre]
        subclasses.append(entry)
    return {
        "format": "lhs-hierarchy",
        "schema": FIRST_SCHEMA,
        "dataset": hierarchy.dataset,
        "classes": list(hierarchy.classes),
        "void": hierarchy.void,
        "made": hierarchy.made,
        "subclasses": subclasses,
    }


def digest_of(content: dict[str, Any]) -> str:
    """sha256 of the canonical JSON of a document without its digest."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def write(hierarchy: Hierarchy, path: str | PathLike[str]) -> None:
    """Write a hierarchy with its digest and titles, to a temporary file that is then renamed.

    Raises
    ------
    lhs.errors.UserError
        If the file cannot be written, or the hierarchy contradicts itself.
    """
    path = Path(path)
    content = to_document(hierarchy)
    content |= {"schema": SCHEMA, "digest": digest_of(content)}
    for entry, subclass in zip(content["subclasses"], hierarchy.subclasses, strict=True):
        if subclass.title:
            entry["title"] = subclass.title
    _check(content, path)
    # One subclass per line, for people and for diffs.
    lines = ",\n".join("  " + json.dumps(entry) for entry in content["subclasses"])
    text = "".join(
        f' "{key}": ' + (f"[\n{lines}\n ]" if key == "subclasses" else json.dumps(value)) + ",\n"
        for key, value in content.items()
    )
    text = "{\n" + text.removesuffix(",\n") + "\n}\n"
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise UserError(f"{path}: the hierarchy cannot be written: {error.strerror}") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def read(path: str | PathLike[str]) -> dict[str, Any]:
    """Read and check a document; its digest is not compared here.

    Raises
    ------
    lhs.errors.UserError
        If it cannot be read or is not a hierarchy file.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > LARGEST_FILE:
            raise UserError(
                f"{path}: {size} bytes; a hierarchy file has at most {LARGEST_FILE} bytes"
            )
        content = parse_json(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path}: the hierarchy cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"{path}: not a hierarchy file, it is not JSON: {error}") from error
    _check(content, path)
    return content


def _check(content: Any, path: Path) -> None:
    if isinstance(content, dict) and content.get("format") == "lhs-hierarchy":
        schema = content.get("schema")
        if isinstance(schema, int) and schema > SCHEMA:
            raise UserError(
                f"{path}: schema {schema} of the hierarchy file is newer than this program, "
                f"which reads up to {SCHEMA}"
            )
    try:
        Document.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        message = first["msg"].removeprefix("Value error, ")
        raise UserError(
            f"{path}: not a valid hierarchy file: "
            + shortened(f"{where + ': ' if where else ''}{message}", 1000)
        ) from None
