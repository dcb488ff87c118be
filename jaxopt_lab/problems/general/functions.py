"""Front door 1: a pure function of one trial is one unit of budget."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from jaxopt_lab.core.calls import checked_call
from jaxopt_lab.core.errors import UserError
from jaxopt_lab.core.objective import Objective
from jaxopt_lab.core.tracing.arguments import check_arguments, check_together, keywords_of
from jaxopt_lab.core.tracing.executors import checked_executor
from jaxopt_lab.core.tracing.naming import tidy, written
from jaxopt_lab.core.tracing.outputs import check_leaves
from jaxopt_lab.core.trainable import Metrics, Shared, Trainable
from jaxopt_lab.core.types import PRNGKey, PyTree
from jaxopt_lab.problems.general.problem import REQUIRED, GeneralProblem, check_seeds, roles_of


@checked_call()
def from_function(
    train: Callable[..., Mapping[str, Any]],
    *,
    objective: str = "loss",
    direction: str = "minimize",
    num_seeds: Any = 1,
    roles: Mapping[str, str] | None = None,
    executor: Any = None,
) -> GeneralProblem:
    """Make a problem of a pure function that trains one trial and returns its scores.

    Args:
      train: (key, hparams, *, ...) -> name -> array. `hparams` holds the traced hyperparameters and
        those that the space marks static; keyword arguments are static: one compiled program for
        each combination of their values. Scalars are scores; arrays of any shape are kept.
      objective: the score that is optimised.
      direction: "minimize" or "maximize".
      num_seeds: trainings of each trial, with keys of their own; their spread is the noise that a
        sampler is told.
      roles: role -> hyperparameter, where it is not called like the role.
      executor: "vmap" or "map"; None leaves the choice to the planner.

    Raises:
      UserError: for what is no such function.

    Examples:
      >>> def train(key, hparams, *, power=2):
      ...     return {"loss": (hparams["x"] - 1.0) ** power}
      >>> problem = from_function(train, num_seeds=2)
      >>> problem.keywords
      {'power': 2}
    """
    if not callable(train):
        raise UserError(f"from_function takes a function (key, hparams), got {train!r}")
    num_seeds = check_seeds(num_seeds)
    known_as = written(train)
    source = tidy(known_as)
    keywords = keywords_of(train, REQUIRED, skip=2)
    given = {name: None for name, default in keywords.items() if default is REQUIRED}
    check_arguments(partial(train, **given), source, ("key", "hparams"))

    def build(**chosen: Any) -> Trainable:
        def init(key: PRNGKey, hparams: Any) -> PyTree:
            del hparams
            return key

        def step(key: PyTree, hparams: Any, shared: Shared) -> tuple[PyTree, Metrics]:
            del shared
            check_together(train, source, 1, hparams)
            return key, _scores(source, call(key, hparams))

        call = partial(train, **chosen)
        # In messages a mistake is the user's function's.
        step.__qualname__ = step.__name__ = source
        step.__module__ = getattr(train, "__module__", step.__module__)
        return Trainable(init, step, result=lambda state: ())

    return GeneralProblem(
        kind="function",
        build=build,
        keywords=keywords,
        objective=Objective(objective, direction),
        num_members=num_seeds,
        budget=1,
        unit="run",
        roles=roles_of(roles),
        source=source,
        identity={"source": known_as, "function": known_as, "num_seeds": num_seeds},
        guard=False,
        executor=checked_executor(executor),
    )


def _kind_of(found: Any) -> str:
    return "an array" if isinstance(found, jax.Array) else type(found).__name__


def _scores(source: str, found: Any) -> Metrics:
    if not isinstance(found, Mapping):
        raise UserError(
            f"{source} must return a dict, name -> array, got {_kind_of(found)}; return "
            '{"loss": loss}'
        )
    for name, value in found.items():
        if value is None or isinstance(value, Mapping):
            kind = "None" if value is None else "a dict; give each of its entries a name of its own"
            raise UserError(f"{source}: the metric {name!r} must be one array, got {kind}")
    check_leaves(source, "metrics", dict(found))
    return {name: jnp.asarray(value) for name, value in found.items()}
