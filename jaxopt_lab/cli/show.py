"""`jaxopt-lab show`: the trials of a study, read from its file without JAX."""

import csv
import io
import sys
from argparse import Namespace
from typing import Any

from jaxopt_lab.core.objective import sign_of
from jaxopt_lab.core.status import Status
from jaxopt_lab.storage.store import Store
from jaxopt_lab.storage.validation import (
    devices_of,
    ensemble_of,
    settings_of,
    trials_of,
    waves_of,
    workers_of,
)

_FIRST = ("trial_id", "phase", "status", "score", "standard_error", "folds", "epochs")
#: What is left out last where the terminal is narrow.
_RANKS = {"trial_id": 0, "score": 0, "status": 1}
_TIMING = ("networks", "seconds")
_SHORT = {"standard_error": "±", "trial_id": "trial"}
_KINDS = {"hist_gradient_boosting": "gradient boosting", "lightgbm": "LightGBM"}
_STYLES = {Status.INFEASIBLE: "red", Status.STOPPED: "dim", Status.PENDING: "dim"}


def execute(args: Namespace) -> int:
    """Print one row per trial, as a table or as CSV."""
    store = Store.open(args.directory, read_only=True)
    try:
        settings = settings_of(store)
        rows = signed(table_rows(store, args.timing), settings)
        members = ensemble_of(store)
        waves = [] if args.csv else workers_of(store)
        moves = [] if args.csv else devices_of(store)
    finally:
        store.close()
    timing = _TIMING if args.timing else ()
    if args.csv:
        sys.stdout.write(csv_of(rows, settings, timing))
    else:
        names = list(dict.fromkeys(name for row in rows for name in row["config"]))
        _print_table(rows, names, timing, settings, members)
        _print_workers(waves)
        _print_devices(settings, moves)
    return 0


def table_rows(store: Store, timing: bool) -> list[dict[str, Any]]:
    """The trials in `trial_id` order, with `folds`, how many a score is the mean of, and `epochs`.

    Args:
      store: the study.
      timing: add `networks`, how many were trained for the trial's folds, and `seconds`: their
        share, all networks of a phase counting alike, of the phase's waves, compilation included.
    """
    rows, num_folds = trials_of(store), settings_of(store).get("num_folds", 1)
    ages: dict[int, list[int]] = {}
    for member in store.members():
        if member.replicate == 0 and member.fold < num_folds:
            ages.setdefault(member.trial_id, []).append(member.num_units)
    for row in rows:
        mine = ages.get(row["trial_id"], [])
        row["folds"], row["epochs"] = len(mine), min(mine, default=0)
    if not timing:
        return rows
    totals: dict[str, list[float]] = {}
    for wave in waves_of(store):
        total = totals.setdefault(wave["phase"], [0.0, 0.0])
        total[0] += wave["seconds"]
        total[1] += wave["jobs"]
    for row in rows:
        seconds, jobs = totals.get(row["phase"], (0.0, 1.0))
        row["networks"] = row["folds"]
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


def _is_table(settings: dict[str, Any]) -> bool:
    return bool(settings.get("task", {}).get("kind", "tabular") == "tabular")


def _nouns(settings: dict[str, Any]) -> tuple[str, str]:
    """What the trainings of a trial and the units of its budget are called, in the plural."""
    unit = settings.get("problem unit", "epoch")
    return ("folds" if _is_table(settings) else "runs"), f"{unit}s"


def csv_of(
    rows: list[dict[str, Any]], settings: dict[str, Any], timing: tuple[str, ...] = ()
) -> str:
    """One line per trial, its hyperparameters last.

    Args:
      rows: from `table_rows`.
      settings: of the study; a problem that is no table has `runs` and `units` in place of `folds`
        and `epochs`.
      timing: columns that are added.
    """
    names = list(dict.fromkeys(name for row in rows for name in row["config"]))
    titles = {} if _is_table(settings) else {"folds": "runs", "epochs": "units"}
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    first = [titles.get(name, name) for name in _FIRST]
    writer.writerow([*first, "reason", *timing, *names])
    for row in rows:
        fixed = [row[name] for name in (*_FIRST, "reason", *timing)]
        writer.writerow([*fixed, *(row["config"].get(name, "") for name in names)])
    return out.getvalue()


