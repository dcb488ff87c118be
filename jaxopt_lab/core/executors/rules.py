"""How a kernel computes each kind of equation on padded arrays."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lab.core.executors import instructions, pallas
from jaxopt_lab.core.executors.padding import (
    LEAST,
    NoKernelForm,
    Padded,
    cleaned,
    inside,
    masked,
    padded_shape,
    padded_size,
)
from jaxopt_lab.core.executors.values import Context, Keys, Rule, Static, as_padded

#: Numbers that a product element by element may hold at once.
_MOST_PRODUCTS = 2**17
_MIXES = "its rows are not computed apart from each other ({})"


def _array_rule(function: Callable[[Context, Any, list[Padded]], Padded]) -> Rule:
    """A rule of arrays with one result."""

    def rule(context: Context, equation: Any, values: list[Any]) -> list[Any]:
        return [function(context, equation, [as_padded(value) for value in values])]

    return rule


def _shape_of(equation: Any) -> tuple[int, ...]:
    return tuple(equation.outvars[0].aval.shape)


def _rows_of(values: list[Padded], context: Context, name: str) -> int | None:
    """The axis of rows of a result that is computed element by element."""
    axes = {value.rows for value in values if value.rows is not None}
    if len(axes) > 1 and context.apart:
        raise NoKernelForm(_MIXES.format(name))
    return next(iter(axes), None)


#: What gives zero, of zeros in all of its arguments.
_KEEPS_ZERO = frozenset(
    {
        "abs", "add", "add_any", "and", "asin", "asinh", "atan", "atanh", "bitcast_convert_type",
        "cbrt", "ceil", "convert_element_type", "erf_inv", "expm1", "floor", "log1p", "max", "min",
        "mul", "neg", "or", "population_count", "shift_left", "shift_right_arithmetic",
        "shift_right_logical", "sign", "sin", "sinh", "sqrt", "square", "sub", "tan", "tanh", "xor",
    }
)  # fmt: skip
_ELEMENTWISE = _KEEPS_ZERO | {
    "acos", "acosh", "atan2", "clamp", "clz", "cos", "cosh", "div", "eq", "exp", "exp2", "ge", "gt",
    "integer_pow", "is_finite", "le", "log", "log2", "logistic", "lt", "ne", "nextafter", "not",
    "one_minus_square", "pow", "rem", "rsqrt", "select_n",
}  # fmt: skip


def _elementwise(context: Context, equation: Any, values: list[Padded]) -> Padded:
    name, shape = equation.primitive.name, _shape_of(equation)
    arrays, made_of = [value.array for value in values], None
    if name in ("max", "min") and jnp.issubdtype(values[0].dtype, jnp.floating):
        array = _extreme(context, name, shape, *arrays)
    elif name == "select_n" and (len(arrays) > 3 or values[0].dtype != jnp.bool_):
        array = _chosen(shape, *arrays)
    elif found := instructions.compute(context, equation, values):
        array, made_of = found
    else:
        array = equation.primitive.bind(*arrays, **equation.params)
    counted = values[1:] if name == "select_n" else values
    keeps = name in _KEEPS_ZERO or name == "select_n"
    keeps |= name == "integer_pow" and equation.params["y"] > 0
    alike = all(value.shape in (shape, ()) for value in counted)
    scalars = [value for value in counted if value.shape == () != shape]
    # A number times zero is zero unless it is infinite.
    clean = keeps and alike and all(value.is_clean for value in counted)
    clean &= all(isinstance(value.array, np.generic) and not value.array for value in scalars)
    return Padded(array, shape, clean, _rows_of(values, context, name), made_of)


def _extreme(context: Context, name: str, shape: tuple[int, ...], x: Any, y: Any) -> Any:
    """What is not a number stays it; what JAX's lowering takes would drop it."""
    x, y = (jnp.broadcast_to(jnp.asarray(array), padded_shape(shape)) for array in (x, y))
    if context.precision is not None and shape and x.dtype == jnp.float32:
        return pallas.extreme(name, x, y)
    wins = (x >= y) if name == "max" else (x <= y)
    return jnp.where(wins | (x != x), x, y)


