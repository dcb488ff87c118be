"""One update of any Optax chain, arranged so that a CPU moves the optimizer's state in place.

As Optax writes it, both the new moments and the new weights are computed from the old moments, and
XLA's CPU backend, which fuses each result into a loop of its own, copies all of them first. Here
the traced update is cut in two: the new state comes out of a branch that XLA cannot look across,
and the new weights are computed from the new state as far as they can be. `mlp.moments` does by
hand what this does to whatever it is given; `docs/performance.md` says what it gains.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import Literal, Var

from jaxopt_lab.core.types import BoolScalar, Params, PyTree
from jaxopt_lab.problems.supervised import equations

#: (gradient, state, params) -> (params, state).
Update = Callable[[PyTree, PyTree, Params], tuple[Params, PyTree]]


class _Cut(NamedTuple):
    """A traced update in parts.

    Attributes:
      first: equations of single numbers that need no state, such as a norm that clips.
      moving: equations of the new state.
      rest: equations of the new weights, from the new state.
      rows: variables of the new state, in its order.
      params: variables of the new weights, in their order.
    """

    first: list[Any]
    moving: list[Any]
    rest: list[Any]
    state: list[Any]
    params: list[Any]


def update_in_place(
    update: Update, has_rows: BoolScalar, gradient: PyTree, state: PyTree, params: Params
) -> tuple[Params, PyTree]:
    """Run an update; the state is left as it is, like the weights, where there are no rows.

    Args:
      update: pure, of one trial.
      has_rows: an array whose value XLA does not know, common to the trials that train together
        (under `vmap` it must not be batched).
      gradient: like `params`.
      state: of the optimizer.
      params: weights.
    """
    arguments = (gradient, state, params)
    closed, like = jax.make_jaxpr(update, return_shape=True)(*arguments)
    trees = tuple(jax.tree.structure(part) for part in like)

    def as_it_is(*arguments: Any) -> tuple[Params, PyTree]:
        moved = update(*arguments)
        return jax.tree.map(
            lambda new, old: jnp.where(has_rows, new, old), moved, (arguments[2], arguments[1])
        )

    try:
        cut = _cut(closed.jaxpr, len(jax.tree.leaves(state)), len(jax.tree.leaves(gradient)))

        def in_two(*arguments: Any) -> tuple[Params, PyTree]:
            new_params, new_state = _run(cut, closed, has_rows, arguments)
            return trees[0].unflatten(new_params), trees[1].unflatten(new_state)

        jax.eval_shape(in_two, *arguments)
    except Exception:
        return as_it_is(*arguments)
    # An accelerator fuses several outputs into one loop, and waits for the host at a branch.
    return jax.lax.platform_dependent(*arguments, cpu=in_two, default=as_it_is)


def _cut(jaxpr: Any, num_state: int, num_gradient: int) -> _Cut:
    constants = set(jaxpr.constvars)
    of_state = set(jaxpr.invars[num_gradient : num_gradient + num_state])
    split = len(jaxpr.outvars) - num_state
    params, state = list(jaxpr.outvars[:split]), list(jaxpr.outvars[split:])
    inputs = constants | set(jaxpr.invars)
    # What depends on the old state.
    touched = set(of_state)
    single = []
    for equation in jaxpr.eqns:
        if touched.isdisjoint(_variables(equation.invars)):
            single += [var for var in equation.outvars if var.aval.shape == ()]
        else:
            touched.update(equation.outvars)
    moving = equations.needed(jaxpr.eqns, state, inputs)
    first_wanted = [var for var in single if _is_read(var, moving)]
    first = equations.needed(jaxpr.eqns, first_wanted, inputs)
    known = inputs | set(first_wanted)
    moving = equations.needed(jaxpr.eqns, state, known)
    rest = equations.needed(jaxpr.eqns, params, known | set(_variables(state)))
    return _Cut(first, moving, rest, state, params)


def _variables(atoms: Any) -> list[Var]:
    return [atom for atom in atoms if isinstance(atom, Var)]


def _is_read(var: Var, group: list[Any]) -> bool:
    return any(var in _variables(equation.invars) for equation in group)


def _run(cut: _Cut, closed: Any, has_rows: BoolScalar, arguments: Any) -> tuple[list, list]:
    jaxpr = closed.jaxpr
    known = dict(zip(jaxpr.constvars, closed.consts, strict=True))
    known.update(zip(jaxpr.invars, jax.tree.leaves(arguments), strict=True))
    old_params, old_state = jax.tree.leaves(arguments[2]), jax.tree.leaves(arguments[1])
    equations.run(cut.first, known)

    def moved(old: list[Any]) -> list[Any]:
        here = dict(known)
        equations.run(cut.moving, here)
        new = [equations.value_of(here, atom) for atom in cut.state]
        return [_typed(*pair) for pair in zip(new, old, strict=True)]

    new_state = jax.lax.cond(has_rows, moved, lambda old: old, old_state)
    after = dict(known)
    for atom, value in zip(cut.state, new_state, strict=True):
        if not isinstance(atom, Literal):
            after[atom] = value
    equations.run(cut.rest, after, _reciprocal)
    new_params = [equations.value_of(after, atom) for atom in cut.params]
    return [
        jnp.where(has_rows, new, old) for new, old in zip(new_params, old_params, strict=True)
    ], new_state


def _typed(new: Any, old: Any) -> Any:
    return jnp.asarray(new, old.dtype)


def _reciprocal(equation: Any, values: list[Any]) -> list[Any] | None:
    """Many numbers divided by one: one division, as Adam's correction of its biases wants it."""
    if equation.primitive.name != "div" or not jnp.issubdtype(
        equation.outvars[0].aval.dtype, jnp.floating
    ):
        return None
    above, below = (atom.aval for atom in equation.invars)
    if above.ndim == 0 or below.ndim != 0 or isinstance(equation.invars[1], Literal):
        return None
    return [values[0] * (1.0 / values[1])]