def _print_table(
    rows: list[dict[str, Any]],
    names: list[str],
    timing: tuple[str, ...],
    settings: dict[str, Any],
    members: list[dict[str, Any]],
) -> None:
    """A table with the hyperparameters that vary; those that do not stand below it."""
    from jaxopt_lab.cli.console import make_console, short
    from jaxopt_lab.cli.grid import Column, print_grid

    cells = {name: [short(row["config"].get(name, "")) for row in rows] for name in names}
    varying = [name for name in names if len(set(cells[name])) > 1 or len(rows) == 1]
    folds, epochs = _nouns(settings)
    titles = {**_SHORT, "score": metric_of(settings), "folds": folds, "epochs": epochs}
    columns = []
    for name in (*_FIRST, *timing):
        if name == "epochs" and len({row["epochs"] for row in rows if row["epochs"]}) < 2:
            continue
        title = titles.get(name, name)
        shown = [short(row[name]) for row in rows]
        right = name not in ("phase", "status")
        columns.append(Column(title.replace("_", "\n"), shown, right, _RANKS.get(name, 1)))
    columns += [Column(name.replace("_", "\n"), cells[name], True, 2) for name in varying]
    scores = [r["score"] for r in rows if r["status"] == Status.COMPLETED]
    sign = sign_of(settings.get("objective", {}).get("direction", ""))
    best = min(scores, key=lambda score: sign * score, default=None)
    styles = [
        "bold green"
        if row["status"] == Status.COMPLETED and row["score"] == best
        else _STYLES.get(row["status"], "")
        for row in rows
    ]
    console = make_console()
    left_out = print_grid(console, columns, styles)
    left_out_titles = [column.title.replace("\n", "_") for column in left_out]
    notes = _notes(rows, left_out_titles, folds, epochs)
    fixed = [f"{n} = {cells[n][0]}" for n in names if n not in varying]
    if fixed:
        notes.append(f"the same in all: {', '.join(fixed)}")
    notes += [
        f"trial {row['trial_id']}: {short(row['reason'])}"
        for row in rows
        if row["status"] == Status.INFEASIBLE
    ]
    notes += _ensemble(members)
    for note in notes:
        console.print(note, soft_wrap=not console.is_terminal)


def _print_workers(waves: list[dict[str, Any]]) -> None:
    """Who trained what, where other processes did: a line for each."""
    from jaxopt_lab.cli.console import duration, make_console, short

    console = make_console()
    for worker in dict.fromkeys(wave["worker"] for wave in waves):
        mine = [wave for wave in waves if wave["worker"] == worker]
        trials = {trial for wave in mine for trial, _, _ in wave["members"]}
        networks = sum(len(wave["members"]) for wave in mine)
        text = (
            f"{short(worker)}: {networks} networks of {len(trials)} trials in {len(mine)} waves, "
            f"{duration(sum(wave['seconds'] for wave in mine))}"
        )
        console.print(text, soft_wrap=not console.is_terminal, markup=False, highlight=False)


def _print_devices(settings: dict[str, Any], moves: list[dict[str, Any]]) -> None:
    """On which devices a study began and went on, where they changed: a line."""
    from jaxopt_lab.cli.console import make_console, short

    if not moves:
        return
    console = make_console()
    parts = [f"begun on {settings.get('num_devices')} {short(str(settings.get('device')))}"]
    parts += [f"{m['num_devices']} {short(m['device'])} from wave {m['first_wave']}" for m in moves]
    text = f"devices: {', then '.join(parts)}"
    console.print(text, soft_wrap=not console.is_terminal, markup=False, highlight=False)


def _ensemble(members: list[dict[str, Any]]) -> list[str]:
    """A line that says what the ensemble is made of, if there is one."""
    used = sorted((row for row in members if row["weight"] > 0), key=lambda r: -r["weight"])
    parts = [
        f"{_KINDS.get(row['name'], row['name'].replace('_', ' '))} {row['weight']:.0%}"
        for row in used
    ]
    return [f"ensemble: {', '.join(parts)}"] if parts else []


def _notes(rows: list[dict[str, Any]], left_out: list[str], folds: str, epochs: str) -> list[str]:
    """What a reader of the table must know."""
    found = []
    if left_out:
        found.append(f"not shown, for want of width: {', '.join(left_out)} (--csv has all)")
    whole = max((row["folds"] for row in rows), default=0)
    if any(row["score"] is not None and row["folds"] < whole for row in rows):
        found.append(f"scores over fewer than {whole} {folds} do not compare with the others")
    longest = max((row["epochs"] for row in rows), default=0)
    if any(row["score"] is not None and row["epochs"] < longest for row in rows):
        found.append(f"scores after fewer than {longest} {epochs} do not compare with the others")
    if any(row["standard_error"] for row in rows):
        alike = ", which differ alike for all trials" if folds == "folds" else ""
        found.append(f"±: standard error over the {folds}{alike}")
    return found
