"""A learning rate that decays, for problems that have none of their own: the rate that `step` is
given becomes smaller from unit to unit.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import jax.numpy as jnp

from jaxopt_lab.core.errors import UserError
from jaxopt_lab.core.hparams import Hparams, altered
from jaxopt_lab.core.objective import Objective
from jaxopt_lab.core.trainable import Metrics, Shared, State, Trainable, no_metrics
from jaxopt_lab.core.types import Config, PRNGKey, PyTree, Scalar
from jaxopt_lab.problems.general import GeneralProblem
from jaxopt_lab.problems.mlp.schedules import PlateauState, plateau_init, plateau_update
from jaxopt_lab.stabilization.members import PLATEAU_FLOOR

#: The hyperparameter that a diagnosis adds, and its values: "cosine": in unit t of n,
#: (1 + cos(pi t / n)) / 2 of the rate; "reduce_on_plateau": a fifth of it after 5 units without a
#: better objective, down to 1e-5. Programs are given its index, so that one serves all.
NAME = "learning_rate_decay"
CONSTANT, COSINE, PLATEAU = VALUES = ("constant", "cosine", "reduce_on_plateau")
#: Kinds of problems whose `step` is given the rate anew for each unit.
_KINDS = ("steps", "supervised")
#: As in the usual walk.
_FACTOR, _PATIENCE = 0.2, 5


class Decaying(NamedTuple):
    """A trial's own state, and what reduce on plateau remembers."""

    inner: State
    plateau: PlateauState


def can_decay(problem: GeneralProblem) -> bool:
    """Whether a problem's rate can be changed from unit to unit: it is a traced hyperparameter of a
    `step`, and no loop over rows has it to itself.
    """
    traced = problem.roles.get("learning_rate", "learning_rate") not in problem.keywords
    return problem.kind in _KINDS and traced and problem.executor != "kernel"


def decaying(problem: GeneralProblem) -> GeneralProblem:
    """The same problem with one more traced hyperparameter, the index of a decay in `VALUES`; with
    0 each trial trains as it did.
    """
    rate = problem.roles.get("learning_rate", "learning_rate")

    def build(**keywords: Any) -> Trainable:
        return _decaying(problem.build(**keywords), rate, problem.objective)

    return replace(problem, build=build, inspect=None, _trainings={})


def index(config: Config) -> int:
    """Of a configuration's decay.

    Raises:
      UserError: for an unknown one.
    """
    value = config.get(NAME, CONSTANT)
    if value not in VALUES:
        raise UserError(f"{NAME} must be one of {', '.join(VALUES)}, got {value!r}")
    return VALUES.index(value)


def own(hparams: Hparams) -> Hparams:
    """The hyperparameters of the problem itself."""
    return altered(hparams, {NAME: None})


def probe_of(probe: Callable[..., Any]) -> Callable[..., Any]:
    """A probe of the problem's guarded states, for those of `decaying`."""

    def probed(state: Any, hparams: Hparams, shared: Shared) -> Any:
        return probe(state._replace(inner=state.inner.inner), own(hparams), shared)

    return probed


def in_words(value: str, kind: str, rate: str) -> str:
    """How a person writes a decay.

    Args:
      value: of `VALUES`.
      kind: of the problem.
      rate: name of its learning rate.
    """
    if value == PLATEAU:
        return (
            f"{NAME} is no hyperparameter of yours: after {_PATIENCE} units without a better "
            f"objective, multiply {rate} by {_FACTOR:g}, down to {PLATEAU_FLOOR:g}"
        )
    if kind == "supervised":
        where = "an optimizer of (hparams, total_steps) takes a rate of lambda t:"
        progress = "t / total_steps"
    else:
        where, progress = "in step, use", "shared.unit / shared.budget"
    return (
        f"{NAME} is no hyperparameter of yours: {where} hparams[{rate!r}] * "
        f"(1 + jnp.cos(jnp.pi * {progress})) / 2"
    )


def _decaying(made: Trainable, rate: str, objective: Objective) -> Trainable:
    def init(key: PRNGKey, hparams: Hparams) -> Decaying:
        return Decaying(made.init(key, own(hparams)), plateau_init())

    def step(state: Decaying, hparams: Hparams, shared: Shared) -> tuple[Decaying, Metrics]:
        is_cosine, is_plateau = (hparams[NAME] == VALUES.index(v) for v in (COSINE, PLATEAU))
        factor = jnp.where(is_cosine, _cosine(shared), 1.0)
        factor = jnp.where(is_plateau, state.plateau.scale, factor).astype(hparams[rate].dtype)
        mine = own(hparams)
        lower = altered(mine, {rate: hparams[rate] * factor})
        inner, metrics = made.step(state.inner, lower, shared)
        metrics = {**metrics, **made.evaluate(inner, mine, shared)}
        cost = objective.sign * jnp.asarray(metrics[objective.metric], jnp.float32)
        plateau = plateau_update(state.plateau, _settings(hparams[rate]), cost)
        return Decaying(inner, plateau), metrics

    def result(state: Decaying) -> PyTree:
        return made.result(state.inner)

    def info(state: Decaying) -> PyTree:
        return made.info(state.inner)

    # A loop over rows of its own would be given the rate as it is.
    return Trainable(init, step, no_metrics, result, info)


def _cosine(shared: Shared) -> Scalar:
    return 0.5 * (1.0 + jnp.cos(jnp.pi * shared.unit / jnp.maximum(shared.budget, 1)))


def _settings(rate: Scalar) -> dict[str, Any]:
    return {
        "learning_rate": rate,
        "plateau_factor": _FACTOR,
        "plateau_patience": _PATIENCE,
        "plateau_cooldown": 0,
        "plateau_min_delta": 0.0,
        "plateau_floor": 0.0,
        "min_lr": PLATEAU_FLOOR,
    }
