"""`jaxopt-lab show`: the trials of a study, read from its file without JAX."""

import csv
import sys
from argparse import Namespace
from typing import Any, TextIO

from jaxopt_lab.core.objective import sign_of
from jaxopt_lab.core.status import Status
from jaxopt_lab.storage.store import Store
from jaxopt_lab.storage.validation import settings_of

_FIRST = ("trial_id", "phase", "status", "score", "standard_error")
_TIMING = ("networks", "seconds")
_SHORT = {"standard_error": "±", "trial_id": "trial"}
_STYLES = {Status.INFEASIBLE: "red", Status.STOPPED: "dim", Status.PENDING: "dim"}


def execute(args: Namespace) -> int:
    """Print one row per trial, as a table or as CSV."""
    store = Store.open(args.directory, read_only=True)
    try:
        settings = settings_of(store)
        rows = signed(table_rows(store, args.timing), settings)
    finally:
        store.close()
    timing = _TIMING if args.timing else ()
    if args.csv:
        write_csv(sys.stdout, rows, timing)
    else:
        names = list(dict.fromkeys(name for row in rows for name in row["config"]))
        _print_table(rows, names, timing, settings)
    return 0


def table_rows(store: Store, timing: bool) -> list[dict[str, Any]]:
    """The trials in `trial_id` order.

    Args:
      store: the study.
      timing: add `networks`, how many were trained for the trial's folds, and `seconds`: their
        share, all networks of a phase counting alike, of the phase's waves, compilation included.
    """
    rows = store.trials()
    if not timing:
        return rows
    totals: dict[str, list[float]] = {}
    for wave in store.waves():
        total = totals.setdefault(wave["phase"], [0.0, 0.0])
        total[0] += wave["seconds"]
        total[1] += wave["jobs"]
    trained: dict[int, int] = {}
    num_folds = store.settings()["num_folds"]
    for member in store.members():
        if member["replicate"] == 0 and member["fold"] < num_folds:
            trained[member["trial_id"]] = trained.get(member["trial_id"], 0) + 1
    for row in rows:
        seconds, jobs = totals.get(row["phase"], (0.0, 1.0))
        row["networks"] = trained.get(row["trial_id"], 0)
        row["seconds"] = round(row["networks"] * seconds / jobs, 3)
    return rows


def signed(rows: list[dict[str, Any]], settings: dict[str, Any]) -> list[dict[str, Any]]:
    """The same rows with the objective as the problem has it: the store holds what is minimised."""
    sign = sign_of(settings.get("objective", {}).get("direction", ""))
    known = ((row, row["score"]) for row in rows)
    return [{**row, "score": None if score is None else sign * score} for row, score in known]


def metric_of(settings: dict[str, Any]) -> str:
    """The name of the score."""
    if "objective" in settings:
        return str(settings["objective"]["metric"])
    task = settings.get("task", {})
    if task.get("task") == "classification":
        return "log_loss"
    return "log_rmse" if task.get("log_target") else "rmse"


def write_csv(out: TextIO, rows: list[dict[str, Any]], timing: tuple[str, ...] = ()) -> None:
    """Write one line per trial, its hyperparameters last."""
    names = list(dict.fromkeys(name for row in rows for name in row["config"]))
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*_FIRST, "reason", *timing, *names])
    for row in rows:
        fixed = [row[name] for name in (*_FIRST, "reason", *timing)]
        writer.writerow([*fixed, *(row["config"].get(name, "") for name in names)])


def _print_table(
    rows: list[dict[str, Any]], names: list[str], timing: tuple[str, ...], settings: dict[str, Any]
) -> None:
    """A table with the hyperparameters that vary; those that do not stand below it."""
    from rich import box
    from rich.table import Table

    from jaxopt_lab.cli.console import make_console, short

    values = {n: list(dict.fromkeys(short(r["config"].get(n, "")) for r in rows)) for n in names}
    varying = [name for name in names if len(values[name]) > 1 or len(rows) == 1]
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    metric = metric_of(settings)
    for name in (*_FIRST, *timing, *varying):
        title = metric if name == "score" else _SHORT.get(name, name)
        right = name not in ("phase", "status")
        table.add_column(title.replace("_", "\n"), justify="right" if right else "left")
    scores = [r["score"] for r in rows if r["status"] == Status.COMPLETED]
    sign = sign_of(settings.get("objective", {}).get("direction", ""))
    best = min(scores, key=lambda score: sign * score, default=None)
    for row in rows:
        cells = [short(row[name]) for name in (*_FIRST, *timing)]
        cells += [short(row["config"].get(name, "")) for name in varying]
        is_best = row["status"] == Status.COMPLETED and row["score"] == best
        table.add_row(*cells, style="bold green" if is_best else _STYLES.get(row["status"], ""))
    console = make_console()
    console.print(table)
    fixed = [f"{n} = {values[n][0]}" for n in names if n not in varying]
    if fixed:
        console.print(f"the same in all: {', '.join(fixed)}", soft_wrap=not console.is_terminal)
    for row in rows:
        if row["status"] == Status.INFEASIBLE:
            reason = f"trial {row['trial_id']}: {row['reason']}"
            console.print(reason, soft_wrap=not console.is_terminal)
