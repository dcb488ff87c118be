"""Runs from TensorBoard's event files, by its own reader."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxopt_lab.core.errors import UserError
from jaxopt_lab.stabilization.logged import names
from jaxopt_lab.stabilization.logged.runs import LoggedRun, Series

_MARK = "tfevents"
#: Folders of one training, as Keras' callback lays them out.
_PARTS = {"train": "train", "training": "train", "validation": "val", "valid": "val", "val": "val"}
_PARTS |= {"eval": "val", "test": "val"}


def event_files(path: Path) -> list[Path]:
    """The event files that a path names: itself, or those below a folder."""
    if path.is_dir():
        return sorted(p for p in path.rglob(f"*{_MARK}*") if p.is_file())
    return [path] if _MARK in path.name and path.is_file() else []


def runs_of_events(path: Path, files: Sequence[Path], given: Mapping[str, Any]) -> list[LoggedRun]:
    """One run per folder of events; `train/` and `validation/` beside each other are one.

    Args:
      path: as the user gave it.
      files: event files below it.
      given: tag by role, or None.

    Raises:
      UserError: if TensorBoard is not installed, or there is no loss.
    """
    tags: dict[Path, dict[str, Series]] = {}
    for folder in dict.fromkeys(file.parent for file in files):
        part = _PARTS.get(folder.name.casefold()) if folder != path else None
        run = folder.parent if part else folder
        where = path if path.is_file() else folder
        for tag, series in _scalars(where).items():
            tags.setdefault(run, {})[f"{part}/{tag}" if part else tag] = series
    found = []
    for run, mine in tags.items():
        name = run.name if run == path or path.is_file() else run.relative_to(path).as_posix()
        roles = names.assign(sorted(mine), given, name)
        curves = {role: mine[tag] for role, tag in roles.items()}
        found.append(LoggedRun(name, curves, roles, "step"))
    if not found:
        raise UserError(f"{path} holds event files without scalars")
    return found


def _scalars(path: Path) -> dict[str, Series]:
    """Tag -> numbers, of a file or of the files of one folder."""
    try:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
        from tensorboard.util.tensor_util import make_ndarray
    except ImportError:
        raise UserError(
            "TensorBoard's files are read by its own package: pip install 'jaxopt-lab[tensorboard]'"
        ) from None
    reader = EventAccumulator(str(path), size_guidance={"scalars": 0, "tensors": 0})
    reader.Reload()
    kinds = reader.Tags()
    found = {}
    for tag in kinds["scalars"]:
        events = reader.Scalars(tag)
        found[tag] = _series([(e.step, e.value) for e in events])
    for tag in kinds["tensors"]:
        metadata = reader.SummaryMetadata(tag)
        if metadata.plugin_data.plugin_name == "scalars":
            events = reader.Tensors(tag)
            found[tag] = _series([(e.step, make_ndarray(e.tensor_proto).item()) for e in events])
    return found


def _series(events: list[tuple[int, float]]) -> Series:
    """In order of steps; of a step that was logged twice, the last counts."""
    known = dict(sorted(events, key=lambda event: event[0]))
    return Series(np.asarray([*known], np.float64), np.asarray([*known.values()], np.float64))
