"""Nothing in the code runs what data say, unpickles them, or opens a port to the world."""

from __future__ import annotations

import ast
import importlib.util
import re
from pathlib import Path

import pytest

import lhs

PACKAGE = Path(lhs.__file__).parent
PROJECT = PACKAGE.parent
SOURCES = sorted([*PACKAGE.rglob("*.py"), *(PROJECT / "tune").glob("*.py")])
UNPICKLING = {"pickle", "cPickle", "cloudpickle", "marshal", "shelve", "dill", "jsonpickle"}
SHELLS = {"os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"}
RUNNING = {"eval", "exec", "compile", "__import__"}
YAML = {"yaml.safe_load", "yaml.safe_dump", "yaml.parse", "yaml.compose"}
UNSAFE_LOADERS = {"Loader", "UnsafeLoader", "FullLoader", "CLoader", "CUnsafeLoader", "CFullLoader"}
PANDAS = {"read_pickle", "to_pickle"}
EVERYWHERE = re.compile(r"(?<![\w.:])(0\.0\.0\.0|::)(?![\w.:])")


def faults(source: str) -> list[str]:
    """What a source must not do, each with its line."""
    found = []

    def fault(node: ast.AST, what: str) -> None:
        found.append(f"line {getattr(node, 'lineno', '?')}: {what}")

    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names]
            tops = [node.module or ""] if isinstance(node, ast.ImportFrom) else names
            for top in tops:
                if top.split(".")[0] in UNPICKLING:
                    fault(node, f"imports {top}")
            if isinstance(node, ast.ImportFrom) and node.module in ("yaml", "os", "subprocess"):
                for name in names:
                    if f"{node.module}.{name}" in SHELLS or node.module == "yaml":
                        fault(node, f"imports {node.module}.{name}")
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            words = {word.arg: ast.unparse(word.value) for word in node.keywords}
            if called in RUNNING or called in SHELLS:
                fault(node, f"calls {called}")
            if re.fullmatch(r"yaml\.[a-z_]+", called) and called not in YAML:
                fault(node, f"calls {called}")
            if called == "torch.load" and words.get("weights_only") != "True":
                fault(node, "torch.load without weights_only=True")
            # Any value: a variable could be true.
            if words.get("allow_pickle", "False") != "False":
                fault(node, f"allow_pickle={words['allow_pickle']}")
            if called in ("np.load", "numpy.load") and "allow_pickle" not in words:
                fault(node, f"{called} without allow_pickle=False")
            if words.get("shell", "False") != "False":
                fault(node, f"shell={words['shell']}")
        elif isinstance(node, ast.Attribute):
            if node.attr in UNSAFE_LOADERS and ast.unparse(node.value) == "yaml":
                fault(node, f"yaml.{node.attr}")
            if node.attr in PANDAS:
                fault(node, f"calls {node.attr}")
        elif (
            isinstance(node, ast.Constant)
            and isinstance(node.value, str)
            and EVERYWHERE.search(node.value)
        ):
            fault(node, f"names an address of all networks: {node.value!r}")
    return found


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "import os, marshal as m",
        "def f():\n    import shelve",
        "import dill._dill",
        "yaml.load(text, Loader=yaml.SafeLoader)",
        "yaml.full_load(text)",
        "yaml.parse(text, Loader=yaml.Loader)",
        "from yaml import load",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "np.savez(path, allow_pickle=flag)",
        "subprocess.run('ls ' + name, shell=True)",
        "os.system(command)",
        "from os import popen",
        "eval(text)",
        "exec(text)",
        "pd.read_pickle(path)",
        "server.bind(('0.0.0.0', 80))",
        "options = ['--host=0.0.0.0']",
        "socket.bind(('::', 80))",
    ],
)
def test_the_reader_of_sources_sees(source: str) -> None:
    assert faults(source)


def test_the_reader_of_sources_lets_the_rest_pass() -> None:
    source = """
import os, subprocess, yaml
from torch import load
yaml.safe_load(text)
yaml.parse(text, Loader=yaml.SafeLoader)
torch.load(path, weights_only=True)
np.load(path, allow_pickle=False)
model.eval()
subprocess.run(["ls", name], check=True)
re.compile("x")
bind(("127.0.0.1", 0))
"version 10.0.0.0.1, a[::2], std::vector"
"""
    assert faults(source) == []


@pytest.mark.thorough
def test_no_source_does() -> None:
    assert len(SOURCES) > 100
    found = {path: faults(path.read_text(encoding="utf-8")) for path in SOURCES}
    assert {path: each for path, each in found.items() if each} == {}


# Servers


def test_a_cluster_of_our_own_has_no_dashboard_and_keeps_rays_tokens() -> None:
    """Ray's own ports answer only who has the token that it makes; nobody turns that off here."""
    (start, join) = [
        node
        for node in ast.walk(ast.parse((PACKAGE / "engine" / "runtime" / "cluster.py").read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "ray.init"
    ]
    words = {word.arg: ast.unparse(word.value) for word in start.keywords}
    assert words["include_dashboard"] == "False"
    assert "address" not in words
    assert {word.arg for word in join.keywords} == {None}
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        assert "RAY_AUTH_MODE" not in text, path
        assert "dashboard_host" not in text, path


def test_no_part_of_the_package_listens() -> None:
    serving = re.compile(r"\.listen\(|HTTPServer|socketserver|uvicorn|\.bind\(|start_server")
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        assert not serving.search(text), path
        # `mlflow ui` is printed for people, with MLflow's own address.
        for line in text.splitlines():
            assert "mlflow ui" not in line or "--host" not in line, path


@pytest.mark.thorough
def test_the_page_of_lhs_view_is_served_to_this_machine_alone() -> None:
    calls = [
        node
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(".launch")
    ]
    (words,) = [{word.arg: ast.unparse(word.value) for word in call.keywords} for call in calls]
    assert words["server_name"] == "HERE"
    page = (PACKAGE / "engine" / "inference" / "view.py").read_text(encoding="utf-8")
    assert '\nHERE = "127.0.0.1"\n' in page
    assert words["share"] == words["mcp_server"] == words["enable_monitoring"] == "False"


def test_documented_commands_listen_here_alone() -> None:
    """MLflow's own default is 127.0.0.1; what a file of ours starts says no other address."""
    clusters = [path for path in (PROJECT / "clusters").iterdir() if path.suffix != ".png"]
    documented = [PROJECT / "README.md", PROJECT / "Makefile", *clusters]
    seen = 0
    for path in documented:
        text = path.read_text(encoding="utf-8")
        seen += len(re.findall(r"mlflow (?:ui|server)|ray start --head|ray job submit", text))
        assert not EVERYWHERE.search(text), path
        for host in re.findall(r"--(?:dashboard-)?host[= ](\S+)", text):
            assert host.strip("`") in ("127.0.0.1", "the"), (path, host)
    assert seen >= 3


def test_mlflow_listens_here_alone_by_default() -> None:
    # Its source: to import its command line takes seconds.
    spec = importlib.util.find_spec("mlflow")
    assert spec is not None
    assert spec.origin is not None
    source = (Path(spec.origin).parent / "utils" / "cli_args.py").read_text(encoding="utf-8")
    (host,) = [
        node
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) == "click.option"
        and ast.literal_eval(node.args[0]) == "--host"
    ]
    assert {word.arg: ast.unparse(word.value) for word in host.keywords}["default"] == "'127.0.0.1'"
