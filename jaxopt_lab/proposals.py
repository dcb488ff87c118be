"""Proposals: what a sampler is told, and what it answers, on the way to and from the store."""

import math

import jax

from jaxopt_lab.search.base import History, Sampler
from jaxopt_lab.space import SearchSpace
from jaxopt_lab.store import Store
from jaxopt_lab.types import Status


def propose(
    store: Store, sampler: Sampler, space: SearchSpace, phase: str, seed: int, n: int
) -> int:
    """Write n proposals as pending trials, in one transaction.

    Args:
      store: of the study.
      sampler: sees the trials of the phase.
      space: where to search.
      phase: its name; enters the randomness.
      seed: of the study.
      n: how many.

    Returns:
      The number really proposed: a grid may be exhausted.
    """
    known = store.trials()
    mine = [t for t in known if t["phase"] == phase]
    values = [math.nan if t["score"] is None else t["score"] for t in mine]
    history = History.from_configs(
        space,
        [t["config"] for t in mine],
        values,
        infeasible=[t["status"] == Status.INFEASIBLE for t in mine],
        noise=[t["standard_error"] or 0.0 for t in mine],
    )
    key = jax.random.key(seed, impl="threefry2x32")
    key = jax.random.fold_in(key, sum(phase.encode()))
    configs = sampler.propose(key, space, history, n)
    with store.transaction():
        for i, config in enumerate(configs):
            store.add_trial(len(known) + i, phase, config)
    return len(configs)
