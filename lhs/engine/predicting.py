"""`lhs predict`: label maps, overlays and a legend for a handful of images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from lhs.data.images import read_image
from lhs.engine.progress import say
from lhs.errors import UserError
from lhs.evaluation.model import Model
from lhs.report.figures import label_overlay, legend, to_png

OPACITY = 0.55


def predict_files(model: Model, images: list[str], out: Path) -> int:
    """Label image files; what can't be read is told, the others are done.

    Parameters
    ----------
    model
        A trained model.
    images
        Paths of images.
    out
        Folder that gets, for each image, `NAME.png` (ids) and `NAME_overlay.png`, and once
        `legend.png`.

    Returns
    -------
    int
        Exit code: 2 if an image could not be read.

    Raises
    ------
    UserError
        If `out` can't be written, or a result would replace another or an image.
    """
    paths = [Path(image).expanduser() for image in images]
    targets = [out / f"{path.stem}{end}.png" for path in paths for end in ("", "_overlay")]
    targets.append(out / "legend.png")
    twice = sorted({target.name for target in targets if targets.count(target) > 1})
    if twice:
        raise UserError(f"results of these images would overwrite each other: {', '.join(twice)}")
    images_read = {path.resolve() for path in paths}
    lost = [target for target in targets if target.resolve() in images_read]
    if lost:
        raise UserError(f"--out {out}: {lost[0]} is an image to label, its result would replace it")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {out}: {error}") from None
    present: set[int] = set()
    bad = 0
    for number, path in enumerate(paths, start=1):
        try:
            pixels = read_image(path)
        except UserError as error:
            say(f"lhs: {error}")
            bad += 1
            continue
        prediction = model.predict(pixels)
        present |= set(np.unique(prediction.label_map).tolist())
        Image.fromarray(prediction.label_map).save(out / f"{path.stem}.png")
        overlay = label_overlay(
            pixels, prediction.label_map, prediction.colours, void=65535, alpha=OPACITY
        )
        Image.fromarray(overlay).save(out / f"{path.stem}_overlay.png")
        say(f"{number} of {len(paths)}: {out / path.stem}.png")
    if present:
        figure = legend(model.classes, model.colours, sorted(present))
        (out / "legend.png").write_bytes(to_png(figure))
    print(f"{len(paths) - bad} images labelled, {bad} not readable; results in {out}")
    return 2 if bad else 0
