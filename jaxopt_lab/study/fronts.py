"""Several objectives at once: the trials that no other is better than in all of them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from jaxopt_lab.core.errors import UserError, did_you_mean
from jaxopt_lab.core.objective import DIRECTIONS, Objective, is_on_front, sign_of
from jaxopt_lab.core.status import Status
from jaxopt_lab.problems.contract import Programs, Training
from jaxopt_lab.spaces.values import number_in
from jaxopt_lab.storage.rows import Trial
from jaxopt_lab.storage.store import Store

if TYPE_CHECKING:
    import pandas as pd

#: Numbers that are kept of a trial: the weights of its network.
SIZE = "num_parameters"


def front(
    store: Store,
    training: Training,
    programs: Programs,
    objective: Objective,
    names: Sequence[Any],
    directions: Sequence[Any] | None,
) -> "pd.DataFrame":
    """The completed trials of a study that are on the front; see `Study.pareto`."""
    import pandas as pd

    names = [objective.metric if name == "score" else str(name) for name in names]
    if len(set(names)) < max(len(names), 2):
        raise UserError(
            f"a front is of two objectives or more, each once, got {', '.join(names) or 'none'}"
        )
    signs = _signs(names, directions, objective)
    trials = [t for t in store.trials() if t.status == Status.COMPLETED]
    columns = {name: _values(store, training, programs, objective, trials, name) for name in names}
    costs = np.array([sign * columns[name] for sign, name in zip(signs, names, strict=True)])
    chosen = np.flatnonzero(is_on_front(costs.T))
    chosen = chosen[np.argsort(costs[0][chosen], kind="stable")]
    rows = [
        {
            "trial_id": trials[i].trial_id,
            **{k: v for k, v in trials[i].config.items() if k not in columns},
            **{name: column[i] for name, column in columns.items()},
        }
        for i in chosen
    ]
    frame = pd.DataFrame(rows, columns=None if rows else ["trial_id", *names])
    first = ["trial_id", *names]
    frame = frame[[*first, *(name for name in frame.columns if name not in first)]]
    return frame.astype({SIZE: "int64"}) if SIZE in names else frame


def sizes(training: Training, programs: Programs, trials: Sequence[Trial]) -> list[int]:
    """Numbers that are kept of each trial: weights of its own network, without padding."""
    completed = [training.complete(trial.config) for trial in trials]
    return [training.num_parameters(c, programs.signature(c)) for c in completed]


def _signs(names: Sequence[str], directions: Sequence[Any] | None, objective: Objective) -> Any:
    if directions is None:
        own = {objective.metric: objective.direction}
        directions = [own.get(name, "minimize") for name in names]
    if isinstance(directions, str) or len(directions) != len(names):
        raise UserError(f"give a direction for each of {', '.join(names)}, got {directions!r}")
    for direction in directions:
        if direction not in DIRECTIONS:
            hint = did_you_mean(str(direction), DIRECTIONS)
            raise UserError(f"a direction is {' or '.join(DIRECTIONS)}, got {direction!r}.{hint}")
    return [sign_of(direction) for direction in directions]


def _values(
    store: Store,
    training: Training,
    programs: Programs,
    objective: Objective,
    trials: Sequence[Trial],
    name: str,
) -> Float[np.ndarray, " n"]:
    """One objective of all trials: score, size, metric, or a hyperparameter that is a number."""
    if name == objective.metric:
        scores = [np.nan if t.score is None else t.score for t in trials]
        return objective.sign * np.array(scores, np.float64)
    if name == SIZE:
        return np.array(sizes(training, programs, trials), np.float64)
    if any(name in t.config for t in trials):
        return np.array([number_in(t.config, name) for t in trials], np.float64)
    found = [_metric(store, t.trial_id, name, training.num_members) for t in trials]
    if trials and not np.isfinite(found).any():
        known = [objective.metric, SIZE, *_metrics(store, trials)]
        raise UserError(
            f"no objective {name!r}.{did_you_mean(name, known)} There are the metrics "
            f"{', '.join(dict.fromkeys(known))} and hyperparameters that are numbers"
        )
    return np.array(found, np.float64)


def _metric(store: Store, trial_id: int, name: str, num_members: int) -> float:
    """Mean over splits and seeds of a metric after the unit that counts; NaN if there is none."""
    found = [
        float(m.curves[name][m.best_unit])
        for m in store.member_arrays(trial_id)
        if m.replicate == 0 and m.fold < num_members and m.curves.get(name, np.zeros(0)).ndim == 1
        if m.best_unit < len(m.curves.get(name, ()))
    ]
    return float(np.mean(found)) if len(found) == num_members else np.nan


def _metrics(store: Store, trials: Sequence[Trial]) -> list[str]:
    members = store.member_arrays(trials[0].trial_id)
    return [name for m in members[:1] for name, curve in m.curves.items() if curve.ndim == 1]
