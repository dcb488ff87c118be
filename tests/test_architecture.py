"""Hold the shape of the package: which way imports run, and what stays out of which module."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# Each module or package imports only from entries above its own (a package also from itself).
ORDER = [
    "errors",
    "status",
    "types",
    "hyperparameters",
    "distributions",
    "space",
    "signature",
    "schedules",
    "moments",
    "optimizers",
    "observation",
    "skipping",
    "models",
    "datasets",
    "tasks",
    "trainer",
    "stream",
    "plan",
    "costs",
    "programs",
    "estimates",
    "choosing",
    "compilation",
    "controls",
    "engine",
    "runner",
    "devices",
    "search",
    "schedulers",
    "stopping",
    "analysis",
    "ensemble",
    "files",
    "packing",
    "schema",
    "store",
    "predictor",
    "trials",
    "agreement",
    "sizing",
    "calibration",
    "planning",
    "proposals",
    "races",
    "records",
    "rungs",
    "watch",
    "incumbent",
    "study",
    "outcome",
    "tune",
    "stabilization",
    "report",
    "cli",
]
# Where the population axis, or an axis over candidates, may appear; in `models` an axis over the
# layers of one network, or over noise keys.
MAY_VMAP = {"engine", "search", "analysis", "stabilization", "models"}
MAX_LINES = 400

ROOT = Path(__file__).resolve().parent.parent / "jaxopt_lab"
FILES = sorted(ROOT.rglob("*.py"))
each_file = pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(ROOT).as_posix())


def entry_of(path: Path) -> str:
    """The entry of ORDER that a file belongs to, or `__init__` or `__main__`."""
    return path.relative_to(ROOT).with_suffix("").parts[0]


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


@each_file
def test_imports_run_one_way(path: Path) -> None:
    entry = entry_of(path)
    if entry in {"__init__", "__main__"}:
        return
    assert entry in ORDER, f"{path} is new: add '{entry}' to ORDER in {__file__}, at its place"
    allowed = set(ORDER[: ORDER.index(entry)])
    if path.parent != ROOT:
        allowed.add(entry)
    wrong = []
    for line, module in imported_modules(path):
        first, _, rest = module.partition(".")
        if first != "jaxopt_lab":
            continue
        target = rest.partition(".")[0]
        if target not in ORDER:
            wrong.append(f"line {line}: {module}: import it from the module that defines it")
        elif target not in allowed:
            wrong.append(f"line {line}: {module}: '{target}' is not above '{entry}' in ORDER")
    assert not wrong, f"{path}:\n" + "\n".join(wrong)


@each_file
def test_vmap_stays_where_populations_live(path: Path) -> None:
    if entry_of(path) not in MAY_VMAP:
        lines = [line for line, name in names_used(path) if name == "vmap"]
        assert not lines, f"{path}: vmap on lines {lines}; only {sorted(MAY_VMAP)} may use it"


@each_file
def test_module_is_short(path: Path) -> None:
    num_lines = len(path.read_text(encoding="utf-8").splitlines())
    assert num_lines <= MAX_LINES, f"{path} has {num_lines} lines: divide it"


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
from jaxopt_lab import *  # all that it imports when asked
assert not xla_bridge.backends_are_initialized(), "the import started JAX's backend"
changed = [k for k, v in config.items() if jax.config.values[k] != v]
assert not changed, f"the import changed JAX's configuration: {changed}"
assert jax_environment() == environment, "the import changed JAX's environment variables"
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT.parent
    )
    assert done.returncode == 0, done.stderr
