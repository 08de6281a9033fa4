"""The order of the packages, and what an import and a help text may cost."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Collection
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import lhs

PACKAGE = Path(lhs.__file__).parent
PROJECT = PACKAGE.parent
ORDER = (
    "errors",
    "names",
    "untrusted",
    "config",
    "loading",
    "sweeps",
    "data",
    "context",
    "hierarchy",
    "networks",
    "training",
    "evaluation",
    "report",
    "engine",
    "cli",
    "run",
    "__main__",
)
MODULES = sorted(path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py"))
DRIVERS = {"ray", "mlflow"}
HEAVY = ("torch", "numpy", "pydantic", "ray", "mlflow", "yaml", "cv2")


class Imports(ast.NodeVisitor):
    """The dotted names that a module imports when it runs, at its top or inside functions."""

    def __init__(self, module: str, is_package: bool) -> None:
        self.package = module.split(".") if is_package else module.split(".")[:-1]
        self.names: set[str] = set()

    def visit_If(self, node: ast.If) -> None:
        if ast.unparse(node.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING"):
            for child in node.orelse:
                self.visit(child)
        else:
            self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> None:
        self.names |= {alias.name for alias in node.names}

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        base = node.module or ""
        if node.level:
            parts = self.package[: len(self.package) - node.level + 1]
            base = ".".join([*parts, base] if base else parts)
        self.names |= {f"{base}.{alias.name}" for alias in node.names}

    def visit_Call(self, node: ast.Call) -> None:
        if ast.unparse(node.func).endswith("import_module"):
            assert isinstance(node.args[0], ast.Constant), ast.unparse(node)
            self.names.add(node.args[0].value)
        self.generic_visit(node)


def imports_of(source: str, module: str, is_package: bool = False) -> set[str]:
    visitor = Imports(module, is_package)
    visitor.visit(ast.parse(source))
    return visitor.names


def dotted(path: Path) -> str:
    return ".".join(("lhs", *path.with_suffix("").parts)).removesuffix(".__init__")


def imports_in(path: Path) -> set[str]:
    source = (PACKAGE / path).read_text(encoding="utf-8")
    return imports_of(source, dotted(path), path.name == "__init__.py")


def part_of(path: Path) -> str:
    return path.parts[0].removesuffix(".py")


def climbs(path: Path, names: set[str]) -> list[str]:
    """What a module imports from further down the order than it stands itself."""
    below = ORDER[ORDER.index(part_of(path)) + 1 :]
    return sorted(
        name
        for name in names
        if name.startswith("lhs.")
        and name != "lhs.__version__"
        and (name.split(".")[1] in below or name.split(".")[1] not in ORDER)
    )


def test_the_reader_of_imports_sees_what_there_is():
    source = """
from typing import TYPE_CHECKING
import os.path as p
from . import near
from .near import thing
from ..errors import UserError
if TYPE_CHECKING:
    import lhs.engine
else:
    import other
def f():
    from lhs.run import main
    importlib.import_module("late")
"""
    assert imports_of(source, "lhs.data.images") == {
        "typing.TYPE_CHECKING",
        "os.path",
        "lhs.data.near",
        "lhs.data.near.thing",
        "lhs.errors.UserError",
        "other",
        "lhs.run.main",
        "late",
    }
    assert climbs(Path("data/images.py"), {"lhs.run.main", "lhs.errors.E", "os"}) == [
        "lhs.run.main"
    ]


def circle_in(imports: dict[str, set[str]]) -> list[str]:
    """Modules of which each imports the one before it, the first again last; none where none do."""
    known = {
        module: {found for name in names if (found := module_of(name, imports)) not in ("", module)}
        for module, names in imports.items()
    }
    try:
        tuple(TopologicalSorter(known).static_order())
    except CycleError as error:
        return error.args[1]
    return []


def module_of(name: str, modules: Collection[str]) -> str:
    """The module that a dotted name is of, or is; empty where it is of none."""
    while name and name not in modules:
        name = name.rpartition(".")[0]
    return name


def test_a_circle_is_found():
    imports = {"lhs.a": {"lhs.b.f", "os"}, "lhs.b": {"lhs.c"}, "lhs.c": {"lhs.a.g", "lhs.c.x"}}
    assert sorted(set(circle_in(imports))) == ["lhs.a", "lhs.b", "lhs.c"]
    assert circle_in(imports | {"lhs.c": {"re"}}) == []


@pytest.mark.thorough
def test_no_modules_import_each_other_in_a_circle():
    """At their tops or inside functions: a module is read after all that it uses."""
    paths = [path for path in MODULES if path != Path("__init__.py")]
    assert circle_in({dotted(path): imports_in(path) for path in paths}) == []


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_imports_never_climb(path):
    names = imports_in(path)
    if path == Path("__init__.py"):
        tree = ast.parse((PACKAGE / path).read_text(encoding="utf-8"))
        top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
        early = imports_of("\n".join(map(ast.unparse, top)), "lhs", True)
        assert not [name for name in early if name.startswith("lhs")]
        return
    assert part_of(path) in ORDER, f"{path} has no place in the order"
    assert climbs(path, names) == []


@pytest.mark.parametrize("path", MODULES, ids=str)
def test_only_the_engine_drives_ray_and_mlflow(path):
    if part_of(path) == "engine":
        return
    assert not {name for name in imports_in(path) if name.split(".")[0] in DRIVERS}


def test_no_module_bears_the_name_of_a_dependency():
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    listed = list(project["dependencies"])
    for extra in project["optional-dependencies"].values():
        listed += extra
    taken = {re.match(r"[\w-]+", entry).group().lower().replace("-", "_") for entry in listed}
    # The names they are imported under, where those differ.
    taken |= {"yaml", "cv2", "pil", "sklearn", "skimage", "cuml"}
    names = {part.lower() for path in MODULES for part in path.with_suffix("").parts}
    assert {"ray", "mlflow", "torch"} <= taken
    assert not names & taken


@pytest.mark.thorough
def test_every_outside_import_is_a_declared_dependency():
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    listed = [*project["dependencies"], *extras["gpu"], *extras["coco"], *extras["view"]]
    names = {re.match(r"[\w-]+", entry).group().lower().replace("-", "_") for entry in listed}
    differ = {
        "yaml": "pyyaml",
        "cv2": "opencv_contrib_python_headless",
        "PIL": "pillow",
        "sklearn": "scikit_learn",
        "cuml": "cuml_cu13",
        "cupy": "cuml_cu13",
    }
    for path in MODULES:
        tops = {name.split(".")[0] for name in imports_in(path)} - {"lhs", "__future__"}
        outside = {top for top in tops if top not in sys.stdlib_module_names}
        assert {differ.get(top, top) for top in outside} <= names, path


# What an import does


def python(code: str, *arguments: str, cwd: Path | None = None) -> str:
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True).stdout


def test_the_command_line_loads_nothing_heavy():
    code = (
        "import sys, json, lhs.run; lhs.run.parser().format_help();"
        "print(json.dumps(sorted(sys.modules)))"
    )
    loaded = set(json.loads(python(code)))
    assert not loaded & set(HEAVY)


@pytest.mark.thorough
def test_imports_make_no_file_and_set_no_variable(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    libraries = sorted(
        {
            name.split(".")[0]
            for path in MODULES
            for name in imports_in(path)
            if not name.startswith("lhs") and name.split(".")[0] not in {"__future__", "cuml"}
        }
    )
    own = [
        ".".join(("lhs", *path.with_suffix("").parts)).removesuffix(".__init__") for path in MODULES
    ]
    # What the libraries set of themselves is theirs; ours comes after them.
    code = """
