"""The pages stand alone, escape what users name, and say what the arrays say."""

import base64
import hashlib
import io
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from lhs.report.assemble import assemble
from lhs.report.hierarchy import hierarchy_section
from lhs.report.page import render_page, render_section
from lhs.report.wording import NOTHING, with_interval

pytestmark = pytest.mark.thorough

NAMES = ["sky", "<b>road</b>", "car & co", "moon"]
COUNTS = np.array([[80, 10, 10, 0], [5, 40, 5, 0], [5, 0, 5, 0], [0, 0, 0, 0]])
VOID_TAGS = {"meta", "link", "img", "source", "br", "input", "hr"}


class Page(HTMLParser):
    """Collect tags with attributes and the text, and hold that tags are closed in order."""

    def __init__(self, html):
        super().__init__(convert_charrefs=True)
        self.tags, self.words, self.open = [], [], []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID_TAGS:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not self.open or self.open[-1] not in ("style", "script"):
            self.words.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def assert_stands_alone(page):
    for tag, attributes in page.tags:
        assert tag not in {"iframe", "object", "embed"}
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "srcset", "data", "action"):
            assert attributes.get(name, "data:").startswith("data:")
    for link in page.all("link"):
        assert link["href"].startswith("data:")
    policies = [a for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    assert "default-src 'none'" in policies[0]["content"]
    assert page.all("script") == [{}]


def test_the_policy_allows_the_one_script_by_its_hash(report):
    html = render_page(report)
    script = html.split("<script>")[1].split("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in html
    assert "unsafe-eval" not in html
    assert len(script) < 3000


def test_page_needs_nothing_but_itself(report):
    html = render_page(report)
    page = Page(html)
    assert_stands_alone(page)
    assert "http:" not in html
    assert "https:" not in html
    assert "@import" not in html
    assert "url(" not in html


def test_every_picture_has_its_data_and_an_alternative_text(report):
    page = Page(render_page(report))
    pictures = page.all("img")
    # Six figures; four maps and a photograph in each of two rows; two strips for a row of patches.
    assert len(pictures) == 6 + 2 * 5 + 3 * 2
    for picture in pictures:
        head, data = picture["src"].split(",", 1)
        assert head == "data:image/webp;base64"
        assert base64.b64decode(data, validate=True).startswith(b"RIFF")
        assert len(picture["alt"]) > 15
    sources = [source["media"] for source in page.all("source")]
    assert len(sources) == 6 * 3, "each has a dark twin and two for narrow screens"
    assert sources.count("(prefers-color-scheme: dark)") == 6


def test_each_figure_and_table_has_its_data(report):
    page = Page(render_page(report))
    links = {a["download"]: a["href"] for a in page.all("a") if "download" in a}
    items = [item for section in report.sections for item in section.items]
    assert set(links) == {f"{item.key}.csv" for item in items} | {
        "settings.csv", "demo-<script>alert(1)</script>.yaml"
    }  # fmt: skip
    for item in items:
        head, data = links[f"{item.key}.csv"].split(",", 1)
        assert head == "data:text/csv;base64"
        read = pd.read_csv(io.BytesIO(base64.b64decode(data)))
        frame = getattr(item, "frame", None) if hasattr(item, "frame") else item.data
        assert read.shape == frame.shape
        assert list(read.iloc[:, 0].astype(str)) == list(frame.iloc[:, 0].astype(str))


def test_classes_open_into_their_subclasses(report):
    page = Page(render_page(report))
    assert len([a for a in page.all("details") if a.get("class") == "class"]) == 4
    assert "sky with <b>road</b>" in page.text
    assert "sky/2: 55.6 % of the class, 50 samples" in page.text
    around = [a["aria-label"] for a in page.all("div") if a.get("class") == "around"]
    assert around[0] == "Around it: sky 25.0 %, <b>road</b> 25.0 %, car & co 25.0 %, moon 25.0 %"


def test_the_page_of_a_hierarchy_alone(arrays):
    html = render_section("demo", "synthetic", hierarchy_section(arrays()), {"digest": "abc"})
    page = Page(html)
    assert_stands_alone(page)
    assert "sky alone: sky 97 %" in page.text
    assert "digest abc" in page.text


def test_changes_have_intervals(report):
    text = Page(render_page(report)).text
    assert set(report.intervals) == {"per_pixel", "per_class", "per_class_over_L", "mean_iou"}
    change = report.intervals["per_class"]
    assert change.low <= change.mean <= change.high
    assert with_interval(change.mean, change.low, change.high) in text
    assert "95 % from" in text
    assert "<i>.jpg" in text
    assert "digest of data 0123abc" in text


def test_anchors_are_unique_and_every_link_has_its_goal(report):
    page = Page(render_page(report))
    anchors = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(anchors) == len(set(anchors))
    links = [a["href"] for a in page.all("a") if "download" not in a]
    assert links
    assert all(link.startswith("#") and link[1:] in anchors for link in links)


def test_names_that_users_choose_are_escaped(report):
    html = render_page(report)
    page = Page(html)
    assert not page.all("b")
    assert not page.all("i")
    assert "<b>road</b>" in page.text
    assert "demo <script>alert(1)</script>" in page.text
    assert "<broken>.jpg" in page.text
    assert "&lt;script&gt;" in html


def test_page_shows_scores_notes_settings_and_stages(report):
    text = Page(render_page(report)).text
    assert "Per-pixel accuracy 0.781 baseline 0.781 no change" in text  # 125 of 160
    assert "a single seed is no evidence" in text
    assert "hierarchy.rho 0.93" in text
    assert "samples reused 0.2 s" in text
    assert "training made 1 min 35 s" in text
    assert "2 common classes of 4" in text
    assert f"moon rare 0 0 {' '.join([NOTHING] * 6)} Data" in text


def test_a_hierarchy_of_the_classes_alone_says_so(arrays):
    section = hierarchy_section(
        arrays(
            common=np.array([], int), names=NAMES, titles=NAMES, parents=np.arange(4),
            counts=np.array([90, 50, 10, 2]), shares=np.eye(4), patches={}, description="",
        )
    )  # fmt: skip
    assert section.intro == "Each of the 4 classes is its own only subclass."
    tree = section.items[0]
    assert [len(one.subclasses) for one in tree.classes] == [1, 1, 1, 1]
    assert not any(one.common for one in tree.classes)


def test_page_of_a_baseline_without_anything_to_compare():
    report = assemble(
        title="baseline",
        subtitle="",
        dataset="synthetic",
        strategy="baseline",
        class_names=NAMES,
        colours=np.zeros((4, 3), dtype=np.uint8),
        void=255,
        confusion=COUNTS,
        config={},
        paths={},
        seeds=(),
    )
    page = Page(render_page(report))
    assert_stands_alone(page)
    assert len(page.all("img")) == 1, "the confusion matrix"
    assert "no change" not in page.text
    assert "To know" not in page.text


def test_the_report_needs_no_torch_ray_mlflow_or_pyplot():
    code = (
        "import sys, lhs.report.assemble, lhs.report.page;"
        "bad = {'torch', 'ray', 'mlflow', 'matplotlib.pyplot'} & set(sys.modules);"
        "sys.exit(str(bad) if bad else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
