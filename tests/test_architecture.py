"""Hold the shape of the package: which way imports run, and what stays out of which module."""

import ast
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

# Each module or package imports only from entries above its own (a package also from itself).
# Modules stand by themselves until the packages run one way.
ORDER = [
    "core.errors",
    "core.status",
    "core.types",
    "core.hparams",
    "core.objective",
    "core.trainable",
    "core.tracing.dependencies",
    "core.tracing.naming",
    "core.tracing.arguments",
    "core.tracing.outputs",
    "core.tracing.recorded",
    "core.tracing.purity",
    "core.tracing.leaks",
    "core.tracing.explain",
    "core.tracing.check",
    "core.tracing.lowering",
    "core.tracing.flattened",
    "core.tracing.footprint",
    "core.tracing.executors",
    "problems.mlp.hyperparameters",
    "spaces.distributions",
    "spaces.space",
    "problems.mlp.signature",
    "problems.mlp.schedules",
    "problems.mlp.moments",
    "problems.mlp.optimizers",
    "problems.mlp.observation",
    "problems.mlp.skipping",
    "models",
    "datasets",
    "problems.mlp.data",
    "problems.mlp.rows",
    "problems.tabular.task",
    "problems",
    "problems.mlp.trainer",
    "problems.mlp.stream",
    "core.cohorts",
    "planning.costs",
    "problems.mlp.programs",
    "problems.mlp.estimates",
    "problems.mlp.choosing",
    "core.compilation",
    "core.controls",
    "core.engine",
    "core.runner",
    "core.devices",
    "search",
    "schedulers",
    "search.stopping",
    "analysis",
    "tuning.ensemble",
    "storage.files",
    "storage.packing",
    "storage.schema",
    "storage.store",
    "problems.tabular.predictor",
    "study.trials",
    "storage.agreement",
    "planning.sizing",
    "problems.mlp.calibration",
    "planning.plan",
    "study.proposals",
    "study.races",
    "study.records",
    "study.rungs",
    "study.watch",
    "study.incumbent",
    "study.study",
    "tuning.outcome",
    "tuning.tune",
    "stabilization",
    "report",
    "cli",
]
# Where the population axis, or an axis over candidates, may appear; in `models` an axis over the
# layers of one network, or over noise keys.
MAY_VMAP = {"core.engine", "search", "analysis", "stabilization", "models"}

ROOT = Path(__file__).resolve().parent.parent / "jaxopt_lab"
FILES = sorted(ROOT.rglob("*.py"))
each_file = pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(ROOT).as_posix())


def entry_of(path: Path) -> str:
    """The entry of ORDER that a file belongs to, or its own dotted name."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return entry_named(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def entry_named(parts: Sequence[str]) -> str:
    """The longest entry of ORDER that begins a dotted name; the name itself if none does."""
    heads = [".".join(parts[:n]) for n in range(len(parts), 0, -1)]
    return next((head for head in heads if head in ORDER), heads[0])


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
    if entry in {"__init__", "__main__"} or (path.name == "__init__.py" and entry not in ORDER):
        return
    assert entry in ORDER, f"{path} is new: add '{entry}' to ORDER in {__file__}, at its place"
    allowed = set(ORDER[: ORDER.index(entry)])
    if "." not in entry:
        allowed.add(entry)
    wrong = []
    for line, module in imported_modules(path):
        first, _, rest = module.partition(".")
        if first != "jaxopt_lab":
            continue
        target = entry_named(rest.split("."))
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
