"""What one trial's unit costs, read off its trace: memory, operations, how it batches."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend import core

from jaxopt_lab.core.tracing.check import Checked
from jaxopt_lab.core.tracing.dependencies import loop_of, sub_jaxprs
from jaxopt_lab.core.tracing.flattened import Flattened, Operation, flatten


class Footprint(NamedTuple):
    """Cost of one trial's unit.

    Attributes:
      peak_bytes: most bytes alive at once, arguments and results included.
      trial_bytes: of these, what every trial of a cohort has for itself.
      shared_bytes: the rest, which a cohort has once.
      state_bytes: arguments and results that are the trial's own.
      flops: floating-point operations: products, convolutions, element by element, sums.
      num_operations: operations that run one after another, loops counted out and what is
        fused counted once; each has a fixed cost.
      primitives: names of all that occur.
      kernels_differ: whether a convolution's kernel depends on the trial, which makes it a
        grouped convolution when trials are batched.
      unknown_length: whether a `while` loop is counted once because its length is not known.
    """

    peak_bytes: int
    trial_bytes: int
    shared_bytes: int
    state_bytes: int
    flops: float
    num_operations: float
    primitives: frozenset[str]
    kernels_differ: bool
    unknown_length: bool


def measure_footprint(closed: core.ClosedJaxpr, own: Sequence[bool] | None = None) -> Footprint:
    """Read the cost of a program off its trace.

    Fusion is modelled roughly: what is computed element by element and used only by the like is
    not kept in memory. Within a factor of two of XLA's own figures for dense networks, recurrent
    and convolutional ones.

    Args:
      closed: of one trial.
      own: for each input, whether every trial has its own; all of them if None.

    Examples:
      >>> import jax, jax.numpy as jnp
      >>> program = jax.make_jaxpr(lambda x, w: x @ w)(jnp.ones((8, 4)), jnp.ones((4, 2)))
      >>> footprint = measure_footprint(program, own=[False, True])
      >>> footprint.peak_bytes, footprint.shared_bytes, footprint.flops
      (224, 128, 128.0)
    """
    flat = flatten(closed)
    flags = [True] * len(closed.jaxpr.invars) if own is None else list(own)
    batched = _batched(flat, [False] * flat.num_constants + flags)
    cost = _Cost()
    total, shared = _peaks(flat, batched, cost, 1.0)
    ends = {i for i in (*flat.inputs, *flat.outputs) if i >= 0 and batched[i]}
    return Footprint(
        peak_bytes=total,
        trial_bytes=total - shared,
        shared_bytes=shared,
        state_bytes=sum(flat.sizes[i] for i in ends),
        flops=cost.flops,
        num_operations=cost.num_operations,
        primitives=frozenset(cost.primitives),
        kernels_differ=cost.kernels_differ,
        unknown_length=cost.unknown_length,
    )


def trial_footprint(checked: Checked) -> Footprint:
    """The footprint of one trial: of its unit, and of its initialisation where that needs more.

    Args:
      checked: what tracing its functions found out.
    """
    init, unit = checked.programs["init"], checked.programs["unit"]
    num_own = len(jax.tree.leaves(checked.state)) + len(init.jaxpr.invars) - 1
    num_shared = len(unit.jaxpr.invars) - num_own
    found = measure_footprint(unit, [*([True] * num_own), *([False] * num_shared)])
    start = measure_footprint(init)
    trial_bytes = max(found.trial_bytes, start.trial_bytes)
    return found._replace(trial_bytes=trial_bytes, peak_bytes=trial_bytes + found.shared_bytes)


class _Cost:
    """What adds up while a program is walked through."""

    def __init__(self) -> None:
        self.flops, self.num_operations = 0.0, 0.0
        self.primitives: set[str] = set()
        self.kernels_differ = self.unknown_length = False


def _batched(flat: Flattened, inputs: Sequence[bool]) -> list[bool]:
    """Which values every trial has for itself."""
    batched = [False] * len(flat.sizes)
    for i, own in zip(flat.inputs, inputs, strict=True):
        batched[i] = own
    for operation in flat.operations:
        if loop_of(operation.equation) is not None:
            flags = _loop_batched(operation, batched)
        else:
            flags = [any(batched[i] for i in operation.inputs if i >= 0)] * len(operation.outputs)
        for i, own in zip(operation.outputs, flags, strict=True):
            batched[i] = own
    return batched


def _loop_batched(operation: Operation, batched: list[bool]) -> list[bool]:
    return _body_flags(operation, batched)[1]


def _body_flags(operation: Operation, batched: list[bool]) -> tuple[list[bool], list[bool]]:
    """Which inputs of a loop's body, and which results of the loop, are a trial's own."""
    loop = loop_of(operation.equation)
    assert loop is not None
    given = [i >= 0 and batched[i] for i in operation.inputs]
    asked, given = given[: loop.condition_constants], given[loop.condition_constants :]
    body = flatten(loop.body)
    flags = list(given)
    while True:
        inside = _batched(body, [False] * body.num_constants + flags)
        outputs = [i >= 0 and inside[i] for i in body.outputs]
        carry = slice(loop.constants, loop.constants + loop.carry)
        wider = [a or b for a, b in zip(flags[carry], outputs[: loop.carry], strict=True)]
        if loop.condition is not None and (any(asked) or _asks(loop.condition, asked, wider)):
            wider = [True] * loop.carry
        if wider == flags[carry]:
            return flags, [*wider, *outputs[loop.carry :]]
        flags[carry] = wider


def _asks(condition: Any, asked: list[bool], carry: list[bool]) -> bool:
    """Whether a loop's length differs by trial."""
    flat = flatten(condition)
    batched = _batched(flat, [False] * flat.num_constants + [*asked, *carry])
    return any(i >= 0 and batched[i] for i in flat.outputs)