import importlib, json, os, sys
for name in sys.argv[1].split():
    if importlib.util.find_spec(name):
        importlib.import_module(name)
import ray.data, ray.train.torch, mlflow.pyfunc
before = dict(os.environ)
import logging
handlers = list(logging.getLogger().handlers)
for name in sys.argv[2].split():
    importlib.import_module(name)
assert logging.getLogger().handlers == handlers
assert not ray.is_initialized()
changed = {k: os.environ.get(k) for k in before.keys() | os.environ.keys()
           if before.get(k) != os.environ.get(k)}
print(json.dumps(changed))
"""
    environment = {
        **os.environ,
        "HOME": str(home),
        "MPLCONFIGDIR": str(tmp_path / "mpl"),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    for name in ("LHS_STORAGE", "LHS_DATA_ROOT", "MLFLOW_TRACKING_URI"):
        environment.pop(name, None)
    work = tmp_path / "work"
    work.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", code, " ".join(libraries), " ".join(own)],
        cwd=work,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {}
    assert list(work.iterdir()) == []
    made = {path.name for path in home.rglob("*") if path.is_file()}
    assert not {name for name in made if "lhs" in name or "mlflow" in name}, made


# The command line


def lhs_command() -> list[str]:
    return [str(Path(sys.executable).parent / "lhs")]


@pytest.mark.parametrize("arguments", [["--help"], ["run", "--help"], ["data", "get", "--help"]])
def test_help_answers(arguments):
    done = subprocess.run([*lhs_command(), *arguments], check=False, capture_output=True, text=True)
    assert done.returncode == 0
    assert done.stdout.startswith("usage: lhs")
    assert done.stderr == ""


@pytest.mark.slow
def test_help_answers_in_under_half_a_second():
    """By the clock; that it imports nothing heavy is tested in tests/test_run.py."""
    took = []
    for _ in range(5):
        started = time.perf_counter()
        subprocess.run([*lhs_command(), "--help"], check=True, capture_output=True)
        took.append(time.perf_counter() - started)
    assert min(took) < 0.5


@pytest.mark.thorough
def test_all_ways_to_start_it_say_the_same(tmp_path):
    alone = tmp_path / "scripts" / "run.py"
    alone.parent.mkdir()
    shutil.copy(PACKAGE / "run.py", alone)
    # Modules beside a copied script must not come before the installed package's dependencies.
    (alone.parent / "yaml.py").write_text("raise RuntimeError('hidden')\n")
    away = tmp_path / "away"
    away.mkdir()
    ways = [
        [sys.executable, "-m", "lhs.run"],
        [sys.executable, "-m", "lhs"],
        [sys.executable, str(PACKAGE / "run.py")],
        [sys.executable, str(alone)],
        lhs_command(),
    ]
    said = [
        subprocess.run(
            [*way, "recipes"], cwd=away, check=True, capture_output=True, text=True
        ).stdout
        for way in ways
    ]
    assert "demo" in said[0]
    assert said == [said[0]] * len(ways)


def test_a_mistake_is_one_message_and_code_2():
    done = subprocess.run(
        [*lhs_command(), "run", "demo", "--set", "hierarchy.rho=2", "--print-config"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    assert "hierarchy.rho = 2" in done.stderr
    assert "Traceback" not in done.stderr