def _chosen(shape: tuple[int, ...], which: Any, *cases: Any) -> Any:
    """By a number: what a kernel has chooses between two, by a truth value."""
    which, *full = (jnp.broadcast_to(x, padded_shape(shape)) for x in (which, *cases))
    found = full[-1]
    for number in reversed(range(len(full) - 1)):
        found = jnp.where(which <= number, full[number], found)
    return found


def _round(context: Context, equation: Any, values: list[Padded]) -> Padded:
    """Of floats: a kernel rounds down only."""
    del context
    (value,) = values
    x = value.array
    if int(equation.params["rounding_method"]) == 0:  # halves away from zero
        found = jnp.sign(x) * jnp.floor(jnp.abs(x) + 0.5)
    else:  # halves to even numbers
        below = jnp.floor(x)
        is_odd = below != 2 * jnp.floor(0.5 * below)
        over = x - below
        found = jnp.where((over > 0.5) | ((over == 0.5) & is_odd), below + 1, below)
    return Padded(found, value.shape, value.clean, value.rows)


def _static_or_elementwise(context: Context, equation: Any, values: list[Any]) -> list[Any]:
    """Numbers that are known stay known: which branch a platform takes, say."""
    if all(isinstance(value, Static) for value in values):
        numbers = [value.value for value in values]
        if equation.primitive.name == "clamp":
            return [Static(np.clip(numbers[1], numbers[0], numbers[2]))]
        if equation.primitive.name == "convert_element_type":
            return [Static(numbers[0].astype(equation.params["new_dtype"]))]
    return [_elementwise(context, equation, [as_padded(value) for value in values])]


def _identity(context: Context, equation: Any, values: list[Any]) -> list[Any]:
    del context, equation
    return values


def _platform(context: Context, equation: Any, values: list[Any]) -> list[Any]:
    """What runs on a GPU, or anywhere."""
    del context, values
    platforms = equation.params["platforms"]
    for number, names in enumerate(platforms):
        if names is None or "cuda" in names:
            return [Static(np.int32(number))]
    raise NoKernelForm("what runs on no GPU has no kernel form")


def _iota(context: Context, equation: Any, values: list[Padded]) -> Padded:
    del context, values
    shape, axis = _shape_of(equation), equation.params["dimension"]
    dtype = equation.params["dtype"]
    return Padded(jax.lax.broadcasted_iota(dtype, padded_shape(shape), axis), shape)


def _broadcast(context: Context, equation: Any, values: list[Padded]) -> Padded:
    del context
    (value,), shape = values[:1], _shape_of(equation)
    axes = tuple(int(axis) for axis in equation.params["broadcast_dimensions"])
    array = jax.lax.broadcast_in_dim(value.array, padded_shape(shape), axes)
    kept = {to for to, size in zip(axes, value.shape, strict=True) if size == shape[to]}
    new = [i for i in range(len(shape)) if i not in kept]
    zero = isinstance(value.array, np.generic) and not value.array
    clean = zero or (value.is_clean and all(padded_size(shape[i]) == shape[i] for i in new))
    rows = None if value.rows is None else axes[value.rows]
    is_number = isinstance(value.array, np.generic)
    made_of = instructions.Constant(value.array) if is_number else None
    return Padded(array, shape, clean, rows, made_of)


def _reshape(context: Context, equation: Any, values: list[Padded]) -> Padded:
    (value,), shape = values[:1], _shape_of(equation)
    return _reshaped(context, value, shape)


def _reshaped(context: Context, value: Padded, shape: tuple[int, ...]) -> Padded:
    real = tuple(n for n in value.shape if n != 1)
    if real != tuple(n for n in shape if n != 1):
        whole = value.is_whole and padded_shape(shape) == shape
        if not whole:
            raise NoKernelForm(
                f"a reshape from {list(value.shape)} to {list(shape)} has no kernel form: these "
                "sizes are padded"
            )
    rows = _rows_after_reshape(context, value, shape)
    return Padded(value.array.reshape(padded_shape(shape)), shape, value.clean, rows)


