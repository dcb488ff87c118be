"""Hold the shape of the package: which way imports run, and what stays out of which module."""

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# Packages, each importing only from those above it.
ORDER = [
    "core",
    "spaces",
    "search",
    "schedulers",
    "planning",
    "storage",
    "models",
    "schedules",
    "datasets",
    "problems",
    "study",
    "stabilization",
    "analysis",
    "tuning",
    "sklearn",
    "report",
    "integrations",
    "cli",
]
# Where the population axis, or an axis over candidates, may appear; in `models` and `problems` an
# axis over the layers of one network, over noise keys, or over rows.
MAY_VMAP = {"core", "search", "analysis", "stabilization", "models", "problems"}

# Who finds modules by name when they are asked for: front pages, of the package and of its rooms,
# and what a study offers from rooms below it.
BY_NAME = {
    "__init__.py",
    "cli/__init__.py",
    "core/tracing/clocks.py",  # watches what functions of the user import
    "datasets/__init__.py",
    "stabilization/__init__.py",
    "study/later.py",
}

ROOT = Path(__file__).resolve().parent.parent / "jaxopt_lab"
FILES = sorted(ROOT.rglob("*.py"))
each_file = pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(ROOT).as_posix())


def package_of(path: Path) -> str:
    """The package of a file; "" at the top."""
    parts = path.relative_to(ROOT).parts
    return parts[0] if len(parts) > 1 else ""


def imported_modules(path: Path) -> Iterator[tuple[int, str]]:
    """Line and absolute dotted name of every import, those inside functions included."""
    package = ("jaxopt_lab", *path.relative_to(ROOT).parent.parts)
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                yield node.lineno, f"{module}.{alias.name}"


def names_used(path: Path) -> Iterator[tuple[int, str]]:
    """Line and name of every identifier in the code: not in strings, not in comments."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.alias(name=name):
                yield node.lineno, name


def test_only_packages_stand_at_the_top() -> None:
    names = {path.name for path in ROOT.glob("*.py")}
    assert names == {"__init__.py", "__main__.py"}
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")}
    assert packages == set(ORDER), "add a new package to ORDER, at its place"


@each_file
def test_imports_run_one_way(path: Path) -> None:
    package = package_of(path)
    if not package:
        return
    allowed = set(ORDER[: ORDER.index(package) + 1])
    wrong = []
    for line, module in imported_modules(path):
        first, _, rest = module.partition(".")
        target = rest.partition(".")[0]
        if first == "jaxopt_lab" and target not in allowed:
            wrong.append(f"line {line}: {module}: '{target}' is not above '{package}' in ORDER")
    assert not wrong, f"{path}:\n" + "\n".join(wrong)


def test_no_module_imports_itself_by_way_of_others() -> None:
    modules = {
        ".".join(("jaxopt_lab", *p.relative_to(ROOT).with_suffix("").parts)): p for p in FILES
    }
    edges = {name: set() for name in modules}
    for name, path in modules.items():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in tree.body:  # what is imported inside a function is imported later
            for module in names_imported(node):
                target = module if module in modules else module.rpartition(".")[0]
                if target in modules and target != name:
                    edges[name].add(target)
    sorter = graphlib.TopologicalSorter(edges)
    try:
        sorter.prepare()
    except graphlib.CycleError as error:
        pytest.fail(f"a cycle of imports: {' -> '.join(error.args[1])}")


def names_imported(node: ast.AST) -> Iterator[str]:
    """Dotted names that a top-level statement imports, those of types only apart."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
        yield from (f"{node.module}.{alias.name}" for alias in node.names)


def test_modules_are_found_by_name_in_few_places() -> None:
    found = {
        path.relative_to(ROOT).as_posix()
        for path in FILES
        if any(name in ("import_module", "__import__") for _, name in names_used(path))
    }
    assert found == BY_NAME


@each_file
def test_vmap_stays_where_populations_live(path: Path) -> None:
    if package_of(path) not in MAY_VMAP:
        lines = [line for line, name in names_used(path) if name == "vmap"]
        assert not lines, f"{path}: vmap on lines {lines}; only {sorted(MAY_VMAP)} may use it"


@each_file
def test_no_pickle(path: Path) -> None:
    banned = {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal"}
    lines = [line for line, name in imported_modules(path) if name.partition(".")[0] in banned]
    assert not lines, f"{path}: pickle (by some name) on lines {lines}; stored data must be inert"


def test_import_leaves_jax_alone() -> None:
    """A user sets JAX up after the import too, so it must not start the backend."""
    script = """
import os
import jax
from jax._src import xla_bridge

def jax_environment():
    return {k: v for k, v in os.environ.items() if k.startswith(("JAX", "XLA"))}

config, environment = dict(jax.config.values), jax_environment()
import jaxopt_lab.cli.tune
from jaxopt_lab import *
assert not xla_bridge.backends_are_initialized(), "the import started JAX's backend"
changed = [k for k, v in config.items() if jax.config.values[k] != v]
assert not changed, f"the import changed JAX's configuration: {changed}"
assert jax_environment() == environment, "the import changed JAX's environment variables"
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT.parent
    )
    assert done.returncode == 0, done.stderr
