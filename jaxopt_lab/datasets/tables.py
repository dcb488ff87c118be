"""`load_table`: a file, a DataFrame or a built-in name -> a validated `Table`."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from jaxopt_lab.core.calls import checked_call
from jaxopt_lab.core.errors import UserError, did_you_mean
from jaxopt_lab.datasets.cleaning import CleanFeatures, clean_features, row_identifiers
from jaxopt_lab.datasets.columns import Kind, decide_columns
from jaxopt_lab.datasets.number_reading import NumberReading
from jaxopt_lab.datasets.reading import MAX_BYTES, RawTable, as_name, read_table
from jaxopt_lab.datasets.row_roles import equal_rows, read_roles, without_weightless
from jaxopt_lab.datasets.several_targets import (
    NumberTarget,
    decide_logs,
    names_of,
    read_targets,
)
from jaxopt_lab.datasets.target_column import Task, decide_log, is_skewed, read_target

MIN_ROWS = 10
"""Fewer rows than this cannot be split into training, validation and test."""


_PER_ROW = ("weights", "groups", "times", "equal")


@dataclass(frozen=True, eq=False)
class Table:
    """A table ready to be encoded: clean features and a target without gaps.

    Args:
      frame: feature columns only [n]: float64 (NaN missing), text (NaN missing) or datetime64.
      target: [n], float64 in the target's units, or int32 class indices into `classes`; of several
        targets float64 [n, T].
      target_name: the target's column name; of several targets their names, to be shown.
      task: "regression" or "classification".
      classes: the original labels in index order; () for regression.
      log_target: learn the natural logarithm of the target; False of several targets.
      kinds: column -> "numeric", "categorical" or "date", in the order of `frame`.
      date_formats: format of the date columns that were text, for `fit_encoder`.
      readings: how the numeric columns that were text are written, for `fit_encoder`.
      notes: what was repaired, one line each.
      source: short name for messages.
      sha256: of the file's bytes, or of the DataFrame's content.
      path: absolute path of the file, the built-in name, or "" for a DataFrame.
      weights: [n] float64 above 0, what each row counts in losses; None: all the same.
      groups: int [n], the same number for rows that splits keep together; None: each by itself.
      equal: int [n], the same number for rows of equal features, which splits keep together where
        there are neither groups nor times; None: no two are, or most.
      times: float64 [n]; validation and test rows are later than training rows; None: no order.
      roles: "group", "time" and "weights" -> the column they were read from.
      log_auto: whether nobody asked for the logarithm or against it.
      keep_split_column: whether the column of groups or times is a feature, too.
      targets: names and logarithms of several targets, in the order of the columns of `target`; ()
        where there is one.

    Raises:
      ValueError: if the parts do not fit each other.
    """

    frame: pd.DataFrame
    target: NDArray[Any]
    target_name: str
    task: Task
    classes: tuple[Any, ...] = ()
    log_target: bool = False
    kinds: Mapping[str, Kind] = field(default_factory=dict)
    date_formats: Mapping[str, str] = field(default_factory=dict)
    readings: Mapping[str, NumberReading] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    source: str = "the DataFrame"
    sha256: str = ""
    path: str = ""
    weights: NDArray[np.float64] | None = None
    groups: NDArray[np.intp] | None = None
    times: NDArray[np.float64] | None = None
    equal: NDArray[np.intp] | None = None
    roles: Mapping[str, str] = field(default_factory=dict)
    log_auto: bool = False
    keep_split_column: bool = False
    targets: tuple[NumberTarget, ...] = ()

    def __post_init__(self) -> None:
        if self.task not in ("regression", "classification"):
            raise ValueError(f"task must be regression or classification, got {self.task!r}")
        shape = (len(self.frame), *([len(self.targets)] if self.targets else []))
        if self.target.shape != shape:
            raise ValueError(f"target has shape {self.target.shape}, frame {len(self.frame)} rows")
        if list(self.kinds) != list(self.frame.columns):
            raise ValueError("kinds must name the columns of frame in order")
        expected = np.float64 if self.task == "regression" else np.int32
        if self.target.dtype != expected:
            raise ValueError(f"{self.task} target must be {expected}, got {self.target.dtype}")
        if (self.task == "classification") != bool(self.classes):
            raise ValueError("a classification table has classes, a regression table has none")
        if self.targets and (self.classes or self.log_target or len(self.targets) < 2):
            raise ValueError("several targets are numbers, with logarithms of their own")
        for name in _PER_ROW:
            values = getattr(self, name)
            if values is not None and values.shape != shape[:1]:
                raise ValueError(f"{name} have shape {values.shape}, not {shape[:1]}")
        if self.groups is not None and self.times is not None:
            raise ValueError("rows are split by groups or by times, not by both")

    def __len__(self) -> int:
        return len(self.frame)

    @property
    def num_classes(self) -> int:
        """Number of classes; 0 for regression."""
        return len(self.classes)

    def take(self, rows: ArrayLike) -> Table:
        """Give the table of some rows, in the order asked.

        Args:
          rows: row indices int [m], or a mask bool [n].

        Returns:
          The same table with m rows; classes, kinds and notes stay.
        """
        chosen = np.asarray(rows)
        frame = self.frame.iloc[chosen].reset_index(drop=True)
        known = {name: getattr(self, name) for name in _PER_ROW}
        taken: dict[str, Any] = {
            name: None if v is None else v[chosen] for name, v in known.items()
        }
        return replace(self, frame=frame, target=self.target[chosen], **taken)


@checked_call()
def load_table(
    source: str | os.PathLike[str] | pd.DataFrame,
    target: Any,
    *,
    task: str = "auto",
    log_target: Any = "auto",
    group: Any = None,
    time: Any = None,
    weights: Any = None,
    keep_split_column: bool = False,
    max_bytes: int | None = MAX_BYTES,
) -> Table:
    """Read a table and work out what its columns hold.

    Args:
      source: path to a CSV, CSV.gz, TSV or Parquet file, a DataFrame, or the name of a
        built-in table (`lucas_houses`).
      target: name of the column to predict, or a list of the names of several columns of numbers,
        which one network predicts together; the latter also as a text with commas between them.
      task: "regression", "classification" or "auto", which takes for classes text, booleans,
        and integers of at most 20 distinct values (and no more than half the rows).
      log_target: learn the logarithm: "yes", "no" or "auto", which does so for a positive
        target of skewness above 1. Of several targets it is decided for each, or a list says it.
      group: name of a column; rows with the same value in it are never on two sides of a split.
      time: name of a column of dates or numbers; validation and test rows are later in it than
        training rows. Not together with `group`.
      weights: name of a column of numbers of at least 0, what each row counts in the losses of
        training and validation; rows of weight 0 are left out. Never a feature.
      keep_split_column: whether the column of `group` or `time` is a feature, too.
      max_bytes: a file that holds more bytes, unpacked, is refused; None for no limit.

    Returns:
      The table; `notes` says in one line each what was repaired or left out.

    Raises:
      UserError: if the table cannot be used, in one line that says what to do.

    Examples:
      >>> frame = pd.DataFrame({"rooms": [1, 2, 3, 5, 4] * 4, "price": range(100, 120)})
      >>> load_table(frame, target="price", task="regression").kinds
      {'rooms': 'numeric'}
    """
    asked = _names_asked(target)
    roles = _asked(asked, group=group, time=time, weights=weights)
    raw = read_table(source, wanted=(*asked, *roles.values()), max_bytes=max_bytes)
    names = names_of(asked, raw.frame.columns)
    roles = _asked(names, group=group, time=time, weights=weights)
    for name in (*names, *roles.values()):
        if name not in raw.frame.columns:
            raise UserError(_no_column(name, raw))
    notes = [*raw.notes, *_duplicate_note(raw.frame)]
    columns = decide_columns(raw.frame)
    if len(names) == 1:
        column = read_target(raw.frame[names[0]], names[0], task, columns[names[0]])
        missing = "without a target"
    else:
        column = read_targets(raw.frame, names, task, columns)
        missing = "where a target is missing"
    notes += column.notes
    if not column.rows.all():
        notes.append(f"dropped {int((~column.rows).sum())} rows {missing}")
    of_rows = read_roles(raw.frame, columns, column.rows, roles)
    column, of_rows, weightless = without_weightless(column, of_rows)
    if weightless:
        notes.append(f"dropped {weightless} rows of weight 0")
    notes += [_ROLE_NOTES[role].format(name) for role, name in roles.items()]
    if len(column.values) < MIN_ROWS:
        raise UserError(
            f"{raw.source} has {len(column.values)} rows with a target;"
            f" at least {MIN_ROWS} are needed"
        )
    gone = [n for role, n in roles.items() if role == "weights" or not keep_split_column]
    features = raw.frame.drop(columns=[*names, *gone])
    numbering = row_identifiers(features, columns)
    if numbering and len(numbering) < features.shape[1]:
        notes.append(f"dropped columns that number the rows: {', '.join(numbering)}")
        features = features.drop(columns=numbering)
    clean = clean_features(features, columns, column.rows)
    notes += clean.notes
    if clean.frame.shape[1] == 0:
        why = "; ".join(clean.notes) or "there is no other column"
        beside = ", ".join(map(repr, names))
        raise UserError(f"{raw.source} has no usable feature columns beside {beside}: {why}")
    equal = None
    if not {"group", "time"} & set(roles):
        notes += _order_note(clean)
        equal, alike = equal_rows(clean.frame)
        notes += alike
    several: tuple[NumberTarget, ...] = ()
    if len(names) > 1:
        several = decide_logs(column, names, log_target)
    else:
        log = decide_log(column, names[0], log_target)
    logs = [t.name for t in several if t.log] if several else names if log else []
    if logs and log_target == "auto":
        notes += [f"learning log({name}): positive, and skewness above 1" for name in logs]
    return Table(
        frame=clean.frame,
        target=column.values,
        target_name=", ".join(names),
        task=column.task,
        classes=column.classes,
        log_target=bool(logs) and not several,
        kinds=clean.kinds,
        date_formats=clean.date_formats,
        readings=clean.readings,
        notes=tuple(" ".join(note.split()) for note in notes),
        source=raw.source,
        sha256=raw.sha256,
        path=raw.path,
        weights=of_rows.weights,
        groups=of_rows.groups,
        times=of_rows.times,
        equal=equal,
        log_auto=log_target == "auto",
        roles=roles,
        keep_split_column=keep_split_column,
        targets=several,
    )


def decided_on(table: Table, rows: ArrayLike) -> tuple[Table, list[str]]:
    """Decide again, on training rows, whether the logarithm of the target is learnt.

    Args:
      table: with all its rows.
      rows: training rows, int [m].

    Returns:
      The table, and a note if another decision is taken than on all rows.
    """
    if not table.log_auto or table.task != "regression":
        return table, []
    chosen = np.asarray(rows)
    if table.targets:
        known = zip(table.targets, table.target.T, strict=True)
        several = tuple(t._replace(log=_log_of(v, chosen, t.log)) for t, v in known)
        decided = zip(table.targets, several, strict=True)
        changed = [new for old, new in decided if new != old]
        return replace(table, targets=several), [_decision(t.name, t.log) for t in changed]
    log = _log_of(table.target, chosen, table.log_target)
    if log == table.log_target:
        return table, []
    return replace(table, log_target=log), [_decision(table.target_name, log)]


def _log_of(target: NDArray[Any], rows: NDArray[Any], before: bool) -> bool:
    """Whether the logarithm of a target [n] is learnt, by its training rows."""
    return is_skewed(target[rows]) if (target > 0.0).all() else before


def _decision(name: str, log: bool) -> str:
    how = f"log({name})" if log else f"{name} as it is"
    return f"learning {how}, by the skewness of training rows"


def table_of(
    features: pd.DataFrame,
    target: NDArray[Any],
    *,
    classes: tuple[Any, ...] = (),
    log_target: bool = False,
    weights: NDArray[np.float64] | None = None,
    names: Sequence[str] = (),
) -> Table:
    """Make a table of features and a target that are at hand.

    Columns that only number the rows are kept; those that are constant, empty, or text that differs
    in nearly every row are left out.

    Args:
      features: feature columns [n].
      target: [n] finite numbers, or int class indices into `classes`; [n, T] of several targets.
      classes: labels in index order; () for regression.
      log_target: learn the natural logarithm of the target.
      weights: [n], above 0.
      names: of several targets; y0, y1, ... if there are none.

    Raises:
      UserError: if no column is left.
    """
    raw = read_table(features)
    columns = decide_columns(raw.frame)
    clean = clean_features(raw.frame, columns, np.ones(len(raw.frame), dtype=bool))
    if clean.frame.shape[1] == 0:
        raise UserError(f"no feature column says anything: {'; '.join(clean.notes)}")
    values = np.asarray(target, np.int32 if classes else np.float64)
    digest = hashlib.sha256(raw.sha256.encode() + values.tobytes())
    digest.update(b"" if weights is None else np.asarray(weights, np.float64).tobytes())
    several: tuple[NumberTarget, ...] = ()
    if values.ndim == 2:
        names = names or [f"y{i}" for i in range(values.shape[1])]
        several = tuple(NumberTarget(name, log_target) for name in names)
    return Table(
        frame=clean.frame,
        target=values,
        target_name=", ".join(names) if several else "y",
        task="classification" if classes else "regression",
        classes=classes,
        log_target=log_target and not several,
        kinds=clean.kinds,
        date_formats=clean.date_formats,
        readings=clean.readings,
        notes=tuple(" ".join(note.split()) for note in clean.notes),
        sha256=digest.hexdigest(),
        weights=weights,
        targets=several,
    )


_ROLE_NOTES = {
    "group": "rows of the same {} stay on one side of every split",
    "time": "validation and test rows are later than training rows, by {}",
    "weights": "rows count by {} in training and validation",
}


def _names_asked(target: Any) -> list[str]:
    """The texts that name targets.

    Raises:
      UserError: if there is none.
    """
    if not isinstance(target, list):
        return [as_name(target)]
    if not target:
        raise UserError("no target: give the name of a column, or a list of names")
    return [as_name(name) for name in target]


def _asked(targets: Sequence[str], **columns: Any) -> dict[str, str]:
    """Role -> column, of those that were asked for.

    Raises:
      UserError: if they contradict each other.
    """
    roles = {role: as_name(name) for role, name in columns.items() if name is not None}
    if {"group", "time"} <= set(roles):
        raise UserError("give --group or --time, not both: rows are split by groups or by times")
    owners = dict.fromkeys(targets, "the target" if len(targets) == 1 else "a target")
    for role, name in roles.items():
        if name in owners:
            raise UserError(f"{role} column {name!r} is {owners[name]}; give another column")
        owners[name] = f"the {role} column"
    return roles


def _order_note(clean: CleanFeatures) -> list[str]:
    """Whether the rows are in the order of a date, which a random split does not respect."""
    for name, kind in clean.kinds.items():
        dates = clean.frame[name]
        if kind == "date" and (dates.is_monotonic_increasing or dates.is_monotonic_decreasing):
            return [
                f"rows are in the order of {name}: a random split may flatter; split by time "
                f"(--time {name}) to be tested on later rows"
            ]
    return []


def _no_column(target: str, raw: RawTable) -> str:
    columns = list(raw.frame.columns)
    names = ", ".join(columns)
    listed = f" Columns: {names}." if len(columns) <= 30 and len(names) <= 500 else ""
    hint = did_you_mean(target, columns)
    if not hint and raw.headless:
        return (
            f"{raw.source} has no column {target!r}: its first line looks like data, not like"
            f" column names ({names[:60]}); add a line of names"
        )
    return f"{raw.source} has no column {target!r}.{hint}{listed}"


def _duplicate_note(frame: pd.DataFrame) -> list[str]:
    """How many rows are in the table twice."""
    try:
        if frame.shape[1] <= 1000:
            number = int(frame.duplicated().sum())
        else:
            columns = [frame.iloc[:, k].tolist() for k in range(frame.shape[1])]
            number = len(frame) - len(set(zip(*columns, strict=True)))
    except TypeError:  # cells that are lists
        return []
    return [f"{number} duplicate rows are kept"] if number else []
