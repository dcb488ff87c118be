"""Proposals: what a sampler is told, and what it answers, on the way to and from the store."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from jaxopt_lab.core.errors import UserError, did_you_mean
from jaxopt_lab.core.keys import fold_in_name
from jaxopt_lab.core.types import Config
from jaxopt_lab.search.base import MAX_PROPOSALS, History, Sampler
from jaxopt_lab.search.stopping import ROUND_SIZE, StoppingRule
from jaxopt_lab.spaces.space import SearchSpace
from jaxopt_lab.storage.store import Store
from jaxopt_lab.study.histories import AGE, history_at_ages, history_of
from jaxopt_lab.study.lineages import first_values
from jaxopt_lab.study.trials import sign_of

#: The purpose of the keys of proposals: no trial has this number.
_PROPOSALS = 2**31 - 1
#: Proposals at a time of a sampler that does not see scores.
BLIND_ROUND = 2**15


def round_of(
    sampler: Sampler,
    round_size: int | None,
    stopping: StoppingRule | None,
    time_limit: float | None,
) -> int:
    """The most proposals at a time: few where something is to be learnt between them, or where
    they may be in vain.
    """
    if round_size is not None or stopping is not None:
        return min(round_size or ROUND_SIZE, MAX_PROPOSALS)
    return MAX_PROPOSALS if sampler.sees_scores or time_limit is not None else BLIND_ROUND


def why_outside(space: SearchSpace, config: Mapping[str, Any]) -> str | None:
    """What keeps a configuration out of a space; None if it lies inside."""
    return space.why_outside(config)


def enqueue(
    store: Store, space: SearchSpace, phase: str, configs: Sequence[Mapping[str, Any]]
) -> None:
    """Write configurations as pending trials of a phase, before a sampler proposes any.

    They count among the phase's trials. Those that it has already are left out, so that a script
    may be run again.

    Args:
      store: of the study.
      space: of the study.
      phase: a name, as for `Study.optimize`.
      configs: each with a value for every parameter that is active in it.

    Raises:
      UserError: for a configuration outside the space; then nothing is written.
    """
    if isinstance(configs, Mapping):
        raise UserError("enqueue takes a list of configurations: write study.enqueue([{...}])")
    known = store.trials()
    first = first_values(store)
    ready: list[Config] = [first.get(t.trial_id, t.config) for t in known if t.phase == phase]
    num_before = len(ready)
    for config in configs:
        names = [*space.parameters, *space.fixed]
        strange = [name for name in config if name not in names]
        if strange:
            hint = did_you_mean(strange[0], names)
            raise UserError(f"enqueue: {strange[0]!r} is not in the space.{hint}")
        reason = why_outside(space, config)
        if reason is not None:
            raise UserError(f"enqueue: {reason}")
        (whole,) = space.from_unit(space.to_unit([config]))
        exact = {name: config.get(name, value) for name, value in whole.items()}
        if exact not in ready:
            ready.append(exact)
    with store.transaction():
        for i, config in enumerate(ready[num_before:]):
            store.add_trial(len(known) + i, phase, config)


def propose(
    store: Store,
    sampler: Sampler,
    space: SearchSpace,
    phase: str,
    seed: int,
    n: int,
    outer: SearchSpace | None = None,
    budget: int | None = None,
) -> int:
    """Write n proposals as pending trials, in one transaction.

    Args:
      store: of the study.
      sampler: sees the trials of all phases that lie in the space.
      space: where to search.
      phase: its name; enters the randomness.
      seed: of the study.
      n: how many; at most `MAX_PROPOSALS` of a sampler that sees scores.
      outer: the space of the whole study: a sampler learns from its trials outside of `space` too.
      budget: units of a full training, where the sampler is to learn from shorter ones too.

    Returns:
      The number really proposed: a grid may be exhausted.
    """
    num_known = store.num_trials()
    if budget is None:
        history = history_of(store, space, outer)
    else:
        space, history = history_at_ages(store, space, outer or space, budget)
    configs = _proposals(sampler, _key(seed, phase), space, history, n)
    for config in configs if AGE in space.fixed else ():
        config.pop(AGE, None)
    with store.transaction():
        store.add_trials(num_known, phase, configs)
    return len(configs)


def _proposals(
    sampler: Sampler, key: jax.Array, space: SearchSpace, history: History, n: int
) -> list[Config]:
    """Up to n configurations, however many that is."""
    if sampler.propose_many is not None:
        return sampler.propose_many(key, space, history, n)
    configs: list[Config] = []
    while True:
        more = sampler.propose(key, space, history, min(n - len(configs), MAX_PROPOSALS))
        configs += more
        if not more or len(configs) >= n:
            return configs
        history = history.extended(space, more, np.full(len(more), np.nan))


def enough(store: Store, rule: StoppingRule | None, space: SearchSpace, phase: str) -> bool:
    """Whether a rule stops a phase; why is written as a decision of kind "enough"."""
    if rule is None:
        return False
    reason = rule.reason(space, history_of(store, space), sign_of(store))
    if reason is None:
        return False
    decision = {"phase": phase, "rule": rule.name, "reason": reason}
    if decision not in store.decisions("enough"):
        with store.transaction():
            store.decide("enough", decision)
    return True


def first_proposals(sampler: Sampler, space: SearchSpace, seed: int, n: int) -> list[Config]:
    """What a sampler would propose to a new study."""
    return sampler.propose(_key(seed, "search"), space, History.from_configs(space, [], []), n)


def _key(seed: int, phase: str) -> jax.Array:
    """By purpose first, then by the phase's name; trials fold their numbers into the same root."""
    key = jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), _PROPOSALS)
    return fold_in_name(key, phase)
