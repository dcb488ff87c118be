"""A learning rate that decays, for problems that have none of their own: the rate that `step` is
given becomes smaller from unit to unit.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxopt_lab.core.errors import UserError
from jaxopt_lab.core.objective import Objective
from jaxopt_lab.core.trainable import Metrics, Shared, State, Trainable, no_metrics
from jaxopt_lab.core.types import PRNGKey, PyTree, Scalar
from jaxopt_lab.problems.general import GeneralProblem
from jaxopt_lab.problems.mlp.schedules import PlateauState, plateau_init, plateau_update
from jaxopt_lab.stabilization.members import PLATEAU_FLOOR

#: The hyperparameter that a diagnosis adds, and its values; static, so that without a decay a
#: problem's program is the one that it has.
NAME, CONSTANT, COSINE, PLATEAU = "learning_rate_decay", "constant", "cosine", "reduce_on_plateau"
#: Kinds of problems whose `step` is given the rate anew for each unit.
_KINDS = ("steps", "supervised")
#: As in the usual walk.
_FACTOR, _PATIENCE = 0.2, 5


class Plateaued(NamedTuple):
    """A trial's own state, and what reduce on plateau remembers."""

    inner: State
    plateau: PlateauState


def decaying(problem: GeneralProblem) -> GeneralProblem:
    """The same problem with one more keyword, `learning_rate_decay`; the problem itself where its
    rate cannot be changed from unit to unit.

    Its values: "constant"; "cosine": in unit t of n, (1 + cos(pi t / n)) / 2 of the rate;
    "reduce_on_plateau": a fifth of it after 5 units without a better objective, down to 1e-5.
    """
    rate = problem.roles.get("learning_rate", "learning_rate")
    if problem.kind not in _KINDS or {NAME, rate} & {*problem.keywords}:
        return problem
    made: dict[str, Callable[[Trainable], Trainable]] = {
        CONSTANT: lambda trainable: trainable,
        COSINE: lambda trainable: _with_cosine(trainable, rate),
        PLATEAU: lambda trainable: _with_plateau(trainable, rate, problem.objective),
    }

    def build(**keywords: Any) -> Trainable:
        decay = keywords.pop(NAME, CONSTANT)
        if decay not in made:
            raise UserError(f"{NAME} must be one of {', '.join(made)}, got {decay!r}")
        return made[decay](problem.build(**keywords))

    keywords = {**problem.keywords, NAME: CONSTANT}
    return replace(problem, build=build, keywords=keywords, _trainings={})


def in_words(value: str, kind: str, rate: str) -> str:
    """How a person writes a decay.

    Args:
      value: of `learning_rate_decay`.
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


def _with_cosine(made: Trainable, rate: str) -> Trainable:
    def step(state: State, hparams: Any, shared: Shared) -> tuple[State, Metrics]:
        done = shared.unit / jnp.maximum(shared.budget, 1)
        return made.step(state, _scaled(hparams, rate, (1.0 + jnp.cos(jnp.pi * done)) / 2), shared)

    # A loop over rows of its own would be given the rate as it is.
    return made._replace(step=step, row_loop=None)


def _with_plateau(made: Trainable, rate: str, objective: Objective) -> Trainable:
    def init(key: PRNGKey, hparams: Any) -> Plateaued:
        return Plateaued(made.init(key, hparams), plateau_init())

    def step(state: Plateaued, hparams: Any, shared: Shared) -> tuple[Plateaued, Metrics]:
        lower = _scaled(hparams, rate, state.plateau.scale)
        inner, metrics = made.step(state.inner, lower, shared)
        metrics = {**metrics, **made.evaluate(inner, hparams, shared)}
        cost = objective.sign * jnp.asarray(metrics[objective.metric], jnp.float32)
        settings = {
            "learning_rate": hparams[rate],
            "plateau_factor": _FACTOR,
            "plateau_patience": _PATIENCE,
            "plateau_cooldown": 0,
            "plateau_min_delta": 0.0,
            "plateau_floor": 0.0,
            "min_lr": PLATEAU_FLOOR,
        }
        return Plateaued(inner, plateau_update(state.plateau, settings, cost)), metrics

    def result(state: Plateaued) -> PyTree:
        return made.result(state.inner)

    def info(state: Plateaued) -> PyTree:
        return made.info(state.inner)

    return Trainable(init, step, no_metrics, result, info)


def _scaled(hparams: Any, rate: str, factor: Scalar) -> Any:
    def scaled(path: tuple[Any, ...], leaf: Any) -> Any:
        return leaf * factor.astype(leaf.dtype) if path[0].key == rate else leaf

    return jax.tree_util.tree_map_with_path(scaled, hparams)
