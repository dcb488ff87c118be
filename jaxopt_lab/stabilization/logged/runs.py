"""One training as a log has it: series of numbers, each with its own positions."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float

from jaxopt_lab.core.errors import UserError
from jaxopt_lab.datasets.reading import check_names
from jaxopt_lab.stabilization.logged import names

#: Cells that say that nothing was measured; `nan` is a number that was.
_MISSING = {"", "na", "n/a", "none", "null", "-"}


class Series(NamedTuple):
    """Numbers by position.

    Attributes:
      at: epoch, step, or number of the row; increasing.
      values: one number each; NaN and infinite ones are a training's that diverged.
    """

    at: Float[np.ndarray, " t"]
    values: Float[np.ndarray, " t"]


@dataclass(frozen=True, eq=False)
class LoggedRun:
    """One training.

    Attributes:
      name: of the run, or of its file.
      series: role of `names.ROLES` -> numbers.
      columns: role -> name in the log.
      unit: what positions count: "epoch", "step", "row".
      notes: what was unusual, a line each.
    """

    name: str
    series: Mapping[str, Series]
    columns: Mapping[str, str]
    unit: str
    notes: tuple[str, ...] = field(default=())

    @property
    def main(self) -> str:
        """The role of the curve that is judged: validation, or training where there is no other."""
        return "loss" if "loss" in self.series else "train_loss"

    def of_training(self, note: str) -> "LoggedRun":
        """The same without its validation loss, and a further note."""
        rest = {role: series for role, series in self.series.items() if role != "loss"}
        return replace(self, series=rest, notes=(*self.notes, note))


def runs_of_frame(
    frame: pd.DataFrame, name: str, given: Mapping[str, Any], source: str
) -> list[LoggedRun]:
    """The runs in a table: one, or one for each value of a column, or for each fresh start.

    Args:
      frame: as read, cells may be text.
      name: of the run where there is one.
      given: names of columns by role, `step` and `run` among them, or None.
      source: for messages.

    Raises:
      UserError: for columns that are not there, text among numbers, and tables without a loss.
    """
    columns = [str(c) for c in frame.columns]
    check_names(columns, source)
    frame = frame.set_axis(pd.Index(columns, dtype=object), axis="columns")
    if not len(frame):
        raise UserError(f"{source} has no rows")
    roles = names.assign(columns, given, source)
    main = roles.get("loss", roles.get("train_loss"))
    taken = {*roles.values()}
    step, by = given.get("step"), given.get("run")
    if step is not None:
        positions = [names.column(step, columns, source)]
    else:
        positions = [c for c in names.first_of(names.POSITIONS, columns) if c not in taken]
    runs = names.first_of(names.RUNS, columns) if by is None else []
    split = names.column(by, columns, source) if by is not None else next(iter(runs), None)
    numbers = {c: _numbers(frame[c], c, source) for c in {*taken, *positions}}
    # A blank cell at the end is a run that goes on; a number that is NaN is one that diverged.
    blanks = {c: 1 if isinstance(frame[c].dtype, np.dtype) else 2 for c in taken}
    blanks |= {c: 2 for c in taken if frame[c].dtype == object}
    if split is None:
        parts = [(name, np.arange(len(frame)))]
    else:
        labels = np.asarray([str(label) for label in frame[split].tolist()], dtype=object)
        parts = [(f"{v}", np.flatnonzero(labels == v)) for v in dict.fromkeys(labels.tolist())]
    found = []
    for label, rows in parts:
        mine = {c: v[rows] for c, v in numbers.items()}
        for part, (number, piece) in enumerate(_starts(mine, positions, str(main))):
            called = label if number == 1 else f"{label} (part {part + 1})"
            cut = {c: v[piece] for c, v in mine.items()}
            found.append(_run(called, cut, roles, positions, number, blanks))
    return found


def _numbers(cells: pd.Series, name: str, source: str) -> np.ndarray:
    """Float64, NaN where nothing was measured. What is written as `nan` was measured: it becomes
    infinite, so that the two do not look alike.
    """
    if pd.api.types.is_numeric_dtype(cells.dtype):
        return cells.to_numpy(np.float64, na_value=np.nan)
    found = np.empty(len(cells))
    for i, cell in enumerate(cells.tolist()):
        text = "" if cell is None else str(cell).strip()
        if text.casefold() in _MISSING:
            found[i] = np.nan
            continue
        try:
            value = float(text if "." in text else text.replace(",", "."))
        except ValueError:
            raise UserError(
                f"{source}: column {name}, row {i + 1}: {text[:40]!r} is no number"
            ) from None
        found[i] = np.inf if np.isnan(value) else value
    return found


def _starts(
    numbers: Mapping[str, np.ndarray], positions: list[str], main: str
) -> list[tuple[int, np.ndarray]]:
    """Rows of each training that a file holds one after the other, with how many there are: a new
    one begins where all positions go back.
    """
    whole = np.arange(len(numbers[main]))
    filled = np.isfinite(numbers[main])
    known = [numbers[p] for p in positions if np.isfinite(numbers[p][filled]).all()]
    if not known or filled.sum() < 2:
        return [(1, whole)]
    rows = np.flatnonzero(filled)
    back = np.all([np.diff(p[rows]) < 0 for p in known], axis=0)
    pieces = np.split(whole, rows[1:][back])
    return [(len(pieces), piece) for piece in pieces]


def _run(
    name: str,
    numbers: Mapping[str, np.ndarray],
    roles: Mapping[str, str],
    positions: list[str],
    num_parts: int,
    blanks: Mapping[str, int],
) -> LoggedRun:
    filled = {role: _known(numbers[c], blanks[c]) for role, c in roles.items()}
    main = filled.get("loss", filled.get("train_loss", np.zeros(0, bool)))
    where, unit = np.arange(1.0, len(main) + 1), "row"
    for candidate in positions:
        at = numbers[candidate]
        if np.isfinite(at[main]).all() and (np.diff(at[main]) > 0).all():
            where = np.where(np.isfinite(at), at, -np.inf)
            # A blank position is that of the row before it.
            where = np.maximum.accumulate(where)
            unit = "epoch" if "epoch" in candidate.casefold() else "step"
            break
    notes = []
    if num_parts > 1:
        notes.append(f"the file holds {num_parts} trainings one after the other: each is a run")
    if unit == "row" and positions:
        notes.append(f"{positions[0]} does not increase from value to value: rows are counted")
    series = {r: Series(where[k], numbers[roles[r]][k]) for r, k in filled.items() if k.any()}
    if not {"loss", "train_loss"} & series.keys():
        lost = roles.get("loss", roles.get("train_loss"))
        raise UserError(f"{name}: {lost} has no numbers: it diverged at once, or was never logged")
    return LoggedRun(name, series, dict(roles), unit, tuple(notes))


def _known(values: np.ndarray, least: int) -> np.ndarray:
    """Rows in which a column has a value. Losses of several clocks leave gaps, NaN in a table of
    numbers; where those go on for longer than any gap before, and for `least` rows or more, the
    training has diverged.
    """
    known = ~np.isnan(values)
    rows = np.flatnonzero(known)
    if len(rows):
        widest = max([int(rows[0]), *(np.diff(rows) - 1).tolist()])
        if len(values) - 1 - rows[-1] >= max(widest + 1, least):
            known[rows[-1] + 1 :: widest + 1] = True
    return known
