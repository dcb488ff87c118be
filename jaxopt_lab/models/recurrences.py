"""A recurrent layer whose loops compute only what must wait for the step before.

Differentiated by JAX, a loop keeps a dozen arrays of every step for the way back, and on that way
multiplies and adds to the gradient of the recurrent kernel at every step. A cell multiplies its
state by kernels, and all else it does for each unit alone; so the way back needs only a few numbers
of each unit (its slopes), which are computed for all steps at once, and the gradient of a kernel is
one product of all states with all that came back. See `docs/performance.md`.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

#: Arrays of one shape: [b h] of a step or [t b h] of all steps.
Arrays = tuple[Array, ...]
#: Kernels, biases and recurrent kernels, of each gate.
Weights = tuple[Arrays, Arrays, Arrays]


class Cell(NamedTuple):
    """What a cell does for each unit alone.

    Attributes:
      num_gates: products of a step, the candidate's among them.
      num_states: numbers that a unit carries on; the first is the layer's output.
      forward: (states, input parts, recurrent parts) -> (next states, what `slopes` needs).
      slopes: (next states, what was kept, real steps [t b 1]) -> slopes.
      backward: (cotangents of the states after, slopes) -> cotangents (of the states before, but
        for what goes through the products; of the recurrent parts; of the input parts).
      hold: input parts -> those with which `forward` leaves the state as it is, to the bit; None:
        there are none, and a step of padding is left out.
    """

    num_gates: int
    num_states: int
    forward: Callable[[Arrays, Arrays, Arrays], tuple[Arrays, Arrays]]
    slopes: Callable[[Arrays, Arrays, Array], Arrays]
    backward: Callable[[Arrays, Arrays], tuple[Arrays, Arrays, Arrays]]
    hold: Callable[[Arrays], Arrays] | None = None


def _vanilla(states: Arrays, inputs: Arrays, recurrent: Arrays) -> tuple[Arrays, Arrays]:
    return (jnp.tanh(inputs[0] + recurrent[0]),), ()


def _vanilla_slopes(after: Arrays, kept: Arrays, real: Array) -> Arrays:
    del kept
    return jnp.where(real, 1.0 - after[0] ** 2, 0.0), jnp.where(real, 0.0, jnp.ones_like(after[0]))


def _vanilla_back(cotangents: Arrays, slopes: Arrays) -> tuple[Arrays, Arrays, Arrays]:
    (of_state,), (slope, passed) = cotangents, slopes
    of_gate = (of_state * slope,)
    return (of_state * passed,), of_gate, of_gate


def _gru(states: Arrays, inputs: Arrays, recurrent: Arrays) -> tuple[Arrays, Arrays]:
    (state,) = states
    reset = jax.nn.sigmoid(inputs[0] + recurrent[0])
    update = jax.nn.sigmoid(inputs[1] + recurrent[1])
    candidate = jnp.tanh(inputs[2] + reset * recurrent[2])
    after = (1.0 - update) * candidate + update * state
    return (after,), (reset, update, candidate, recurrent[2])


def _gru_slopes(after: Arrays, kept: Arrays, real: Array) -> Arrays:
    # On a step of padding the update gate is 1: the state passes, and the slopes of gates are 0.
    del real
    reset, update, candidate, recurrent = kept
    of_candidate = (1.0 - update) * (1.0 - candidate**2)
    of_reset = of_candidate * recurrent * reset * (1.0 - reset)
    # (state before - candidate) x update is what the candidate lacks of the next state.
    of_update = (after[0] - candidate) * (1.0 - update)
    return of_reset, of_update, of_candidate, of_candidate * reset, update


def _gru_back(cotangents: Arrays, slopes: Arrays) -> tuple[Arrays, Arrays, Arrays]:
    (of_state,) = cotangents
    of_reset, of_update, of_candidate, of_recurrent, passed = slopes
    gates = of_state * of_reset, of_state * of_update
    return (
        (of_state * passed,),
        (*gates, of_state * of_recurrent),
        (*gates, of_state * of_candidate),
    )


def _gru_hold(inputs: Arrays) -> Arrays:
    reset, update, candidate = inputs
    return reset, jnp.full_like(update, jnp.finfo(update.dtype).max / 2), candidate


def _lstm(states: Arrays, inputs: Arrays, recurrent: Arrays) -> tuple[Arrays, Arrays]:
    _, memory = states
    sums = [a + b for a, b in zip(inputs, recurrent, strict=True)]
    keep, write, show = (jax.nn.sigmoid(x) for x in sums[:3])
    candidate = jnp.tanh(sums[3])
    memory = keep * memory + write * candidate
    return (show * jnp.tanh(memory), memory), (keep, write, show, candidate)


def _lstm_slopes(after: Arrays, kept: Arrays, real: Array) -> Arrays:
    keep, write, show, candidate = kept
    shown = jnp.tanh(after[1])
    slopes = (
        candidate * write * (1.0 - write),
        (after[1] - write * candidate) * (1.0 - keep),
        write * (1.0 - candidate**2),
        shown * show * (1.0 - show),
        show * (1.0 - shown**2),
    )
    passed = jnp.where(real, 0.0, jnp.ones_like(show))
    return *(jnp.where(real, x, 0.0) for x in slopes), jnp.where(real, keep, 1.0), passed


def _lstm_back(cotangents: Arrays, slopes: Arrays) -> tuple[Arrays, Arrays, Arrays]:
    of_state, of_memory = cotangents
    of_write, of_keep, of_candidate, of_show, through, kept, passed = slopes
    of_memory = of_memory + of_state * through
    gates = (
        of_memory * of_keep,
        of_memory * of_write,
        of_state * of_show,
        of_memory * of_candidate,
    )
    return (of_state * passed, of_memory * kept), gates, gates


#: Name -> cell: Elman 1990; Cho et al. 2014 (arXiv:1406.1078), the reset gate after the product;
#: Hochreiter & Schmidhuber 1997, its gates in the order keep, write, show, candidate.
CELLS = {
    "vanilla": Cell(1, 1, _vanilla, _vanilla_slopes, _vanilla_back),
    "gru": Cell(3, 1, _gru, _gru_slopes, _gru_back, _gru_hold),
    "lstm": Cell(4, 2, _lstm, _lstm_slopes, _lstm_back),
}


def recurrence(
    cell: str,
    inputs: Float[Array, "t b f"],
    real: Bool[Array, "t b"],
    kernels: Sequence[Float[Array, "f h"]],
    biases: Sequence[Float[Array, "h"]],
    recurrent: Sequence[Float[Array, "h h"]],
) -> Float[Array, "t b h"]:
    """States of a recurrent layer after each step, from a state of zeros.

    Args:
      cell: key of `CELLS`.
      inputs: of all steps.
      real: false on steps of padding, which leave the state as it is.
      kernels: of each gate, by which inputs are multiplied.
      biases: of each gate.
      recurrent: of each gate, by which the state is multiplied.
    """
    return _layer(cell, inputs, real, (tuple(kernels), tuple(biases), tuple(recurrent)))


def _states(cell: str, inputs: Array, real: Array, weights: Weights) -> Array:
    return _forward(cell, inputs, real, weights)[0]


_layer = jax.custom_vjp(_states, nondiff_argnums=(0,))


def _forward(cell: str, inputs: Array, real: Array, weights: Weights) -> tuple[Array, Any]:
    unit = CELLS[cell]
    kernels, biases, recurrent = weights
    parts = tuple(inputs @ kernel + bias for kernel, bias in zip(kernels, biases, strict=True))
    if unit.hold:
        parts = tuple(
            part if part is held else jnp.where(real[..., None], part, held)
            for part, held in zip(parts, unit.hold(parts), strict=True)
        )

    joined = jnp.concatenate(recurrent, axis=-1)

    def step(states: Arrays, at: tuple[Arrays, Array]) -> tuple[Arrays, tuple[Arrays, Arrays]]:
        parts, real = at
        after, kept = unit.forward(states, parts, _by_gate(states[0], recurrent, joined))
        if not unit.hold:
            after = tuple(
                jnp.where(real[:, None], new, old) for new, old in zip(after, states, strict=True)
            )
        return after, (after, kept)

    start = (jnp.zeros_like(parts[0][0]),) * unit.num_states
    _, (states, kept) = jax.lax.scan(step, start, (parts, real))
    return states[0], (inputs, real, weights, states, kept)


def _backward(cell: str, saved: Any, of_outputs: Array) -> tuple[Array, None, Weights]:
    unit = CELLS[cell]
    inputs, real, (kernels, _, recurrent), states, kept = saved
    slopes = unit.slopes(states, kept, real[..., None])
    turned = tuple(kernel.T for kernel in recurrent)
    stacked = jnp.concatenate(turned)

    def step(later: Arrays, at: tuple[Array, Arrays]) -> tuple[Arrays, Arrays]:
        of_output, slopes = at
        cotangents = (later[0] + of_output, *later[1:])
        (of_state, *others), of_recurrent, _ = unit.backward(cotangents, slopes)
        return (of_state + _sum_over_gates(of_recurrent, turned, stacked), *others), cotangents

    end = tuple(jnp.zeros_like(x[0]) for x in states)
    _, cotangents = jax.lax.scan(step, end, (of_outputs, slopes), reverse=True)
    _, of_recurrent, of_parts = unit.backward(cotangents, slopes)
    of_inputs = sum(x @ kernel.T for x, kernel in zip(of_parts, kernels, strict=True))

    # What each gate multiplied at each step: state, inputs, and 1 by its bias. Transposed first:
    # see `models.products`.
    before = jnp.concatenate([jnp.zeros_like(states[0][:1]), states[0][:-1]])
    left = jnp.concatenate([before, inputs, jnp.ones_like(inputs[..., :1])], axis=-1)
    left = jax.lax.optimization_barrier(_rows(left).T)
    size, gradients = before.shape[-1], []
    for of_gate, of_part in zip(of_recurrent, of_parts, strict=True):
        of_weights = left @ _rows(of_part)
        of_kernel = of_weights if of_part is of_gate else left @ _rows(of_gate)
        gradients.append((of_weights[size:-1], of_weights[-1], of_kernel[:size]))
    of_kernels, of_biases, of_recurrent = zip(*gradients, strict=True)
    return of_inputs, None, (of_kernels, of_biases, of_recurrent)


_layer.defvjp(_forward, _backward)


def _by_gate(state: Array, kernels: Arrays, joined: Array) -> Arrays:
    """The state by the kernel of each gate.

    An accelerator is quicker with one product; a CPU with arrays of one shape, for what is cut out
    of a wider one XLA computes there number by number.
    """

    def each(state: Array, kernels: Arrays, _: Array) -> Arrays:
        return tuple(state @ kernel for kernel in kernels)

    def at_once(state: Array, kernels: Arrays, joined: Array) -> Arrays:
        return tuple(jnp.split(state @ joined, len(kernels), axis=-1))

    return jax.lax.platform_dependent(state, kernels, joined, cpu=each, default=at_once)


def _sum_over_gates(gates: Arrays, kernels: Arrays, stacked: Array) -> Array:
    """Each gate by its kernel, summed: see `_by_gate`."""

    def each(gates: Arrays, kernels: Arrays, _: Array) -> Array:
        first, *others = (x @ kernel for x, kernel in zip(gates, kernels, strict=True))
        return sum(others, first)

    def at_once(gates: Arrays, _: Arrays, stacked: Array) -> Array:
        return jnp.concatenate(gates, axis=-1) @ stacked

    return jax.lax.platform_dependent(gates, kernels, stacked, cpu=each, default=at_once)


def _rows(x: Array) -> Array:
    """All steps of all sequences, [t * b, n]."""
    return x.reshape(-1, x.shape[-1])
