"""What a scheduler stopped: how far each trial came, bracket by bracket."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxopt_lab.core.status import Status
from jaxopt_lab.report import words
from jaxopt_lab.report.contents import Contents
from jaxopt_lab.report.figures import Color, Figure, axis, label, line, paint, points

#: Pixels of a trial's line, and bounds of the chart's height.
_ROW, _LEAST, _MOST = 9, 240, 900
_KINDS: tuple[tuple[Status, str, str, str], ...] = (
    (Status.COMPLETED, "trained to the end", "good", "circle"),
    (Status.STOPPED, "stopped", "muted", "circle-open"),
    (Status.INFEASIBLE, "infeasible (diverged)", "bad", "x"),
    (Status.PENDING, "not finished", "second", "circle-open"),
)


class Rung(NamedTuple):
    """One comparison.

    Attributes:
      bracket: index in `Contents.brackets`.
      work: units on all members that a trial has behind it.
      losses: trial_id -> what is minimised; None if it diverged.
      promoted: who went on.
    """

    bracket: int
    work: int
    losses: dict[int, float | None]
    promoted: list[int]


def rungs_of(contents: Contents) -> list[Rung]:
    """All comparisons whose bracket is known, in the order in which they were made."""
    folds = int(contents.settings.get("num_folds", 1))
    found = []
    for row in contents.rungs:
        mine = [i for i, b in enumerate(contents.brackets) if b["phase"] == row["phase"]]
        if row["bracket"] >= len(mine):
            continue
        bracket = mine[row["bracket"]]
        rungs = contents.brackets[bracket]["rungs"]
        if row["rung"] < len(rungs):
            _, epochs, on = rungs[row["rung"]]
            work = epochs * (folds if on is None else on)
            losses = dict(zip(row["trials"], row["losses"], strict=False))
            found.append(Rung(bracket, work, losses, row["promoted"]))
    return found


def work_of(contents: Contents) -> dict[int, int]:
    """trial_id -> units on all members that it trained, as far as comparisons tell."""
    full = full_work(contents)
    came: dict[int, int] = {}
    for rung in rungs_of(contents):
        for trial_id, loss in rung.losses.items():
            if trial_id not in rung.promoted or loss is None:
                came.setdefault(trial_id, rung.work)
    ids = [i for bracket in contents.brackets for i in bracket["trials"]]
    return {i: came.get(i, full) for i in ids}


def full_work(contents: Contents) -> int:
    """Units on all members of a trial that nothing stops."""
    settings = contents.settings
    return int(settings.get("budget", 1)) * int(settings.get("num_folds", 1))


def lengths(contents: Contents) -> Figure | None:
    """A line per trial, as long as it trained; None if no scheduler compared any."""
    if not contents.rungs or not contents.brackets:
        return None
    work = work_of(contents)
    trials = {t["trial_id"]: t for t in contents.drawn}
    traces: dict[Status, tuple[list[Any], list[Any], list[Any]]] = {
        kind: ([], [], []) for kind, *_ in _KINDS
    }
    ticks, names, row = [], [], 0
    for number, bracket in enumerate(contents.brackets):
        mine = [trials[i] for i in bracket["trials"] if i in trials]
        mine.sort(key=lambda t: (-work[t["trial_id"]], _order(t["score"]), t["trial_id"]))
        for trial in mine:
            x, y, who = traces[trial["status"]]
            x.append(work[trial["trial_id"]])
            y.append(row)
            who.append(label(trial))
            row += 1
        if mine:
            ticks.append(row - (len(mine) + 1) / 2)
            names.append(f"bracket {number + 1}")
            row += 1
    data = []
    for kind, name, color, symbol in _KINDS:
        x, y, who = traces[kind]
        if x:
            data += _drawn(x, y, who, name, paint(color), symbol)
    unit = contents.unit
    together = " on all members together" if contents.settings.get("num_folds", 1) > 1 else ""
    layout = {
        "xaxis": axis(f"{unit[:1].upper()}{unit[1:]}s trained{together}", rangemode="tozero"),
        "yaxis": {"tickvals": ticks, "ticktext": names, "autorange": "reversed", "zeroline": False},
    }
    return Figure("rungs", data, layout, int(np.clip(_ROW * row + 90, _LEAST, _MOST)))


def _drawn(
    x: Sequence[Any], y: Sequence[Any], who: Sequence[Any], name: str, color: Color, symbol: str
) -> list[dict[str, Any]]:
    """Lines from nothing to where trials came, and what one points at."""
    starts: list[Any] = [value for end in x for value in (0, end, None)]
    rows: list[Any] = [value for at in y for value in (at, at, None)]
    marker = {"symbol": symbol, "size": 6}
    return [
        line(starts, rows, color, line={"width": 3}, hoverinfo="skip", showlegend=False),
        points(x, y, color, name=name, marker=marker, text=who, hoverinfo="text"),
    ]


def _order(score: float | None) -> float:
    return float("inf") if score is None else score


def saved(contents: Contents) -> str:
    """What stopping trials saved, in a sentence."""
    work, full = work_of(contents), full_work(contents)
    spent, whole = sum(work.values()), full * len(work)
    unit = contents.unit
    share = 1.0 - spent / whole if whole else 0.0
    return (
        f"{len(work):,} trials took {spent:,} of the {whole:,} {unit}s that training all of them "
        f"in full would have taken: {share:.0%} saved."
    )


def comparison_rows(contents: Contents) -> list[tuple[str, ...]]:
    """Cells of a table: bracket, units, compared, promoted, best, median, worst that went on."""
    rows = []
    for rung in sorted(rungs_of(contents), key=lambda r: (r.bracket, r.work)):
        known = [loss for loss in rung.losses.values() if loss is not None]
        passed = [rung.losses.get(i) for i in rung.promoted]
        gone = [loss for loss in passed if loss is not None]
        shown = [
            words.number(contents.shown(float(value)) if many else None)
            for value, many in (
                (min(known, default=0.0), known),
                (np.median(known) if known else 0.0, known),
                (max(gone, default=0.0), gone),
            )
        ]
        counts = (f"{rung.work:,}", str(len(rung.losses)), str(len(rung.promoted)))
        rows.append((str(rung.bracket + 1), *counts, *shown))
    return rows
