"""From what a person has - a file, a folder, a table, a Keras history - to runs."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from jaxopt_lab.core.errors import UserError
from jaxopt_lab.datasets.compressed import MAX_BYTES
from jaxopt_lab.datasets.reading import read_table
from jaxopt_lab.stabilization.logged.runs import LoggedRun, runs_of_frame
from jaxopt_lab.stabilization.logged.tensorboard import event_files, runs_of_events

#: What Lightning's `CSVLogger` calls its file.
_METRICS = "metrics.csv"


def read_runs(source: Any, given: Mapping[str, Any]) -> list[LoggedRun]:
    """All runs of a source, each with a name of its own.

    Args:
      source: a DataFrame; a mapping of column -> numbers (`History.history` of Keras is one) or of
        run -> table; a CSV file; a folder of TensorBoard or of Lightning; or a list of such.
      given: column by role, as the user named it, or None.

    Raises:
      UserError: for what cannot be read, or has no loss.
    """
    found = list(_read(source, "run", given))
    names: dict[str, int] = {}
    for run in found:
        names[run.name] = names.get(run.name, 0) + 1
    if len(names) == len(found):
        return found
    return [
        LoggedRun(f"{i + 1}: {run.name}", run.series, run.columns, run.unit, run.notes)
        for i, run in enumerate(found)
    ]


def _read(source: Any, name: str, given: Mapping[str, Any]) -> Iterator[LoggedRun]:
    if isinstance(source, pd.DataFrame):
        yield from runs_of_frame(source, name, given, "the DataFrame")
    elif isinstance(source, Mapping):
        yield from _of_mapping(source, name, given)
    elif isinstance(source, str | Path):
        yield from _of_path(str(source), given)
    elif isinstance(source, Sequence) and source:
        for part in source:
            yield from _read(part, name, given)
    else:
        raise UserError(
            "diagnose_curves takes a DataFrame, a mapping of names to numbers or of runs to "
            f"tables, or the path of a CSV file or TensorBoard folder, got {type(source).__name__}"
        )


def _of_mapping(
    source: Mapping[Any, Any], name: str, given: Mapping[str, Any]
) -> Iterator[LoggedRun]:
    if not source:
        raise UserError("the mapping is empty: give name -> numbers, such as Keras' history")
    if all(isinstance(v, Mapping | pd.DataFrame) for v in source.values()):
        for label, table in source.items():
            yield from _read(table, str(label), given)
        return
    columns = {}
    for label, values in source.items():
        numbers = np.asarray(values)
        if numbers.ndim != 1 or numbers.dtype.kind not in "biuf":
            raise UserError(f"{label} must be a list of numbers, one per epoch or step")
        columns[str(label)] = numbers.astype(np.float64)
    lengths = {label: len(values) for label, values in columns.items()}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{label} {n}" for label, n in lengths.items())
        raise UserError(f"lists must be of one length, NaN where nothing was measured: {shown}")
    yield from runs_of_frame(pd.DataFrame(columns), name, given, "the mapping")


def _of_path(source: str, given: Mapping[str, Any]) -> Iterator[LoggedRun]:
    path = Path(source).expanduser()
    events = event_files(path)
    if events:
        yield from runs_of_events(path, events, given)
        return
    if path.is_dir():
        if not (path / _METRICS).exists():
            raise UserError(f"{source} holds neither TensorBoard's event files nor {_METRICS}")
        path = path / _METRICS
    wanted = [str(name) for name in given.values() if name is not None]
    raw = read_table(str(path), wanted=wanted, max_bytes=MAX_BYTES)
    name = path.parent.name if path.name == _METRICS else path.name.split(".")[0]
    yield from runs_of_frame(raw.frame, name or raw.source, given, raw.source)
