"""A study's trials, members and curves as arrays and tables."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from jaxopt_lab.core.errors import UserError, did_you_mean
from jaxopt_lab.core.types import PyTree
from jaxopt_lab.storage.rows import Member
from jaxopt_lab.storage.store import Store
from jaxopt_lab.study.records import WORKER

if TYPE_CHECKING:
    import pandas as pd


class Population(NamedTuple):
    """What is kept of the members of a study, as one pytree.

    Attributes:
      trial_ids: [n] int64.
      members: [n] int64, which split or seed each is.
      result: of `Trainable.result`, each leaf with a leading axis n.
    """

    trial_ids: np.ndarray
    members: np.ndarray
    result: PyTree


def metrics(store: Store, name: str, num_members: int, budget: int, whole_run: bool) -> np.ndarray:
    """One metric of all trials.

    Args:
      store: of the study.
      name: of the metric.
      num_members: trainings of each trial.
      budget: units of each.
      whole_run: whether a trial is one unit, whose axis is then left out.

    Returns:
      [trials, members, units, ...]; NaN (0 for whole numbers) where a member has none.

    Raises:
      UserError: if no member has such a metric, or its shape differs between programs.
    """
    found: dict[tuple[int, int], np.ndarray] = {}
    known: dict[str, None] = {}
    num_trials = store.num_trials()
    for trial_id in range(num_trials):
        for row in store.member_arrays(trial_id):
            known.update(dict.fromkeys(row.curves))
            if name in row.curves and row.replicate == 0 and row.fold < num_members:
                found[trial_id, row.fold] = row.curves[name]
    if not found:
        hint = did_you_mean(name, known)
        raise UserError(f"no metric {name!r} is stored.{hint} There are: {', '.join(known)}")
    shapes = {array.shape[1:] for array in found.values()}
    if len(shapes) > 1:
        raise UserError(
            f"metric {name!r} has other shapes in other programs: "
            f"{', '.join(map(str, sorted(shapes)))}; read it by trial from study.curves()"
        )
    sample = next(iter(found.values()))
    length = max(len(array) for array in found.values())
    fill: Any = np.nan if sample.dtype.kind in "fc" else 0
    shape = (num_trials, num_members, max(length, budget), *shapes.pop())
    out = np.full(shape, fill, sample.dtype)
    for (trial_id, member), array in found.items():
        out[trial_id, member, : len(array)] = array
    return out[:, :, 0] if whole_run else out


def curves(store: Store) -> "pd.DataFrame":
    """All scalar metrics, one row per trial, member, replicate and unit."""
    import pandas as pd

    parts = []
    for trial_id in range(store.num_trials()):
        for row in store.member_arrays(trial_id):
            scalars = {k: v for k, v in row.curves.items() if v.ndim == 1}
            length = max((len(v) for v in scalars.values()), default=0)
            same = {k: v for k, v in scalars.items() if len(v) == length}
            facts = {k: getattr(row, k) for k in ("trial_id", "fold", "replicate")}
            parts.append(pd.DataFrame({**facts, "unit": np.arange(length), **same}))
    if not parts:
        return pd.DataFrame(columns=["trial_id", "fold", "replicate", "unit"])
    return pd.concat(parts, ignore_index=True)


def members(store: Store, sign: int) -> "pd.DataFrame":
    """One row per trained member."""
    import pandas as pd

    rows = [
        member._replace(score=None if member.score is None else sign * member.score)
        for member in store.members()
    ]
    return pd.DataFrame(rows, columns=list(Member._fields))


def workers(store: Store) -> "pd.DataFrame":
    """Who trained what, one row per training."""
    import pandas as pd

    rows = [
        (wave["worker"], *member) for wave in store.decisions(WORKER) for member in wave["members"]
    ]
    return pd.DataFrame(rows, columns=["worker", "trial_id", "fold", "replicate"])


def stack(kept: Sequence[tuple[int, int, PyTree]]) -> Population:
    """Results of members as one pytree.

    Raises:
      UserError: if there are none, or they are of several shapes.
    """
    if not kept:
        raise UserError("no result is kept; train first, or keep more: Study(..., keep=N)")
    shapes = {
        str(jax.tree.map(lambda x: (np.shape(x), np.asarray(x).dtype.name), result))
        for _, _, result in kept
    }
    if len(shapes) > 1:
        raise UserError(
            f"the kept results are of {len(shapes)} shapes; choose by static hyperparameters: "
            "study.population(name=value)"
        )
    result = jax.tree.map(lambda *leaves: np.stack(leaves), *(result for _, _, result in kept))
    ids, folds = (np.asarray([entry[i] for entry in kept], np.int64) for i in (0, 1))
    return Population(ids, folds, result)
