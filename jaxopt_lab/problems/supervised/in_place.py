"""One update of any Optax chain, arranged so that a CPU moves the optimizer's state in place.

As Optax writes it, both the new moments and the new weights are computed from the old moments, and
XLA's CPU backend, which fuses each result into a loop of its own, copies all of them first. Here
the traced update is cut in two: the new state comes out of a branch that XLA cannot look across,
and the new weights are computed from the new state as far as they can be. `mlp.moments` does by
hand what this does to whatever it is given; `docs/performance.md` says what it gains.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal, Var, jaxpr_as_fun

from jaxopt_lab.core.tracing import equations
from jaxopt_lab.core.types import BoolScalar, Params, PyTree

#: (gradient, state, params) -> (params, state).
Update = Callable[[PyTree, PyTree, Params], tuple[Params, PyTree]]


class _Cut(NamedTuple):
    """A traced update in parts.

    Attributes:
      first: equations of single numbers that need no state, such as a norm that clips.
      moving: equations of the new state.
      rest: equations of the new weights, from the new state.
      state: variables of the new state, in its order.
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
    tree: Any = jax.tree.structure(like)

    def as_it_is(gradient: PyTree, state: PyTree, params: Params) -> tuple[Params, PyTree]:
        leaves = jaxpr_as_fun(closed)(*jax.tree.leaves((gradient, state, params)))
        return optax.tree.where(has_rows, tree.unflatten(leaves), (params, state))

    def in_two(gradient: PyTree, state: PyTree, params: Params) -> tuple[Params, PyTree]:
        leaves = [jax.tree.leaves(part) for part in (gradient, state, params)]
        return tree.unflatten(_run(cut, closed, has_rows, *leaves))

    try:
        cut = _cut(closed.jaxpr, *(len(jax.tree.leaves(part)) for part in (gradient, state)))
        jax.eval_shape(in_two, *arguments)
    except Exception:  # of a kind of equation that is not known here
        return as_it_is(*arguments)
    # An accelerator fuses several outputs into one loop, and waits for the host at a branch.
    return jax.lax.platform_dependent(*arguments, cpu=in_two, default=as_it_is)


def _cut(jaxpr: Jaxpr, num_gradient: int, num_state: int) -> _Cut:
    num_params = len(jaxpr.outvars) - num_state
    params, state = list(jaxpr.outvars[:num_params]), list(jaxpr.outvars[num_params:])
    inputs = {*jaxpr.constvars, *jaxpr.invars}
    single = _single_numbers(jaxpr, jaxpr.invars[num_gradient : num_gradient + num_state])
    moving = equations.needed(jaxpr.eqns, state, inputs)
    read = {atom for equation in moving for atom in equation.invars if isinstance(atom, Var)}
    once = single & read
    first = equations.needed(jaxpr.eqns, once, inputs)
    known = inputs | once
    moving = equations.needed(jaxpr.eqns, state, known)
    rest = equations.needed(jaxpr.eqns, params, known | set(_variables(state)))
    return _Cut(first, moving, rest, state, params)


def _single_numbers(jaxpr: Jaxpr, state: Sequence[Var]) -> set[Var]:
    """Variables of one number that no old state is needed for."""
    touched: set[Any] = set(state)
    single: set[Any] = set()
    for equation in jaxpr.eqns:
        if touched.isdisjoint(_variables(equation.invars)):
            single.update(var for var in equation.outvars if getattr(var.aval, "shape", None) == ())
        else:
            touched.update(equation.outvars)
    return single


def _variables(atoms: Iterable[Any]) -> list[Var]:
    return [atom for atom in atoms if isinstance(atom, Var)]


def _run(
    cut: _Cut,
    closed: ClosedJaxpr,
    has_rows: BoolScalar,
    gradient: list[Any],
    state: list[Any],
    params: list[Any],
) -> list[Any]:
    """The leaves of the new weights and of the new state."""
    jaxpr = closed.jaxpr
    known = dict(zip(jaxpr.constvars, closed.consts, strict=True))
    known.update(zip(jaxpr.invars, [*gradient, *state, *params], strict=True))
    equations.run(jaxpr, cut.first, known)

    def moved(state: list[Any]) -> list[Any]:
        here = dict(known)
        equations.run(jaxpr, cut.moving, here)
        new = [equations.value_of(here, atom) for atom in cut.state]
        return [jnp.asarray(x, old.dtype) for x, old in zip(new, state, strict=True)]

    new_state = jax.lax.cond(has_rows, moved, lambda state: state, state)
    after = {**known, **{atom: value for atom, value in zip(cut.state, new_state, strict=True)
                         if isinstance(atom, Var)}}  # fmt: skip
    equations.run(jaxpr, cut.rest, after, _reciprocal)
    new_params = [equations.value_of(after, atom) for atom in cut.params]
    return [*optax.tree.where(has_rows, new_params, params), *new_state]


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
