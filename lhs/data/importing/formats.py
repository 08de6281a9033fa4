"""The formats of `lhs data import`, each a module with the same two functions.

`recognise(source: Path, options: Options) -> str | None` says in a sentence what a source is
recognised by, or None. `read(source: Path, options: Options) -> Found` lists its images; it raises
`UserError` for a source of another form.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from types import ModuleType

from lhs.data.importing import (
    ade20k,
    camvid,
    cityscapes,
    coco,
    coco_stuff,
    cvat,
    hugging_face,
    labelme,
    matlab_masks,
    pairs,
    voc,
)
from lhs.data.importing.found import Found, Options
from lhs.errors import UserError

FORMATS: tuple[tuple[str, ModuleType], ...] = (
    ("cityscapes", cityscapes),
    ("ade20k", ade20k),
    ("camvid", camvid),
    (coco.NAME, coco),
    (coco_stuff.NAME, coco_stuff),
    (cvat.NAME, cvat),
    ("voc", voc),
    (labelme.NAME, labelme),
    (hugging_face.NAME, hugging_face),
    (matlab_masks.NAME, matlab_masks),
    ("pairs", pairs),
)
"""In the order of recognising: the more specific first, `pairs` last."""
OF_FORMATS: Mapping[str, frozenset[str]] = {
    "suffix": frozenset({"pairs"}),
    "labels": frozenset({"pairs"}),
    "background": frozenset({"coco", "cvat", "labelme"}),
    "variable": frozenset({"matlab"}),
    "columns": frozenset({"hugging-face"}),
}
"""Options that some formats alone use."""


def find(source: Path, format: str, options: Options) -> Found:
    """Read a source by the named format, or by the first that recognises it.

    Parameters
    ----------
    source
        Its folder or file.
    format
        One of `IMPORT_FORMATS`, or "auto".
    options
        What the command was told.

    Raises
    ------
    UserError
        If none recognises it, an option is of other formats, or its reader refuses it.
    """
    if options.classes is not None and not options.classes.is_file():
        raise UserError(f"--classes {options.classes}: no such file")
    modules = dict(FORMATS)
    pairs.listing.cache_clear()
    if format == "auto":
        known = next((name for name, m in FORMATS if m.recognise(source, options)), None)
        if known is None:
            names = ", ".join(modules)
            raise UserError(f"none of {names} fits. {pairs.none_found(source, options)}")
        format = known
    if format not in modules:
        raise UserError(f"--format {format}: allowed are auto, {', '.join(modules)}")
    for name, users in OF_FORMATS.items():
        if getattr(options, name) is not None and format not in users:
            raise UserError(
                f"--{name} has no effect with the format {format} (it is for "
                f"{', '.join(sorted(users))}): leave it out, or name another `--format`"
            )
    found: Found = modules[format].read(source, options)
    if not found.items:
        raise UserError(f"{source}: no image with labels, read as {format}")
    return found


def given(options: Options) -> dict[str, object]:
    """The options that were given, as JSON values by their names."""
    values = {field.name: getattr(options, field.name) for field in fields(options)}
    return {
        name: str(value) if isinstance(value, Path) else value
        for name, value in values.items()
        if value not in (None, ())
    }
