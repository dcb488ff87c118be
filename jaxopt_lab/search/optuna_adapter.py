"""Optuna's samplers as samplers of ours (extra `optuna`, imported only when used)."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxopt_lab.core.errors import MachineError
from jaxopt_lab.core.types import Config, PRNGKey
from jaxopt_lab.search.base import History, Sampler, check_request, generator
from jaxopt_lab.search.encoding import fill_up, first_new, known_keys, snap
from jaxopt_lab.search.random import uniform_draws
from jaxopt_lab.spaces.space import SearchSpace

#: Samplers that read finished trials alone: their history can be added without being asked again.
_STATELESS = ("TPESampler", "GPSampler", "RandomSampler", "BruteForceSampler")
#: Asks per proposal until one is new.
NUM_ATTEMPTS = 8


def _replay(study: Any, space: SearchSpace, history: History, stateless: bool) -> None:
    """Tell a study everything known: added as it is, or asked and told again in order."""
    from optuna.trial import TrialState, create_trial

    from jaxopt_lab.search.optuna_spaces import suggest_config, to_params

    for i, config in enumerate(space.from_unit(history.points)):
        params, distributions = to_params(space, config)
        if history.pending[i]:
            state, value = TrialState.RUNNING, None
        elif history.infeasible[i]:
            state, value = TrialState.FAIL, None
        else:
            state, value = TrialState.COMPLETE, float(history.values[i])
        if stateless:
            study.add_trial(
                create_trial(state=state, params=params, distributions=distributions, value=value)
            )
            continue
        study.enqueue_trial(params)
        trial = study.ask()
        suggest_config(trial, space)
        if state != TrialState.RUNNING:
            study.tell(trial, value, state=state)


def from_optuna(factory: Callable[[int], Any], name: str | None = None) -> Sampler:
    """Make a sampler of ours out of any Optuna sampler.

    Every call builds a study from the history. Samplers that keep a state in the study (CMA-ES,
    NSGA-II, quasi-random) are asked and told the whole history again, so that the state is that
    of a study that was never stopped; the time of a call then grows with the history.
    Infeasible trials are told as failed. A choice of numbers is seen by its rank.

    Args:
      factory: seed -> Optuna sampler.
      name: name of the sampler; None for "optuna_" and that of Optuna's class.

    Raises:
      MachineError: if Optuna is not installed.

    Examples:
      >>> import optuna
      >>> sampler = from_optuna(lambda seed: optuna.samplers.TPESampler(seed=seed))
      >>> sampler.name
      'optuna_TPESampler'
    """
    try:
        import optuna
    except ImportError:
        raise MachineError("Optuna is missing: pip install 'jaxopt-lab[optuna]'") from None
    kind = type(factory(0)).__name__
    stateless = kind in _STATELESS

    def propose(key: PRNGKey, space: SearchSpace, history: History, n: int) -> list[Config]:
        check_request(space, history, n)
        rng = generator(key, 4, len(history) if stateless else 0)
        verbosity = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        try:
            sampler = factory(int(rng.integers(2**31)))
            study = optuna.create_study(sampler=sampler)
            _replay(study, space, history, stateless)
            known, rows = known_keys(space, history.points), np.zeros((0, space.num_dims))
            for _ in range(n):
                rows = np.concatenate([rows, _ask_new(study, space, known)])
        finally:
            optuna.logging.set_verbosity(verbosity)
        # What Optuna repeats is replaced, so that a finite space is exhausted first.
        missing = n - len(rows)
        if missing:
            draws = uniform_draws(jax.random.fold_in(key, 4), len(history), n, space.num_dims)
            fresh = first_new(space, draws.reshape(-1, space.num_dims), known, missing)
            rows = np.concatenate([rows, fresh])
            rows = fill_up(space, rows, draws[:, 0], known, n, rng)
        return space.from_unit(rows)

    return Sampler(name or f"optuna_{kind}", propose)


def _ask_new(study: Any, space: SearchSpace, known: set[bytes]) -> np.ndarray:
    """[1, d] the first new point of a few asks, or [0, d]."""
    from optuna.trial import TrialState

    from jaxopt_lab.search.optuna_spaces import suggest_config

    for _ in range(NUM_ATTEMPTS):
        trial = study.ask()
        point = snap(space, space.to_unit([suggest_config(trial, space)]))
        new = first_new(space, point, known, 1)
        if len(new):
            return new
        study.tell(trial, state=TrialState.FAIL)
    return np.zeros((0, space.num_dims))