def _rows_after_reshape(context: Context, value: Padded, shape: tuple[int, ...]) -> int | None:
    if value.rows is None:
        return None
    before, size = int(np.prod(value.shape[: value.rows])), value.shape[value.rows]
    for axis in range(len(shape)):
        if int(np.prod(shape[:axis])) == before and shape[axis] == size:
            return axis
    if context.apart:
        raise NoKernelForm(_MIXES.format("reshape"))
    return None


def _transpose(context: Context, equation: Any, values: list[Padded]) -> Padded:
    del context
    (value,), order = values, tuple(equation.params["permutation"])
    rows = None if value.rows is None else order.index(value.rows)
    return Padded(jax.lax.transpose(value.array, order), _shape_of(equation), value.clean, rows)


def _stack(context: Context, equation: Any, values: list[Padded]) -> Padded:
    """Of numbers."""
    del context
    if any(value.shape for value in values):
        raise NoKernelForm("stacking arrays (stack) has no kernel form")
    shape = _shape_of(equation)
    at = jax.lax.iota(jnp.int32, padded_shape(shape)[0])
    found = jnp.zeros(at.shape, values[0].dtype)
    for number, value in enumerate(values):
        found = jnp.where(at == number, value.array, found)
    return Padded(found, shape, True)


def _reduction(name: str) -> Callable[[Context, Any, list[Padded]], Padded]:
    def rule(context: Context, equation: Any, values: list[Padded]) -> Padded:
        (value,), axes = values, tuple(equation.params["axes"])
        rows = _rows_after_reduction(context, value, axes, name)
        shape = _shape_of(equation)
        if name in ("reduce_and", "reduce_or"):
            empty = name == "reduce_and"
            numbers = jnp.where(masked(value, empty, axes), np.int32(1), np.int32(0))
            found = numbers.min(axes) if empty else numbers.max(axes)
            return Padded(found > 0, shape, False, rows)
        if name == "reduce_sum":
            value = cleaned(value)
            array = value.array
        else:
            if value.dtype == jnp.bool_:
                value = replace(value, array=jnp.where(value.array, np.int32(1), np.int32(0)))
            array = masked(value, _neutral(name, value.dtype), axes)
        reduced = equation.primitive.bind(array, **equation.params)
        is_total = name == "reduce_sum" and shape == () and value.dtype == jnp.float32
        made_of = instructions.Total((value,)) if is_total else None
        return Padded(reduced, shape, name == "reduce_sum", rows, made_of)

    return rule


def _neutral(name: str, dtype: Any) -> Any:
    """What never wins."""
    is_max = name in ("reduce_max", "argmax")
    if jnp.issubdtype(dtype, jnp.floating):
        return -np.inf if is_max else np.inf
    if dtype == jnp.bool_:
        return not is_max
    limits = jnp.iinfo(dtype)
    return limits.min if is_max else limits.max


def _rows_after_reduction(
    context: Context, value: Padded, axes: tuple[int, ...], name: str
) -> int | None:
    if value.rows is None:
        return None
    if value.rows in axes:
        if context.apart:
            raise NoKernelForm(_MIXES.format(name))
        return None
    return value.rows - sum(axis < value.rows for axis in axes)


def _dot(context: Context, equation: Any, values: list[Padded]) -> Padded:
    dimensions = equation.params["dimension_numbers"]
    (contracted, batch), shape = dimensions, _shape_of(equation)
    a, b = map(cleaned, values)
    if tuple(map(len, batch)) != (0, 0):
        raise NoKernelForm("a product of stacks of matrices has no kernel form")
    if len(contracted[0]) != 1 or a.dtype != b.dtype or max(len(a.shape), len(b.shape)) > 2:
        raise NoKernelForm(
            f"a product of {list(a.shape)} and {list(b.shape)} over {list(contracted[0])} and "
            f"{list(contracted[1])} has no kernel form"
        )
    (along_a,), (along_b,) = contracted
    rows = _rows_after_product(context, a, b, along_a, along_b)
    sizes = [*padded_shape(a.shape), *padded_shape(b.shape)]
    on_tensor_cores = len(a.shape) == len(b.shape) == 2 and min(sizes) >= LEAST
    if on_tensor_cores and a.dtype == jnp.float32:
        array = pallas.product(a.array, b.array, dimensions, context.precision, context.by_parts)
    else:
        array = _by_elements(a, b, along_a, along_b).reshape(padded_shape(shape))
    return Padded(array, shape, True, rows)