def _peaks(flat: Flattened, batched: list[bool], cost: _Cost, times: float) -> tuple[int, int]:
    """Most bytes alive, arguments and results included: all, and those shared by a cohort."""
    kept = _materialized(flat)
    last = _last_uses(flat, kept)
    alive = set(flat.inputs)
    lasting = alive | {i for i in flat.outputs if i >= 0}
    now = [0, 0]

    def count(i: int, sign: int) -> None:
        now[0] += sign * flat.sizes[i]
        now[1] += 0 if batched[i] else sign * flat.sizes[i]

    for i in alive:
        count(i, 1)
    peak, shared = now
    for position, operation in enumerate(flat.operations):
        inside = _inside(operation, batched, cost, times)
        made = [i for i in operation.outputs if kept[i]]
        if made and operation.name not in _FREE:
            cost.num_operations += times
        dying = [i for i in alive if last[i] == position and i not in lasting]
        if operation.name in _IN_PLACE:
            # A result takes the place of an operand of its size that is not used again.
            for i in made:
                for other in dying:
                    if flat.sizes[other] == flat.sizes[i]:
                        dying.remove(other)
                        alive.discard(other)
                        count(other, -1)
                        break
        for i in made:
            alive.add(i)
            count(i, 1)
        peak = max(peak, now[0] + inside[0])
        shared = max(shared, now[1] + inside[1])
        for i in [*dying, *(i for i in made if last[i] <= position and i not in lasting)]:
            if i in alive:
                alive.discard(i)
                count(i, -1)
    return peak, min(shared, peak)


def _inside(
    operation: Operation, batched: list[bool], cost: _Cost, times: float
) -> tuple[int, int]:
    """Count an operation, and those inside it; bytes alive inside beyond its arguments."""
    name, equation = operation.name, operation.equation
    cost.primitives.add(name)
    loop = loop_of(equation)
    if loop is not None:
        flags, _ = _body_flags(operation, batched)
        turns = times
        if loop.length is None:
            cost.unknown_length = True
        else:
            turns *= loop.length
        return _body_peaks(loop.body, flags, cost, turns, slices=loop.slices)
    if name == "cond":
        given = [i >= 0 and batched[i] for i in operation.inputs[1:]]
        every = given if not (operation.inputs[0] >= 0 and batched[operation.inputs[0]]) else None
        # Batched conditions compute all branches; others one, of which any counts as much.
        branches = sub_jaxprs(equation)
        part = times if every is None else times / len(branches)
        inner = [_body_peaks(branch, given, cost, part) for branch in branches]
        return max(a for a, _ in inner), max(b for _, b in inner)
    if name == "conv_general_dilated" and operation.inputs[1] >= 0:
        cost.kernels_differ |= batched[operation.inputs[1]]
    cost.flops += times * _flops(equation)
    return 0, 0


def _body_peaks(
    jaxpr: Any, flags: Sequence[bool], cost: _Cost, times: float, slices: int = 0
) -> tuple[int, int]:
    """Bytes that a body needs beyond its arguments; slices of a scan are its own."""
    body = flatten(jaxpr)
    batched = _batched(body, [False] * body.num_constants + list(flags))
    peak, shared = _peaks(body, batched, cost, times)
    outside = body.inputs[: len(body.inputs) - slices]
    peak -= sum(body.sizes[i] for i in outside)
    shared -= sum(body.sizes[i] for i in outside if not batched[i])
    return max(peak, 0), max(shared, 0)


