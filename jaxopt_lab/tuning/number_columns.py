"""How the numbers of a table are encoded where nobody says, and the notes on that."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxopt_lab.core.errors import MachineError, UserError
from jaxopt_lab.datasets import FEWER_BINS, Table, default_num_bins, find_encoding, find_num_bins
from jaxopt_lab.storage.store import Store
from jaxopt_lab.tuning.settings import AUTO

BINS = "piecewise_linear"


def begun_with(directory: str | Path | None) -> dict[str, Any]:
    """What describes the task of the study in a directory; empty where there is none to read."""
    if directory is None:
        return {}
    try:
        store = Store.open(directory, read_only=True)
    except (UserError, MachineError):  # whoever opens it next tells why
        return {}
    try:
        return dict(store.settings().get("task", {}))
    finally:
        store.close()


def number_encoding(table: Table, asked: Any, num_bins: Any, notes: list[str]) -> Any:
    """How numbers are encoded.

    Args:
      table: rows that are no test rows.
      asked: an encoding, or `AUTO`.
      num_bins: that were asked for, which says that there are to be bins.
      notes: receives a line where there are none.
    """
    if asked != AUTO:
        return asked
    found = find_encoding(table) if num_bins is None else BINS
    if found != BINS:
        notes.append(
            "numbers are taken as they are: encoded by bins they are more columns than there are "
            f"rows, and tell less (--numeric {BINS}: bins all the same)"
        )
    return found


def number_of_bins(
    table: Table, asked: Any, num_bins: Any, begun: Mapping[str, Any], notes: list[str]
) -> int | None:
    """How many bins a column of numbers gets; None for the number that follows from the rows.

    A study goes on with those that it began with, also where an earlier version began it.

    Args:
      table: rows that are no test rows.
      asked: an encoding, or `AUTO`; with any other nothing is decided here.
      num_bins: that were asked for.
      begun: of `begun_with`.
      notes: receives a line where they are fewer than usual.
    """
    usual = default_num_bins(len(table))
    if num_bins is not None or asked != AUTO:
        return num_bins  # type: ignore[no-any-return]
    before = begun.get("num_bins")
    if begun.get("numeric") == BINS and before in (usual, *FEWER_BINS):
        found = None if before == usual else before
    else:
        found = find_num_bins(table)
    if found is not None:
        notes.append(
            f"a column of numbers gets up to {found} bins instead of {usual}, which tell more of "
            "rows that they were not fitted to (--bins: others)"
        )
    return found