def _by_elements(a: Padded, b: Padded, along_a: int, along_b: int) -> Any:
    """A product as a broadcast multiplication and a sum: of a head of few outputs."""
    x = a.array if len(a.shape) == 2 else a.array[None]
    y = b.array if len(b.shape) == 2 else b.array[:, None]
    first = along_a if len(a.shape) == 2 else 1
    second = along_b if len(b.shape) == 2 else 0
    if (first, second) == (0, 1):
        x, first = x.T, 1
    numbers = x.size * y.shape[1 - second]
    if numbers > _MOST_PRODUCTS:
        raise NoKernelForm(
            f"a product of {list(a.shape)} and {list(b.shape)} is too large to be multiplied "
            "element by element"
        )
    if (first, second) == (1, 0):
        return _summed(x[:, :, None] * y[None], 1)
    if (first, second) == (0, 0):
        return _summed(x[:, :, None] * y[:, None, :], 0)
    return _summed(x[:, None, :] * y[None], 2)


def _summed(array: Any, axis: int) -> Any:
    if array.shape[axis] == 1:
        return array.reshape(array.shape[:axis] + array.shape[axis + 1 :])
    return array.sum(axis)


def _rows_after_product(
    context: Context, a: Padded, b: Padded, along_a: int, along_b: int
) -> int | None:
    if a.rows is None and b.rows is None:
        return None
    both = a.rows is not None and b.rows is not None
    if both or a.rows == along_a or b.rows == along_b:
        if context.apart:
            raise NoKernelForm(_MIXES.format("a product of rows with rows"))
        return None
    if a.rows is not None:
        return a.rows - (along_a < a.rows)
    assert b.rows is not None
    return len(a.shape) - 1 + b.rows - (along_b < b.rows)


def _slice(context: Context, equation: Any, values: list[Any]) -> list[Any]:
    (value,), params = values, equation.params
    starts, ends = params["start_indices"], params["limit_indices"]
    if isinstance(value, Keys):
        words = value.words[2 * starts[0] : 2 * ends[0]]
        return [Keys(words, (ends[0] - starts[0],))]
    found, shape = as_padded(value), _shape_of(equation)
    for axis, start in enumerate(starts):
        if found.shape[axis] == shape[axis]:
            continue
        if shape[axis] != 1:
            raise NoKernelForm(
                f"a slice of {shape[axis]} of {found.shape[axis]} has no kernel form"
            )
        found = _picked(context, found, axis, np.int32(start))
        found = _reshaped(context, found, (*found.shape[:axis], 1, *found.shape[axis:]))
    return [found]


def _picked(context: Context, value: Padded, axis: int, index: Any) -> Padded:
    """The entries at an index along an axis, which goes; zero where there is none.

    Args:
      index: a number, or an array that can be broadcast against the value's.
    """
    if value.rows == axis and context.apart:
        raise NoKernelForm(_MIXES.format("an index into them"))
    whole = padded_shape(value.shape)
    here = jax.lax.broadcasted_iota(jnp.int32, whole, axis) == index
    array = jnp.where(here, value.array, jnp.zeros((), value.dtype))
    shape = value.shape[:axis] + value.shape[axis + 1 :]
    rows = value.rows
    if rows is not None:
        rows = None if rows == axis else rows - (axis < rows)
    return Padded(_summed(array, axis), shape, value.is_clean, rows)


