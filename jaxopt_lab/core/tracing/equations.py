"""The equations of a traced function: which of them a result needs, and running them again."""

from collections.abc import Callable, Collection, Iterable, MutableMapping
from typing import Any

from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, Var, jaxpr_as_fun

Equation = Any
Environment = MutableMapping[Var, Any]
#: (equation, its inputs) -> its outputs, or None to run it as it is.
Rule = Callable[[Equation, list[Any]], list[Any] | None]


def needed(
    equations: Iterable[Equation], wanted: Collection[Any], known: Collection[Any]
) -> list[Equation]:
    """The equations that some variables depend on, in their order.

    Args:
      equations: of a jaxpr.
      wanted: variables to compute; literals are ignored.
      known: variables at which to stop.
    """
    missing = {atom for atom in wanted if isinstance(atom, Var) and atom not in known}
    found = []
    for equation in reversed(list(equations)):
        if not missing.isdisjoint(equation.outvars):
            found.append(equation)
            missing.update(
                atom for atom in equation.invars if isinstance(atom, Var) and atom not in known
            )
    return found[::-1]


def value_of(environment: Environment, atom: Any) -> Any:
    """Of a variable or a literal."""
    return atom.val if isinstance(atom, Literal) else environment[atom]


def run(
    jaxpr: Jaxpr,
    equations: Iterable[Equation],
    environment: Environment,
    rule: Rule | None = None,
) -> None:
    """Compute the outputs of equations, in their order.

    Args:
      jaxpr: of which they are.
      equations: to run.
      environment: variable -> value; the outputs are added.
      rule: what may run an equation in another way.
    """
    for equation in equations:
        outputs = None
        if rule:
            outputs = rule(equation, [value_of(environment, atom) for atom in equation.invars])
        if outputs is None:
            outputs = _run_alone(jaxpr, equation, environment)
        environment.update(zip(equation.outvars, outputs, strict=True))


def _run_alone(jaxpr: Jaxpr, equation: Equation, environment: Environment) -> list[Any]:
    inputs = list(dict.fromkeys(atom for atom in equation.invars if isinstance(atom, Var)))
    alone = jaxpr.replace(
        constvars=[],
        invars=inputs,
        outvars=list(equation.outvars),
        eqns=[equation],
        effects=equation.effects,
    )
    outputs: list[Any] = jaxpr_as_fun(ClosedJaxpr(alone, ()))(*[environment[v] for v in inputs])
    return outputs
