"""Train trials of a problem as an executor does: `vmap` over trials, a loop over units."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lab.core.hparams import Hparams
from jaxopt_lab.core.trainable import Shared
from jaxopt_lab.problems.general import GeneralProblem


def hparams_of(**values: Any) -> Hparams:
    """Traced hyperparameters of several trials: lists of one length."""
    return Hparams({name: jnp.asarray(list_, jnp.float32) for name, list_ in values.items()})


def shared_of(problem: GeneralProblem, unit: int, budget: int, member: int = 0) -> Shared:
    """What the trials of a cohort share in a unit."""
    key = jax.random.fold_in(jax.random.key(7), unit)
    numbers = [jnp.asarray(number, jnp.int32) for number in (unit, budget, member)]
    data = jax.tree.map(jnp.asarray, problem.data)
    return Shared(key, *numbers, data)


def init(problem: GeneralProblem, hparams: Hparams, seed: int = 0, **keywords: Any) -> Any:
    """States of all trials."""
    trainable = problem.build(**keywords)
    num_trials = len(jax.tree.leaves(hparams)[0])
    keys = jax.random.split(jax.random.key(seed), num_trials)
    return jax.jit(jax.vmap(trainable.init))(keys, hparams)


def train(
    problem: GeneralProblem,
    hparams: Hparams,
    num_units: int = 2,
    member: int = 0,
    state: Any = None,
    **keywords: Any,
) -> tuple[Any, Mapping[str, np.ndarray]]:
    """States at the end, and name -> [trials, units, ...]."""
    trainable = problem.build(**keywords)
    if state is None:
        state = init(problem, hparams, **keywords)
    step = jax.jit(jax.vmap(trainable.step, (0, 0, None)))
    curves = []
    for unit in range(num_units):
        state, metrics = step(state, hparams, shared_of(problem, unit, num_units, member))
        curves.append(metrics)
    return state, {name: np.stack([c[name] for c in curves], 1) for name in curves[0]}


def trace(problem: GeneralProblem, hparams: Hparams) -> None:
    """All that happens before anything is compiled."""
    trainable = problem.build()
    one = jax.tree.map(lambda leaf: leaf[0], hparams)
    state = jax.eval_shape(trainable.init, jax.random.key(0), one)
    jax.eval_shape(trainable.step, state, one, shared_of(problem, 0, 1))


def trial(tree: Any, number: int = 0) -> Any:
    """Of one trial, as NumPy arrays."""
    return jax.tree.map(lambda leaf: np.asarray(leaf[number]), tree)