def _pad(context: Context, equation: Any, values: list[Padded]) -> Padded:
    value, fill = values
    shape = _shape_of(equation)
    for axis, (low, high, interior) in enumerate(equation.params["padding_config"]):
        if (low, high, interior) == (0, 0, 0):
            continue
        if value.shape[axis] != 1 or low < 0 or high < 0 or value.rows == axis:
            raise NoKernelForm("padding by more than one entry has no kernel form")
        grown = (*value.shape[:axis], shape[axis], *value.shape[axis + 1 :])
        here = jax.lax.broadcasted_iota(jnp.int32, padded_shape(grown), axis) == low
        array = jnp.where(here, value.array, fill.array)
        zero = isinstance(fill.array, np.generic) and not fill.array
        value = Padded(array, grown, zero and value.is_clean, value.rows)
    del context
    return value


def _index_axis(dimensions: Any, prefix: str, operand: Padded, index: Padded) -> tuple[int, Any]:
    """The one axis that an index goes along, and the index, to be broadcast against the operand."""
    if prefix == "gather":
        axes, gone = dimensions.start_index_map, dimensions.collapsed_slice_dims
        of_indices = dimensions.start_indices_batching_dims
    else:
        axes, gone = dimensions.scatter_dims_to_operand_dims, dimensions.inserted_window_dims
        of_indices = dimensions.scatter_indices_batching_dims
    batch = dimensions.operand_batching_dims
    sizes = [1] * len(operand.shape)
    for axis in batch:
        sizes[axis] = operand.shape[axis]
    one_each = int(np.prod(index.shape)) == int(np.prod(sizes)) and list(of_indices) == sorted(
        of_indices
    )
    if len(axes) != 1 or tuple(gone) != tuple(axes) or not one_each:
        word = "reading" if prefix == "gather" else "adding"
        raise NoKernelForm(f"{word} at indices that depend on data ({prefix}) has no kernel form")
    return int(axes[0]), index.array.reshape(padded_shape(tuple(sizes)))


def _gather(context: Context, equation: Any, values: list[Padded]) -> Padded:
    """One entry for each row, as a loss of integer labels takes it."""
    operand, index = values
    dimensions, shape = equation.params["dimension_numbers"], _shape_of(equation)
    axis, where = _index_axis(dimensions, "gather", operand, index)
    sizes = equation.params["slice_sizes"]
    batch = dimensions.operand_batching_dims
    full = all(n == (1 if i in (axis, *batch) else operand.shape[i]) for i, n in enumerate(sizes))
    if not full:
        raise NoKernelForm("reading a part at indices (gather) has no kernel form")
    found = _picked(context, operand, axis, where)
    if "FILL" in str(equation.params["mode"]):
        lost = (where < 0) | (where >= operand.shape[axis])
        lost = jnp.broadcast_to(lost, [1 if i == axis else n for i, n in enumerate(lost.shape)])
        dropped = lost.reshape(lost.shape[:axis] + lost.shape[axis + 1 :])
        fill = equation.params["fill_value"]
        fill = np.nan if fill is None else fill
        array = jnp.where(dropped, jnp.asarray(fill, found.dtype), found.array)
        found = Padded(array, found.shape, False, found.rows)
    return _reshaped(context, found, shape)


def _scatter_add(context: Context, equation: Any, values: list[Padded]) -> Padded:
    operand, index, updates = values
    axis, where = _index_axis(equation.params["dimension_numbers"], "scatter-add", operand, index)
    sizes = tuple(1 if i == axis else n for i, n in enumerate(operand.shape))
    added = _reshaped(context, updates, sizes)
    here = jax.lax.broadcasted_iota(jnp.int32, padded_shape(operand.shape), axis) == where
    array = operand.array + jnp.where(here, added.array, jnp.zeros((), added.dtype))
    rows = operand.rows if added.rows is None else added.rows
    clean = operand.is_clean and added.is_clean and inside(operand.shape, (axis,)) is None
    return Padded(array, operand.shape, clean, rows)


def _words(key: Keys) -> tuple[Any, Any]:
    return key.words[0], key.words[1]


