"""By what other tools know a study again: its name, its number, its curves."""

import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxopt_lab.core.status import Status
from jaxopt_lab.storage.rows import TrainedMember, Trial
from jaxopt_lab.study.trials import TIME_LIMIT


class Identity(NamedTuple):
    """What a study is called elsewhere.

    Attributes:
      key: of this study and no other, the same in every process that opens it.
      name: for people: of its directory.
    """

    key: str
    name: str


def identity_of(study: Any) -> Identity:
    """The identity of a study, stored in it when it is first asked for."""
    key = study.recall("known elsewhere as", lambda: secrets.token_hex(4))
    directory = study.directory
    return Identity(key, "study" if directory is None else Path(directory).resolve().name)


def is_over(row: Trial) -> bool:
    """Whether a trial has ended for good: one that a time limit stopped may go on."""
    return row.status != Status.PENDING and row.reason != TIME_LIMIT


def objective_curve(curves: Mapping[str, np.ndarray], metric: str) -> np.ndarray:
    """The curve by which trials are compared while they train: the objective's, else the loss's.

    Args:
      curves: of a trial, [units] each.
      metric: name of the objective.

    Returns:
      [units]; empty where there is none.
    """
    return np.asarray(curves.get(metric, curves.get("loss", ())), np.float64)


def mean_curves(members: Iterable[TrainedMember], num_members: int) -> dict[str, np.ndarray]:
    """Scalar metrics of a trial, averaged over its splits and seeds, reruns and refits apart.

    Args:
      members: of one trial.
      num_members: splits and seeds of each trial.

    Returns:
      name -> [units] float64: at each unit the mean of the members that have come so far.
    """
    found: dict[str, list[np.ndarray]] = {}
    for member in members:
        if member.replicate == 0 and member.fold < num_members:
            for name, values in member.curves.items():
                if values.ndim == 1 and len(values) and values.dtype.kind in "iufb":
                    found.setdefault(name, []).append(np.asarray(values, np.float64))
    return {name: _mean(curves) for name, curves in found.items()}


def _mean(curves: list[np.ndarray]) -> np.ndarray:
    longest = max(len(curve) for curve in curves)
    total, count = np.zeros(longest), np.zeros(longest)
    for curve in curves:
        total[: len(curve)] += curve
        count[: len(curve)] += 1
    return total / count


def thinned_units(num_units: int, most: int) -> np.ndarray:
    """Indices of at most `most` units, evenly spaced, the first and the last among them."""
    return np.unique(np.linspace(0, num_units - 1, min(num_units, most)).round().astype(int))
