"""Optuna's words for our spaces: distributions, parameters, and back (extra `optuna`)."""

from collections.abc import Mapping
from typing import Any

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from jaxopt_lab.core.types import Config
from jaxopt_lab.search.encoding import parents_first
from jaxopt_lab.spaces.distributions import (
    Choice,
    Distribution,
    IntUniform,
    LogIntUniform,
    LogUniform,
    Uniform,
)
from jaxopt_lab.spaces.space import SearchSpace


def is_indexed(dist: Distribution) -> bool:
    """Whether Optuna sees the rank of a value: a choice of numbers keeps its order that way, and
    one of lists, which Optuna does not know, becomes one of ranks."""
    return isinstance(dist, Choice) and (dist.ordered or _has_lists(dist))


def _has_lists(dist: Choice) -> bool:
    return any(isinstance(value, tuple) for value in dist.values)


def to_optuna(dist: Distribution) -> BaseDistribution:
    """The Optuna distribution of ours; a choice of numbers becomes their ranks 0, 1, ...

    Examples:
      >>> to_optuna(Uniform(0.5, 2.0))
      FloatDistribution(high=2.0, log=False, low=0.5, step=None)
    """
    if isinstance(dist, Choice):
        if dist.ordered:
            return IntDistribution(0, len(dist.values) - 1)
        if _has_lists(dist):
            return CategoricalDistribution(tuple(range(len(dist.values))))
        return CategoricalDistribution(dist.values)
    if isinstance(dist, IntUniform):
        return IntDistribution(int(dist.low), int(dist.high), log=isinstance(dist, LogIntUniform))
    if isinstance(dist, Uniform | LogUniform):
        return FloatDistribution(dist.low, dist.high, log=isinstance(dist, LogUniform))
    raise TypeError(f"no Optuna distribution stands for {dist!r}")


def to_params(
    space: SearchSpace, config: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, BaseDistribution]]:
    """Optuna's parameters and distributions of a configuration, active ones only."""
    params, distributions = {}, {}
    for name in parents_first(space):
        dist = space.parameters[name]
        if name in config and space.is_active(name, config):
            value = config[name]
            params[name] = dist.ranked.index(value) if is_indexed(dist) else value  # type: ignore[attr-defined]
            distributions[name] = to_optuna(dist)
    return params, distributions


def suggest_config(trial: Any, space: SearchSpace) -> Config:
    """Ask an Optuna trial for a configuration, define-by-run: parents first, active ones only."""
    drawn: Config = dict(space.fixed)
    for name in parents_first(space):
        if not space.is_active(name, drawn):
            continue
        theirs = to_optuna(space.parameters[name])
        if isinstance(theirs, FloatDistribution):
            value: Any = trial.suggest_float(name, theirs.low, theirs.high, log=theirs.log)
        elif isinstance(theirs, IntDistribution):
            value = trial.suggest_int(name, theirs.low, theirs.high, log=theirs.log)
        else:
            assert isinstance(theirs, CategoricalDistribution)
            value = trial.suggest_categorical(name, theirs.choices)
        ours = space.parameters[name]
        drawn[name] = ours.ranked[value] if is_indexed(ours) else value  # type: ignore[attr-defined]
    return {name: drawn[name] for name in (*space.names, *space.fixed) if name in drawn}
