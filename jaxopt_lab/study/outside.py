"""Trials that are, or were, trained elsewhere and live in the same study."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxopt_lab.core.errors import UserError
from jaxopt_lab.core.status import Config, Status
from jaxopt_lab.search.base import Sampler
from jaxopt_lab.spaces.space import SearchSpace
from jaxopt_lab.storage.store import Store
from jaxopt_lab.study.proposals import propose, why_outside

#: The phase of such trials.
PHASE = "asked"
#: The phase of those that somebody else's study had finished.
IMPORTED = "imported"


class Asked(NamedTuple):
    """A trial to be trained elsewhere.

    Attributes:
      trial_id: its number in the study.
      config: its hyperparameters.
    """

    trial_id: int
    config: Config


def ask(store: Store, sampler: Sampler, space: SearchSpace, seed: int, n: int) -> list[Asked]:
    """Propose n trials that somebody else trains; `tell` what they came to.

    Raises:
      UserError: if n is below 1.
    """
    if n < 1:
        raise UserError(f"ask for at least 1 trial, got {n}")
    first = store.num_trials()
    propose(store, sampler, space, PHASE, seed, n)
    rows = store.trials(PHASE, Status.PENDING)
    return [Asked(t.trial_id, t.config) for t in rows if t.trial_id >= first]


def tell(
    store: Store,
    space: SearchSpace,
    configs: Any,
    values: Any,
    sign: int,
) -> list[int]:
    """Write what trials came to that were trained elsewhere.

    Args:
      store: of the study.
      space: of the study.
      configs: trials from `ask`, or configurations of the space.
      values: of the objective, one each; None or NaN for a trial that failed.
      sign: of the objective.

    Returns:
      The numbers of the trials.

    Raises:
      UserError: for a configuration outside the space, or lists of different lengths; then nothing
        is written.
    """
    for what, given in (("trials", configs), ("values", values)):
        if isinstance(given, str | Mapping) or not hasattr(given, "__len__"):
            raise UserError(
                f"tell takes a list of trials and a list of values, got {what} {given!r:.60}"
            )
    if len(configs) != len(values):
        raise UserError(f"tell: {len(configs)} trials but {len(values)} values")
    waiting = {t.trial_id: t.config for t in store.trials(PHASE, Status.PENDING)}
    free, number = dict(waiting), store.num_trials()
    plan: list[tuple[int, Config, float | None, bool]] = []
    for given, value in zip(configs, values, strict=True):
        asked = given if isinstance(given, Asked) else None
        trial_id = asked.trial_id if asked else None
        config: Any = asked.config if asked else given
        reason = why_outside(space, config)
        if reason is not None:
            raise UserError(f"tell: {reason}")
        if asked is not None and trial_id not in waiting:
            raise UserError(f"tell: trial {trial_id} is not one that was asked for and is pending")
        if trial_id is None:
            trial_id = next((i for i, known in free.items() if known == dict(config)), None)
        new = trial_id is None
        if trial_id is None:
            trial_id, number = number, number + 1
        free.pop(trial_id, None)
        plan.append((trial_id, dict(config), _number(value), new))
    with store.transaction():
        for trial_id, config, value, new in plan:
            if new:
                store.add_trial(trial_id, PHASE, config)
            if value is None or not math.isfinite(value):
                store.set_trial(trial_id, Status.INFEASIBLE, reason=f"told as {value}")
            else:
                store.set_trial(trial_id, Status.COMPLETED, sign * float(value), None)
    return [trial_id for trial_id, *_ in plan]


def _number(value: Any) -> float | None:
    """A value that was told; None stands for a trial that has none."""
    if value is None:
        return None
    number: Any = np.asarray(value)
    if number.size != 1 or number.dtype.kind not in "biuf":
        raise UserError(
            f"tell: a value must be a number, or None for a failed trial, got {value!r:.60}"
        )
    return float(number.reshape(()))


class Finished(NamedTuple):
    """A trial of somebody else's study.

    Attributes:
      number: by which that study knows it.
      config: its hyperparameters, in the space.
      status: completed, stopped or infeasible.
      value: of the objective as the problem has it; None without one.
      reason: why it is not completed; else empty.
    """

    number: int
    config: Config
    status: Status
    value: float | None
    reason: str


def adopt(store: Store, trials: Sequence[Finished], sign: int) -> int:
    """Write trials of somebody else's study; those that it has already are left out.

    Args:
      store: of the study.
      trials: finished ones.
      sign: of the objective.

    Returns:
      How many are new.
    """
    known = set(store.decisions(IMPORTED))
    new = [trial for trial in trials if trial.number not in known]
    first = store.num_trials()
    with store.transaction():
        for i, trial in enumerate(new, first):
            score = None if trial.value is None else sign * trial.value
            store.add_trial(i, IMPORTED, trial.config)
            store.set_trial(i, trial.status, score, None, trial.reason)
            store.decide(IMPORTED, trial.number)
    return len(new)
