"""What README, CONTRIBUTING and docs/ say: commands are understood, files, links and settings are
there, tables are complete, and Python runs."""

from __future__ import annotations

import argparse
import ast
import inspect
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import BaseModel

import lhs
from lhs.config import WEIGHTS, Config, HierarchyConfig, NetworkConfig
from lhs.evaluation.model import ModelDescription, save_model
from lhs.hierarchy import Hierarchy, document
from lhs.loading import load_config, recipes
from lhs.networks.build import build_network
from lhs.run import main, parser
from lhs.sweeps import Sweep, read_sweep, search_base, trials_of
from tests.hierarchy.test_hierarchy import cluster_hierarchy

TOP = Path(__file__).parents[1]
PAGES = {
    path.relative_to(TOP).as_posix(): path.read_text(encoding="utf-8")
    for path in (
        TOP / "README.md",
        TOP / "CONTRIBUTING.md",
        *sorted((TOP / "docs").glob("*.md")),
        TOP / "clusters/README.md",
    )
}
README, COMMANDS, SETTINGS = (
    PAGES[name] for name in ("README.md", "docs/commands.md", "docs/settings.md")
)
BLOCK = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
SECTIONS = "|".join(name for name, value in Config() if isinstance(value, BaseModel))
FOLDERS = r"(?:lhs|benchmarks|tests|tune|clusters|docs)/[\w./-]*\w/?"


def blocks(page: str, *languages: str) -> list[str]:
    return [text for language, text in BLOCK.findall(PAGES[page]) if language in languages]


def ticked(text: str) -> list[str]:
    """What stands between backticks, outside blocks."""
    return re.findall(r"`([^`\n]+)`", BLOCK.sub("", text))


def rows(text: str) -> list[list[str]]:
    """The cells of every table row."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" |")] for line in lines]


def parsers(
    top: argparse.ArgumentParser, prefix: str = "lhs"
) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Every command that can be typed, such as `lhs data get`, and its parser."""
    groups = [a for a in top._actions if isinstance(a, argparse._SubParsersAction)]
    if not groups:
        yield prefix, top
    for group in groups:
        for name, below in group.choices.items():
            yield from parsers(below, f"{prefix} {name}")


def typed() -> list[tuple[str, str]]:
    """Page and line of every `lhs` command that is shown to type, also behind `ray submit`."""
    found = set()
    for page in PAGES:
        for line in "\n".join(blocks(page, "")).splitlines():
            line = line.split("#")[0].split(" > ")[0].strip()
            line = re.sub(r"^.*lhs/run\.py -- |^.*ray job submit .*-- lhs ", "lhs ", line)
            line = re.sub(r"^\S*LHS_\w+=\S+ ", "", line)
            if line.startswith("lhs "):
                found.add((page, line))
    return sorted(found)


# Length


def test_the_readme_is_short() -> None:
    assert len(README.split()) <= 1800


# Commands


@pytest.mark.parametrize("command", [name for name, _ in parsers(parser())])
def test_every_command_has_a_row(command: str) -> None:
    named = [row[0] for row in rows(COMMANDS)]
    assert any(re.match(rf"`{command}[ `]", cell) for cell in named)


def test_options_are_those_of_the_commands() -> None:
    shown, known = set(), set()
    for command in (parser(), *(command for _, command in parsers(parser()))):
        for action in command._actions:
            options = {name for name in action.option_strings if name.startswith("--")}
            known |= options
            if action.help != argparse.SUPPRESS:
                shown |= options - {"--help"}
    named = {
        option
        for text in (*ticked(COMMANDS), *blocks("docs/commands.md", ""))
        for option in re.findall(r"--[a-z][a-z-]+", text)
    }
    assert shown <= named
    assert named <= known


@pytest.mark.thorough
@pytest.mark.parametrize(("page", "line"), typed(), ids=lambda text: text)
def test_what_is_shown_to_type_is_understood(page: str, line: str) -> None:
    words = shlex.split(line)[1:]
    options = parser().parse_args(words)
    settings = getattr(options, "set", [])
    if words[0] in ("run", "hierarchy"):
        if options.recipe.endswith(".yaml"):
            # A file that the reader has just written.
            assert f"> {options.recipe}" in PAGES[page]
        else:
            assert options.recipe in recipes() or options.recipe in added_recipes()
            load_config(options.recipe if options.recipe in recipes() else "demo", known(settings))
    elif words[0] == "sweep":
        sweep = read_sweep(str(TOP / options.file), options.recipe)
        if isinstance(sweep, Sweep):
            assert trials_of(sweep, settings, options.recipe)
        else:
            search_base(sweep, settings, options.recipe)
    elif settings:
        load_config("demo", settings)
    for name in [*getattr(options, "runs", []), getattr(options, "recipe", None)]:
        there = name is None or name in recipes() or name in added_recipes() or ".yaml" in name
        assert there or (TOP / name).is_dir()


