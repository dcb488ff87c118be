"""`jaxopt-lab diagnose`: what the logged curves of a training say, without JAX."""

import json
import math
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxopt_lab.cli.console import make_console, short
from jaxopt_lab.cli.grid import Column, print_grid
from jaxopt_lab.core.errors import UserError
from jaxopt_lab.stabilization.logged import CurvesDiagnosis, diagnose_curves
from jaxopt_lab.stabilization.logged.diagnosis import RunDiagnosis, bound, why_not, written
from jaxopt_lab.storage.files import STDOUT, write_output

if TYPE_CHECKING:
    from rich.console import Console

#: Columns of the table of runs: title, and rank of `Column`.
_RUNS = (
    ("run", 0),
    ("verdict", 0),
    ("fluctuation", 1),
    ("spikes", 1),
    ("lowest", 1),
    ("end_over_lowest", 2),
    ("lowest_at", 2),
    ("rate", 2),
    ("values", 3),
)
_WORDS = ("run", "verdict")


def execute(args: Namespace) -> int:
    """Print the verdict, its evidence, what was rejected, and what to measure next."""
    output = None if args.output is None else Path(args.output).expanduser()
    page = None if args.report is None else Path(args.report).expanduser()
    for path, name in ((output, "out.json"), (page, "report.html")):
        if path is not None and path.is_dir():
            raise UserError(f"{path} is a directory; give a file to write, such as {path}/{name}")
    found = diagnose_curves(
        list(args.files),
        loss=args.loss,
        train_loss=args.train_loss,
        grad_norm=args.grad_norm,
        lr=args.lr,
        step=args.step,
        run=args.run,
        constant=args.constant,
        num_valid=args.valid_rows,
    )
    content = json.dumps(found.to_dict(), indent=2, allow_nan=False).encode() + b"\n"
    if output is not None:
        write_output(output, content)
    if page is not None:
        from jaxopt_lab.report import curves_page_of

        write_output(page, curves_page_of(found))
    if args.json:
        write_output(STDOUT, content)
    elif str(output) != STDOUT:
        _print(make_console(), found)
        if page is not None:
            make_console().print(f"the report: {page}", soft_wrap=True)
    return 0


def _print(console: "Console", found: CurvesDiagnosis) -> None:
    def say(*lines: str) -> None:
        for line in lines:
            console.print(short(line), soft_wrap=not console.is_terminal)

    say(found.sentence, found.certainty, "")
    if len(found.runs) > 1:
        _print_runs(console, found)
        say("", f"of run {found.worst.run.name}:")
    worst = found.worst
    _print_evidence(console, worst)
    say("")
    say(*(f"rejected: {f.name}: {why_not(f)}" for f in worst.rejected))
    say(*(f"measure next: {line}" for line in worst.next_steps))
    say(*(f"note: {line}" for line in dict.fromkeys(n for r in found.runs for n in r.run.notes)))
    used = ", ".join(f"{name} ({role.replace('_', ' ')})" for role, name in _used(worst))
    say(f"read: {used}; positions are {worst.run.unit}s")


def _used(found: RunDiagnosis) -> list[tuple[str, str]]:
    return [(role, found.run.columns[role]) for role in found.run.series]


def _print_evidence(console: "Console", found: RunDiagnosis) -> None:
    rows = [
        (f.name if i == 0 else "", written(c, c.value), bound(c), c.what)
        for f in found.causes
        for i, c in enumerate(f.checks)
    ]
    titles = ("cause", "measured", "threshold", "what")
    cells = [list(column) for column in zip(*rows, strict=True)]
    columns = [
        Column(title, mine, title == "measured", int(title == "what"))
        for title, mine in zip(titles, cells, strict=True)
    ]
    print_grid(console, columns)
    for spike in found.measures.spikes[:8]:
        norm = {None: "", True: ", after a high gradient norm", False: ", no high gradient norm"}
        text = f"spike: {found.run.unit} {spike.at:g}, {spike.factor:.2g} times the trend"
        console.print(f"{text}{norm[spike.preceded]}", soft_wrap=not console.is_terminal)


def _print_runs(console: "Console", found: CurvesDiagnosis) -> None:
    rows = [run.row() for run in found.runs]
    columns = [
        Column(name.replace("_", "\n"), [_cell(r, name) for r in rows], name not in _WORDS, rank)
        for name, rank in _RUNS
    ]
    print_grid(console, columns)


def _cell(row: dict[str, Any], name: str) -> str:
    value = row[name]
    if isinstance(value, float) and math.isnan(value):
        return "–"
    return f"{value:.1%}" if name == "fluctuation" else short(value)
