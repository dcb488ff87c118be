"""Our Bayesian sampler as one of Optuna's (extra `optuna`)."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution
from optuna.trial import FrozenTrial, TrialState

from jaxopt_lab.search.base import History
from jaxopt_lab.search.bayesian import bayesian
from jaxopt_lab.spaces.distributions import Choice, IntUniform, LogIntUniform, LogUniform, Uniform
from jaxopt_lab.spaces.space import SearchSpace


class OptunaBayesianSampler(optuna.samplers.BaseSampler):
    """Our Bayesian sampler for Optuna studies of one objective.

    The parameters that all finished trials share are chosen jointly; others, and the first trial,
    at random. Pruned trials count with their last intermediate value if they have one.

    Args:
      seed: seed of everything; None for a random one.
      num_initial: finished trials before the model takes over.

    Raises:
      ValueError: in a study of several objectives.
    """

    def __init__(self, seed: int | None = None, num_initial: int = 10) -> None:
        self._independent = optuna.samplers.RandomSampler(seed=seed)
        self._intersection = optuna.search_space.IntersectionSearchSpace()
        self._sampler = bayesian(num_initial=num_initial)
        self._seed = int(np.random.default_rng(seed).integers(2**31))

    def reseed_rng(self) -> None:
        """Draw a new seed, as Optuna asks for before it starts parallel workers."""
        self._independent.reseed_rng()
        self._seed = int(np.random.default_rng().integers(2**31))

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """The parameters that all finished trials share and that can take two values or more."""
        shared = self._intersection.calculate(study)
        return {name: dist for name, dist in shared.items() if not dist.single()}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Propose the shared parameters jointly; quasi-random while there are too few trials."""
        self._raise_error_if_multi_objective(study)
        varying = {name: dist for name, dist in search_space.items() if not dist.single()}
        if not varying:
            return {}
        trials = study.get_trials(deepcopy=False)
        told = [t for t in trials if t.number != trial.number and _fits(t, varying)]
        space = SearchSpace(**{name: _ours(dist) for name, dist in varying.items()})
        sign = -1.0 if study.direction == optuna.study.StudyDirection.MAXIMIZE else 1.0
        history = _history(space, varying, told, sign)
        key = jax.random.fold_in(jax.random.key(self._seed), trial.number)
        (config,) = self._sampler.propose(key, space, history, 1)
        return {name: _external(dist, config[name]) for name, dist in varying.items()}

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Draw one parameter at random."""
        self._raise_error_if_multi_objective(study)
        return self._independent.sample_independent(study, trial, param_name, param_distribution)


def _fits(trial: FrozenTrial, search_space: Mapping[str, BaseDistribution]) -> bool:
    """Whether a trial holds all parameters, inside their present ranges."""
    return all(
        name in trial.params and dist._contains(dist.to_internal_repr(trial.params[name]))
        for name, dist in search_space.items()
    )


def _ours(dist: BaseDistribution) -> Any:
    """Our distribution of one of Optuna's; steps and categories become ranks."""
    if isinstance(dist, CategoricalDistribution):
        return Choice([f"{i}" for i in range(len(dist.choices))])
    low, high, step = (getattr(dist, name) for name in ("low", "high", "step"))
    if isinstance(dist, FloatDistribution) and step is None:
        return (LogUniform if dist.log else Uniform)(float(low), float(high))
    if getattr(dist, "log", False):
        return LogIntUniform(int(low), int(high))
    return IntUniform(0, round((high - low) / step))


def _internal(dist: BaseDistribution, value: Any) -> Any:
    """Optuna's value as a value of `_ours`."""
    if isinstance(dist, CategoricalDistribution):
        return f"{int(dist.to_internal_repr(value))}"
    if getattr(dist, "step", None) is not None and not getattr(dist, "log", False):
        return round((value - dist.low) / dist.step)  # type: ignore[attr-defined]
    return value


def _external(dist: BaseDistribution, value: Any) -> Any:
    """The way back of `_internal`."""
    if isinstance(dist, CategoricalDistribution):
        return dist.choices[int(value)]
    step = getattr(dist, "step", None)
    if step is not None and not getattr(dist, "log", False):
        stepped = dist.low + value * step  # type: ignore[attr-defined]
        return min(stepped, dist.high)  # type: ignore[attr-defined]
    return value


def _history(
    space: SearchSpace,
    search_space: Mapping[str, BaseDistribution],
    trials: Sequence[FrozenTrial],
    sign: float,
) -> History:
    """A history of Optuna's trials; failed ones are infeasible, running ones pending."""
    configs, values, pending = [], [], []
    for trial in trials:
        configs.append({k: _internal(d, trial.params[k]) for k, d in search_space.items()})
        value = math.nan
        if trial.state == TrialState.COMPLETE and trial.value is not None:
            value = sign * trial.value
        elif trial.state == TrialState.PRUNED and trial.intermediate_values:
            value = sign * trial.intermediate_values[max(trial.intermediate_values)]
        values.append(value)
        pending.append(trial.state in (TrialState.RUNNING, TrialState.WAITING))
    return History.from_configs(space, configs, values, pending=pending)