def added_recipes() -> list[str]:
    """Names of the recipes that CONTRIBUTING.md adds."""
    return re.findall(r"New file `lhs/recipes/([\w-]+)\.yaml`", PAGES["CONTRIBUTING.md"])


def known(settings: list[str]) -> list[str]:
    """Settings but for the network that CONTRIBUTING.md adds."""
    added = re.findall(r"New file `lhs/networks/(\w+)\.py`", PAGES["CONTRIBUTING.md"])
    return [text for text in settings if text not in [f"network.name={name}" for name in added]]


@pytest.mark.parametrize("page", PAGES)
def test_targets_of_make_are_there(page: str) -> None:
    targets = set(re.findall(r"^([a-z]+):", (TOP / "Makefile").read_text(), re.MULTILINE))
    text = "\n".join([*ticked(PAGES[page]), *blocks(page, "")])
    assert set(re.findall(r"^make ([a-z]+)", text, re.MULTILINE)) <= targets


# Links and files


def anchors(text: str) -> set[str]:
    """Of the headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.+)$", BLOCK.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", BLOCK.sub("", PAGES[page]))
    for link in links:
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = ((TOP / page).parent / path).resolve() if path else TOP / page
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.read_text(encoding="utf-8")), link


@pytest.mark.parametrize("page", [name for name in PAGES if name != "README.md"])
def test_pages_are_reached_from_the_readme_and_lead_back(page: str) -> None:
    assert f"]({page})" in README
    assert "README.md)" in PAGES[page]


@pytest.mark.parametrize("page", PAGES)
def test_named_files_are_there(page: str) -> None:
    text = "\n".join([*ticked(PAGES[page]), *blocks(page, "", "yaml", "python")])
    new = re.findall(r"New file `([^`]+)`", PAGES[page])
    named = set(re.findall(rf"(?<![\w/.~-]){FOLDERS}", text)) - set(new)
    assert [name for name in sorted(named) if not (TOP / name).exists()] == []


# Settings


@pytest.mark.parametrize("page", PAGES)
def test_named_settings_are_there(page: str) -> None:
    names = set(Config().dotted())
    named, shown = "\n".join(ticked(PAGES[page])), "\n".join(blocks(page, ""))
    setting = rf"(?<![\w./<])((?:{SECTIONS})(?:\.[a-z_]\w*)+)(?:=(\S+))?|--set (\w+)="
    # What is shown to type is read as a whole elsewhere.
    for text, checked in ((named, True), (shown, False)):
        for name, value, single in re.findall(setting, text):
            if name.endswith((".json", ".html")) or single.isupper():
                continue
            assert (name or single) in names
            if value and checked and value != "..." and known([f"{name}={value}"]):
                load_config("demo", [f"{name}={value}"])


def test_networks_and_kinds_are_all_in_their_tables() -> None:
    table = {name: row for row in rows(SETTINGS) for name in re.findall(r"`([^`]+)`", row[0])}
    for name, sources in WEIGHTS.items():
        assert all(f"`{source}`" in table[name][-1] for source in sources), name
    kinds = get_args(HierarchyConfig.model_fields["kind"].annotation)
    assert set(kinds) <= set(table)


def test_recipes_are_all_in_the_table_and_no_other_is_named() -> None:
    listed = {
        name
        for row in rows(PAGES["docs/datasets.md"])
        for name in re.findall(r"`([\w-]+)`", row[-1])
    }
    assert listed & set(recipes()) == set(recipes()) - {"demo"}
    for page, text in PAGES.items():
        named = re.findall(r"^(?:siftflow|stanford|barcelona|lmsun)-\w+-[\w-]+$", "\n".join(
            ticked(text)), re.MULTILINE)  # fmt: skip
        assert set(named) <= set(recipes()), page


def test_every_benchmark_is_named_beside_its_figures() -> None:
    measured = PAGES["docs/performance.md"] + PAGES["docs/results.md"] + PAGES["docs/datasets.md"]
    for path in (TOP / "benchmarks").glob("*.py"):
        if "__main__" in path.read_text(encoding="utf-8"):
            assert f"benchmarks/{path.name}" in measured


def test_stages_are_all_in_the_table() -> None:
    """The modules whose builders the graph takes."""
    tree = ast.parse((TOP / "lhs/engine/graph.py").read_text(encoding="utf-8"))
    built = {
        f"`{node.module.replace('.', '/')}.py`"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        and node.module
        and any(alias.name.startswith("build_") for alias in node.names)
    }
    table = {row[-1] for row in rows(PAGES["docs/architecture.md"]) if len(row) == 3}
    assert built == {cell for cell in table if "/stages/" in cell}


# Examples


@pytest.mark.thorough
def test_the_import_that_the_readme_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    section = README[README.index("## Your own images") :]
    command, shown, line = (text.strip() for _, text in BLOCK.findall(section)[:3])
    label_map = np.array([0, 1, 2, 255], np.uint8).repeat(60)[:, None].repeat(320, 1)
    for number in range(1, 41):
        for folder, pixels in (("images", np.dstack([label_map] * 3)), ("masks", label_map)):
            path = (
                tmp_path
                / "photos"
                / folder
                / f"{number:04}.{'jpg' if folder == 'images' else 'png'}"
            )
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
    (tmp_path / "photos" / "classes.txt").write_text("sky\nsea\nsand\n")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main(shlex.split(command.replace("~", str(tmp_path)))[1:]) == 0
    printed = capsys.readouterr().out.replace(str(tmp_path), "/home/me").splitlines()
    assert printed[: len(shown.splitlines())] == shown.splitlines()
    assert printed[-1].startswith(f"{line} --set ")
    # Without the option it stops, as the page says.
    words = shlex.split(command.replace("~", str(tmp_path)).replace("my-scenes", "other"))[1:]
    assert main([word for word in words if word not in ("--void", "255")]) == 2


# Python


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the examples open."""
    config = NetworkConfig(name="lite", weights="none", channels=8)
    torch.manual_seed(0)
    description = ModelDescription(
        network=config, strategy="baseline", dataset="toy", classes=("sky", "sea", "sand"),
        colours=((1, 2, 3), (4, 5, 6), (7, 8, 9)), outputs=3, hierarchy_digest=None,
    )  # fmt: skip
    (tmp_path / "model").mkdir()
    save_model(tmp_path / "model", build_network(config, 3), description)
    pixels = np.random.default_rng(0).integers(0, 256, (48, 80, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.jpg")
    cluster_hierarchy(region=7).save(tmp_path / "hierarchy.json")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def executed(page: str) -> dict[str, Any]:
    """The names that a page's Python leaves behind, its blocks one after the other."""
    found: dict[str, Any] = {}
    for text in blocks(page, "python"):
        exec(compile(text.replace("runs:/RUN_ID", "model"), page, "exec"), found)
    return found


@pytest.mark.thorough
def test_the_python_of_the_readme_runs(beside: Path) -> None:
    found = executed("README.md")
    prediction = found["prediction"]
    assert prediction.label_map.shape == (48, 80)
    assert prediction.probabilities.shape == (3, 48, 80)
    assert prediction.overlay.shape == (48, 80, 3)
    assert prediction.classes == ("sky", "sea", "sand")
    [comment] = re.findall(r"lhs\.load\(.*\)  # (.*)", README)
    arguments = re.findall(r"(\w+)=", comment)
    assert arguments
    assert set(arguments) <= set(inspect.signature(lhs.load).parameters)


def test_the_two_ways_to_use_a_hierarchy_agree(beside: Path) -> None:
    [program] = blocks("docs/hierarchy-file.md", "python")
    assert sum(bool(line.strip()) for line in program.splitlines()) <= 30
    assert "lhs" not in program
    torch.manual_seed(0)
    found = executed("docs/hierarchy-file.md")
    hierarchy, plain = Hierarchy.load("hierarchy.json"), found["plain"]
    relabelled = hierarchy.relabel(found["label_map"])
    np.testing.assert_array_equal(
        plain, np.where(relabelled == hierarchy.void_subclass, -100, relabelled.astype(int))
    )
    assert len(np.unique(plain)) > len(hierarchy.classes)
    label = torch.from_numpy(found["label_map"])[None]
    loss = lhs.HierarchicalLoss(hierarchy)(found["p"], torch.from_numpy(relabelled)[None], label)
    torch.testing.assert_close(found["loss"], loss)


def test_the_fields_of_the_hierarchy_file_are_all_told_of() -> None:
    page = rows(PAGES["docs/hierarchy-file.md"])
    told = {name for row in page for name in ticked(row[0])}
    models = (document.Document, document.Made, document.SubclassEntry)
    wanted = {field.alias or name for one in models for name, field in one.model_fields.items()}
    assert wanted <= told
    nested = {name for row in page if "`clusterings`" in row[0] for name in ticked(row[1])}
    for one in (document.ClusteringEntry, document.TrialEntry):
        assert set(one.model_fields) <= nested


@pytest.mark.thorough
def test_the_examples_of_other_trainers_run(beside: Path) -> None:
    found = executed("docs/trainers.md")
    hierarchy = found["hierarchy"]
    assert len(hierarchy.subclasses) > 3
    assert Hierarchy.load("sky-sea-sand.json").digest == hierarchy.digest
    assert found["predicted"].shape == (8, 64, 80)
    for losses in (found["losses"], found["unet_losses"]):
        assert np.isfinite(losses).all()
    moved = found["criterion"].layer.drift()
    assert float(moved["w_from_zero"]) > 0
    assert not any(float(value) for value in found["fixed"].layer.drift().values())
    torch.testing.assert_close(found["scores"], found["summed"], rtol=1e-4, atol=1e-4)
    assert found["mine"].by_map
