"""Everything of JAX here that may change between versions: Pallas, its Triton backend, presets.

Other files of this package use JAX's public interface. Where a version lacks something, `missing`
says what, the planner takes `vmap`, and `executor="kernel"` is an error of one line.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

#: Arithmetic of a product of float32 numbers -> JAX's name of it.
PRESETS = {
    "bf16x3": "BF16_BF16_F32_X3",
    "bf16x6": "BF16_BF16_F32_X6",
    "tf32x3": "TF32_TF32_F32_X3",
    "scalar": "F32_F32_F32",
    "tf32": "TF32_TF32_F32",
    "bfloat16": "BF16_BF16_F32",
}
#: Shared memory of one block on an H100, bytes; what is assumed where no GPU tells its own.
SHARED_BYTES = 232_448
#: Tensor cores multiply bfloat16 and TF32 from here on.
_LEAST_CAPABILITY = 8.0


class _Names(NamedTuple):
    call: Any
    block: Any
    slice: Any
    when: Any
    params: Any
    assembly: Any


class Machine(NamedTuple):
    """What the planner must know of a GPU.

    Attributes:
      problem: why it can run no kernel; "" if it can.
      shared_bytes: of memory that one program may have on the chip besides registers.
    """

    problem: str = ""
    shared_bytes: int = SHARED_BYTES


@functools.cache
def _names() -> _Names:
    from jax.experimental import pallas
    from jax.experimental.pallas import triton

    return _Names(
        pallas.pallas_call,
        pallas.BlockSpec,
        pallas.ds,
        pallas.when,
        triton.CompilerParams,
        triton.elementwise_inline_asm,
    )


def missing(precision: str = "bf16x3") -> str:
    """What this JAX lacks, in words; "" if it has everything."""
    try:
        _names()
        preset(precision)
    except (ImportError, AttributeError) as error:
        return f"JAX {jax.__version__} has no kernels as they are needed: {error}"
    return ""


def preset(precision: str) -> Any:
    """What `jax.lax.dot_general` takes as `precision`."""
    return getattr(jax.lax.DotAlgorithmPreset, PRESETS[precision])


def machine(devices: Sequence[Any] | None = None) -> Machine:
    """What is known of the GPUs of this process; an H100 where there are none.

    Args:
      devices: all local ones by default.
    """
    first = (devices or jax.local_devices())[0]
    if first.platform == "cpu":
        return Machine()
    if first.platform == "tpu" or "rocm" in str(getattr(first.client, "platform_version", "")):
        return Machine("kernels are written for NVIDIA's GPUs")
    try:
        capability = float(first.compute_capability)
    except (AttributeError, ValueError):
        capability = _LEAST_CAPABILITY
    if capability < _LEAST_CAPABILITY:
        return Machine(f"a GPU of compute capability {capability:g} has no tensor cores for it")
    found = getattr(first, "shared_memory_per_block_optin", None)
    return Machine("", int(found) if found else SHARED_BYTES)


def rows(start: Any, size: int) -> Any:
    """An index: `size` rows of a reference from `start` on, which may be traced."""
    return _names().slice(start, size)


def when(condition: Any) -> Callable[[Callable[[], None]], None]:
    """A decorator: run the function's effects where `condition` holds."""
    decorator: Callable[[Callable[[], None]], None] = _names().when(condition)
    return decorator


def launch(
    body: Callable[..., None],
    num_programs: int,
    own: Sequence[Any],
    shared: Sequence[Any],
    results: Sequence[jax.ShapeDtypeStruct],
    warps: int,
    interpret: bool,
) -> list[Any]:
    """Run a program for each trial.

    Args:
      body: of references: those of `own`, of `shared`, of `results`; their leading axis, of
        trials, is of size 1.
      num_programs: trials.
      own: arrays [num_programs, ...].
      shared: arrays that all programs see whole.
      results: shapes and dtypes, [num_programs, ...].
      warps: of 32 threads, that run one program.
      interpret: whether to run on whatever device there is, for tests.
    """
    names = _names()

    def of_trial(x: Any) -> Any:
        zeros = (0,) * (len(x.shape) - 1)
        return names.block((1, *x.shape[1:]), lambda t: (t, *zeros))

    def whole(x: Any) -> Any:
        zeros = (0,) * len(x.shape)
        return names.block(x.shape, lambda t: zeros)

    options: dict[str, Any] = {"compiler_params": names.params(num_warps=warps, num_stages=1)}
    call = names.call(
        body,
        grid=(num_programs,),
        in_specs=[*map(of_trial, own), *map(whole, shared)],
        out_specs=[of_trial(x) for x in results],
        out_shape=list(results),
        **({"interpret": True} if interpret else options),
    )
    return list(call(*own, *shared))