def _wrap(context: Context, equation: Any, values: list[Any]) -> list[Any]:
    del context
    value = as_padded(values[0])
    if value.shape != (2,) or "fry" not in str(equation.params.get("impl", "fry")):
        raise NoKernelForm("random keys of this kind have no kernel form")
    at = jax.lax.iota(jnp.int32, 2)
    zero = jnp.zeros((), jnp.uint32)
    return [Keys(tuple(jnp.where(at == i, value.array, zero).sum() for i in range(2)))]


def _fold_in(context: Context, equation: Any, values: list[Any]) -> list[Any]:
    del equation
    key, number = values
    message = jnp.asarray(as_padded(number).array).astype(jnp.uint32)
    return [Keys(context.noise.fold_in(_words(key), message))]


def _split(context: Context, equation: Any, values: list[Any]) -> list[Any]:
    (key,), shape = values, equation.params["shape"]
    if len(shape) != 1:
        raise NoKernelForm("arrays of random keys have no kernel form")
    words = [
        word
        for i in range(shape[0])
        for word in context.noise.fold_in(_words(key), jnp.asarray(i, jnp.uint32))
    ]
    return [Keys(tuple(words), tuple(shape))]


def _bits(context: Context, equation: Any, values: list[Any]) -> list[Any]:
    (key,), shape = values, tuple(equation.params["shape"])
    width = equation.params["bit_width"]
    if key.shape or width not in (8, 16, 32):
        raise NoKernelForm(f"random numbers of {width} bits have no kernel form")
    counters = jnp.zeros(padded_shape(shape), jnp.uint32)
    for axis, step in enumerate(np.cumprod([1, *shape[:0:-1]])[::-1][: len(shape)]):
        at = jax.lax.broadcasted_iota(jnp.uint32, padded_shape(shape), axis)
        if axis == 0 and shape[0] == context.num_rows:
            at = at + context.first_row
        counters = counters + at * jnp.asarray(int(step), jnp.uint32)
    bits = context.noise.bits(_words(key), counters)
    dtype = {8: jnp.uint8, 16: jnp.uint16, 32: jnp.uint32}[width]
    return [Padded(bits.astype(dtype), shape)]


def _squeeze(context: Context, equation: Any, values: list[Any]) -> list[Any]:
    (value,) = values
    if isinstance(value, Keys):
        return [Keys(value.words)]
    return [_reshaped(context, as_padded(value), _shape_of(equation))]


def _unstack(context: Context, equation: Any, values: list[Any]) -> list[Any]:
    (value,), axis = values, equation.params["axis"]
    if isinstance(value, Keys):
        words = value.words
        return [Keys(words[2 * i : 2 * i + 2]) for i in range(len(words) // 2)]
    found = as_padded(value)
    return [_picked(context, found, axis, np.int32(i)) for i in range(found.shape[axis])]


RULES: dict[str, Rule] = {
    **dict.fromkeys(_ELEMENTWISE, _array_rule(_elementwise)),
    **dict.fromkeys(("clamp", "convert_element_type"), _static_or_elementwise),
    **dict.fromkeys(
        ("copy", "copy_p", "optimization_barrier", "stop_gradient", "random_clone"), _identity
    ),
    **{
        name: _array_rule(_reduction(name))
        for name in (
            "reduce_sum", "reduce_max", "reduce_min", "reduce_and", "reduce_or", "argmax", "argmin"
        )
    },
    "round": _array_rule(_round),
    "platform_index": _platform,
    "iota": _array_rule(_iota),
    "broadcast_in_dim": _array_rule(_broadcast),
    "reshape": _array_rule(_reshape),
    "squeeze": _squeeze,
    "expand_dims": _array_rule(_reshape),
    "transpose": _array_rule(_transpose),
    "stack": _array_rule(_stack),
    "dot_general": _array_rule(_dot),
    "slice": _slice,
    "unstack": _unstack,
    "pad": _array_rule(_pad),
    "gather": _array_rule(_gather),
    "scatter-add": _array_rule(_scatter_add),
    "random_wrap": _wrap,
    "random_fold_in": _fold_in,
    "random_split": _split,
    "random_bits": _bits,
}  # fmt: skip
