"""`lhs view`: a page on this machine that labels the images that are dropped on it, by Gradio."""

# Annotations are not postponed: Gradio reads that of `asked`, whose module is imported late.
import hashlib
import html
import os
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lhs.engine.inference.prediction import SOURCE
from lhs.engine.inference.sources import Source
from lhs.engine.inference.tta import PredictOptions, load_model_for, predict_with_tta
from lhs.engine.stages.evaluation import png
from lhs.errors import UserError
from lhs.evaluation.overlay import OPACITY, label_overlay
from lhs.evaluation.prediction import Prediction
from lhs.report.drawing import css
from lhs.report.wording import share

HERE = "127.0.0.1"
MOST_TABS = 8
"""Tabs whose last image is kept in memory."""
MOST_CLASSES = 5
"""Of a pixel."""


def view_model(folder: Path, options: PredictOptions, port: int | None = None) -> None:
    """Serve the page on this machine alone until Ctrl-C.

    Parameters
    ----------
    folder
        A model folder.
    options
        How to label images; labels are those of `lhs predict` with the same options.
    port
        None for the first free one from 7860.

    Raises
    ------
    UserError
        If Gradio is missing, the model unreadable, or the port taken.
    """
    try:
        import gradio  # noqa: F401
    except ImportError:
        raise UserError('lhs view needs Gradio: pip install "lhs[view]"') from None
    with tempfile.TemporaryDirectory(prefix="lhs-view-") as scratch:
        page = _page(folder, options, Path(scratch))
        try:
            _, address, _ = page.launch(
                server_name=HERE, server_port=port, share=False, quiet=True, ssr_mode=False,
                run_history=False, enable_monitoring=False, footer_links=[], mcp_server=False,
                state_session_capacity=MOST_TABS, prevent_thread_lock=True,
            )  # fmt: skip
        except OSError as error:
            raise UserError(f"--port {port}: {error}") from None
        print(f"open {address} (Ctrl-C ends it)", flush=True)
        try:
            threading.Event().wait()
        finally:
            page.close(verbose=False)


def _page(folder: Path, options: PredictOptions, scratch: Path) -> Any:
    """The page, a `gradio.Blocks`; `scratch` gets what is uploaded and downloaded."""
    # Otherwise uploads stay in /tmp.
    os.environ["GRADIO_TEMP_DIR"] = str(scratch)
    import gradio as gr

    model = load_model_for(folder, options)
    numbered = [f"{label} {name}" for label, name in enumerate(model.classes)]

    def labelled(path: str | None, opacity: float) -> tuple[Any, ...]:
        if path is None:
            return None, None, "", gr.DownloadButton(value=None, interactive=False), None
        source = Source(path, Path(path).stem)
        try:
            content = source.content()
            image = source.read(content, model.description.image_range)
            (prediction,) = predict_with_tta(model, [image], options)
        except UserError as error:
            raise gr.Error(html.escape(str(error).replace(path, Path(path).name))) from None
        # In a folder of its own: it is offered under the image's name.
        target = Path(tempfile.mkdtemp(dir=scratch)) / f"{source.name}.png"
        digest = hashlib.sha256(content).hexdigest()
        target.write_bytes(png(prediction.label_map, model.colours, **{SOURCE: digest}))
        download = gr.DownloadButton(value=str(target), interactive=True)
        legend = _legend(prediction, numbered)
        return prediction, shown(prediction, opacity), legend, download, None

    def shown(prediction: Prediction | None, opacity: float) -> np.ndarray | None:
        if prediction is None:
            return None
        found = prediction.image, prediction.label_map, model.colours
        return label_overlay(*found, void=65535, alpha=opacity)

    def asked(prediction: Prediction, event: gr.SelectData) -> Any:
        x, y = (int(place) for place in event.index)
        found = prediction.probabilities_of_rows(y, y + 1)[:, 0, x]
        label = prediction.label_map[y, x]
        said = f"{numbered[label]}, probability {found[label]:.3f}"
        values = {name: float(value) for name, value in zip(numbered, found, strict=True)}
        return gr.Label(values, label=f"Pixel x = {x}, y = {y}: {said}")

    name = f"{model.description.network.name}, {model.description.strategy}"
    with gr.Blocks(title=f"lhs view: {name}", analytics_enabled=False) as page:
        gr.HTML(f"<h1>{_plain(name)}</h1>", js_on_load=None)
        prediction = gr.State()
        with gr.Row():
            with gr.Column():
                # As a file and of any mode: `lhs predict` reads the same bytes.
                given = gr.Image(
                    type="filepath", image_mode=None, sources=["upload", "clipboard"],
                    label="Image", buttons=[], elem_id="given",
                )  # fmt: skip
                opacity = gr.Slider(0, 1, OPACITY, step=0.05, label="Opacity of the labels")
                download = gr.DownloadButton(
                    "Download label map", interactive=False, elem_id="download"
                )
            with gr.Column():
                picture = gr.Image(
                    format="png", interactive=False, buttons=["download", "fullscreen"],
                    elem_id="labelled",
                    label="Labels: click a pixel for its class",
                )  # fmt: skip
                pixel = gr.Label(num_top_classes=MOST_CLASSES, label="Pixel", elem_id="pixel")
                legend = gr.HTML(elem_id="legend", js_on_load=None)
        hidden: dict[str, Any] = {"api_visibility": "private"}
        results = [prediction, picture, legend, download, pixel]
        given.change(labelled, [given, opacity], results, **hidden)
        opacity.change(
            shown, [prediction, opacity], picture, show_progress="hidden",
            trigger_mode="always_last", **hidden,
        )  # fmt: skip
        picture.select(asked, prediction, pixel, show_progress="hidden", **hidden)
    return page


def _legend(prediction: Prediction, numbered: Sequence[str]) -> str:
    counts = np.bincount(prediction.label_map.ravel(), minlength=len(numbered))
    lines = [
        f'<li><span style="display: inline-block; width: 1em; height: 1em; margin-right: .5em; '
        f'vertical-align: -.1em; background: {css(prediction.colours[label])}"></span>'
        f"{_plain(numbered[label])} {share(counts[label] / counts.sum())}</li>"
        for label in np.argsort(-counts, kind="stable").tolist()
        if counts[label]
    ]
    items = "".join(lines)
    return f'<ul style="list-style: none; padding: 0; columns: 11em; margin: 0">{items}</ul>'


def _plain(text: str) -> str:
    """Text in a page; Gradio also fills `${...}` and `{{...}}`."""
    return html.escape(text).replace("$", "&#36;").replace("{", "&#123;")