def product(a: Any, b: Any, dimensions: Any, precision: str | None, by_parts: bool = True) -> Any:
    """A product of two matrices of float32.

    Args:
      a: [m, k] or [k, m].
      b: [k, n] or [n, k].
      dimensions: as `jax.lax.dot_general` takes them.
      precision: a key of `PRESETS`; None multiplies as the device does by itself.
      by_parts: whether three passes of bfloat16 are made of products of parts here: quicker, and
        the parts take registers until they are used again.
    """

    def multiply(a: Any, b: Any, chosen: Any = None) -> Any:
        return jax.lax.dot_general(
            a, b, dimensions, precision=chosen, preferred_element_type=jnp.float32
        )

    if precision != "bf16x3" or not by_parts:
        return multiply(a, b, None if precision is None else preset(precision))
    # As the preset does it, least first, without its pass over the results for infinite factors:
    # those give what is not a number here.
    (high_a, low_a), (high_b, low_b) = _parts(a), _parts(b)
    return multiply(low_a, high_b) + multiply(high_a, low_b) + multiply(high_a, high_b)


def _parts(x: Any) -> tuple[Any, Any]:
    """Two arrays of bfloat16 whose sum is x to 17 bits."""
    high = _assembled("cvt.rn.bf16x2.f32 $0, $2, $1;", "=r,f,f", [x], jnp.bfloat16, pack=2)
    low = _assembled(
        """{
        .reg .b32 first, second;
        .reg .f32 a, b;
        shl.b32 first, $3, 16;
        and.b32 second, $3, 0xffff0000;
        mov.b32 a, first;
        mov.b32 b, second;
        sub.f32 a, $1, a;
        sub.f32 b, $2, b;
        cvt.rn.bf16x2.f32 $0, b, a;
        }""",
        "=r,f,f,r",
        [x, high],
        jnp.bfloat16,
        pack=2,
    )
    return high, low


def fma(a: Any, b: Any, c: Any, plain: bool) -> Any:
    """a * b + c of arrays of float32 of one shape, rounded once; twice if `plain`."""
    if plain:
        return a * b + c
    return _assembled("fma.rn.f32 $0, $1, $2, $3;", "=f,f,f,f", [a, b, c])


def quotient(a: Any, b: Any, plain: bool) -> Any:
    """a / b to 2 units in the last place; 0 where b is above 8.5e37. `plain` as JAX divides."""
    return a / b if plain else _assembled("div.approx.ftz.f32 $0, $1, $2;", "=f,f,f", [a, b])


def root(x: Any, plain: bool) -> Any:
    """The square root to a unit in the last place; `plain` as JAX computes it."""
    return jnp.sqrt(x) if plain else _assembled("sqrt.approx.ftz.f32 $0, $1;", "=f,f", [x])


def extreme(name: str, a: Any, b: Any) -> Any:
    """The "max" or "min" of arrays of float32 of one shape; what is not a number wins."""
    return _assembled(f"{name}.NaN.f32 $0, $1, $2;", "=f,f,f", [a, b])


def _assembled(
    code: str, constraints: str, arrays: list[Any], dtype: Any = jnp.float32, pack: int = 1
) -> Any:
    """Instructions of PTX for each `pack` elements of arrays of one shape."""
    like = jax.ShapeDtypeStruct(arrays[0].shape, dtype)
    (found,) = _names().assembly(
        code, args=arrays, constraints=constraints, pack=pack, result_shape_dtypes=[like]
    )
    return found