def _materialized(flat: Flattened) -> list[bool]:
    """Which values are in memory: not those that are fused into all that use them."""
    users: list[list[Operation]] = [[] for _ in flat.sizes]
    for operation in flat.operations:
        for i in operation.inputs:
            if i >= 0:
                users[i].append(operation)
    kept = [True] * len(flat.sizes)
    results = set(flat.outputs)
    for operation in flat.operations:
        if operation.name not in _FUSED:
            continue
        for i in operation.outputs:
            fused = all(u.name in _FUSED or u.name in _REDUCTIONS for u in users[i])
            cheap = operation.name in _FREE or len(users[i]) <= 1 or flat.sizes[i] <= _SCALAR
            kept[i] = i in results or not (fused and cheap)
    return kept


def _last_uses(flat: Flattened, kept: list[bool]) -> list[int]:
    """Position of the last operation that reads each value, through what is fused."""
    last = [-1] * len(flat.sizes)
    for position in range(len(flat.operations) - 1, -1, -1):
        operation = flat.operations[position]
        # A fused operation runs where its result is used.
        runs = max([position, *(last[i] for i in operation.outputs if not kept[i])])
        for i in operation.inputs:
            if i >= 0:
                last[i] = max(last[i], runs)
    return last


def _flops(equation: core.JaxprEqn) -> float:
    name = equation.primitive.name
    shapes = [getattr(v.aval, "shape", ()) for v in equation.invars]
    out = math.prod(getattr(equation.outvars[0].aval, "shape", ())) if equation.outvars else 0
    if name == "dot_general":
        (contracted, _), _ = equation.params["dimension_numbers"]
        return 2.0 * out * math.prod(shapes[0][i] for i in contracted)
    if name == "conv_general_dilated":
        features = equation.params["dimension_numbers"].rhs_spec[0]
        groups = equation.params["batch_group_count"]
        return 2.0 * out * math.prod(shapes[1]) / max(shapes[1][features], 1) / groups
    if name in _REDUCTIONS:
        return float(math.prod(shapes[0]))
    if name == "sort":
        return float(out * max(np.log2(max(out, 2)), 1.0))
    if name in _RANDOM:
        return _FLOPS_PER_RANDOM * out
    return float(out) if name in _ELEMENTWISE else 0.0


#: Values of so few bytes are computed again wherever they are used.
_SCALAR = 64
#: Integer operations behind one random word.
_FLOPS_PER_RANDOM = 60.0
_RANDOM = frozenset({"random_bits", "threefry2x32", "random_gamma"})
_ELEMENTWISE = frozenset(
    {
        "abs",
        "acos",
        "acosh",
        "add",
        "add_any",
        "and",
        "asin",
        "asinh",
        "atan",
        "atan2",
        "atanh",
        "bessel_i0e",
        "bessel_i1e",
        "cbrt",
        "ceil",
        "clamp",
        "cos",
        "cosh",
        "digamma",
        "div",
        "eq",
        "erf",
        "erf_inv",
        "erfc",
        "exp",
        "exp2",
        "expm1",
        "floor",
        "ge",
        "gt",
        "igamma",
        "imag",
        "integer_pow",
        "is_finite",
        "le",
        "lgamma",
        "log",
        "log1p",
        "logistic",
        "lt",
        "max",
        "min",
        "mul",
        "ne",
        "neg",
        "nextafter",
        "not",
        "or",
        "population_count",
        "pow",
        "real",
        "rem",
        "round",
        "rsqrt",
        "select_n",
        "shift_left",
        "shift_right_arithmetic",
        "shift_right_logical",
        "sign",
        "sin",
        "sinh",
        "sqrt",
        "square",
        "sub",
        "tan",
        "tanh",
        "xor",
    }
)
#: Only move or name values.
_FREE = frozenset(
    {
        "bitcast_convert_type",
        "broadcast_in_dim",
        "convert_element_type",
        "copy",
        "copy_p",
        "expand_dims",
        "iota",
        "pad",
        "reduce_precision",
        "reshape",
        "rev",
        "slice",
        "squeeze",
        "stop_gradient",
        "transpose",
        "random_wrap",
        "random_unwrap",
    }
)
_FUSED = _ELEMENTWISE | _FREE
_REDUCTIONS = frozenset(
    {
        "argmax",
        "argmin",
        "cumlogsumexp",
        "cummax",
        "cummin",
        "cumprod",
        "cumsum",
        "reduce_and",
        "reduce_max",
        "reduce_min",
        "reduce_or",
        "reduce_prod",
        "reduce_sum",
        "reduce_xor",
    }
)
_IN_PLACE = _FUSED | {"dynamic_update_slice", "scatter", "scatter-add", "scatter_add"}
