"""How trials are executed together: one after another or as a batch, and how many at once.

The constants are set by `scripts/bench_executors.py` (numbers in `docs/performance.md`). A lone
trial on a core takes some 0.4 microseconds per operation and 0.03 nanoseconds per floating-point
operation; a batch saves the first part, and loses time where it no longer fits the caches.
"""

from collections.abc import Callable
from typing import Any, Literal

from jaxopt_lab.core.errors import UserError, did_you_mean
from jaxopt_lab.core.row_loop import NO_LOOP
from jaxopt_lab.core.tracing.footprint import Footprint

Executor = Literal["vmap", "map", "kernel", "kernel-interpreted"]
EXECUTORS: tuple[Executor, ...] = ("vmap", "map", "kernel")
#: The executor `kernel` on whatever device there is: for tests.
INTERPRETED: Executor = "kernel-interpreted"

#: Widest cohort on an accelerator, and on a CPU.
MAX_ACCELERATOR_WIDTH, MAX_CPU_WIDTH = 1024, 256
#: Of a kernel, whose trials do not wait for each other: enough to fill a GPU many times, and few
#: enough that the host takes one cohort apart while the next one trains.
MAX_KERNEL_WIDTH = 4096
#: Up to this width, batching still saves much: a cohort may fill `CACHE_BYTES` of a core's caches,
#: and `FAR_CACHE_BYTES` if more than `LARGE_SHARE` of a lone trial's time is fixed cost.
MIDDLE_WIDTH = 16
CACHE_BYTES, FAR_CACHE_BYTES, LARGE_SHARE = 2**22, 2**24, 0.5
#: What a wider cohort may fill: the second-level cache.
NEAR_CACHE_BYTES = 2**19
#: Memory for the trials of a cohort on an accelerator, bytes.
ACCELERATOR_BYTES = 4 * 2**30
#: Fixed cost of an operation on a core, and of one floating-point operation, seconds; of one in a
#: program that trains convolutions.
SECONDS_PER_OPERATION, SECONDS_PER_FLOP, SECONDS_PER_CONVOLUTION_FLOP = 4e-7, 3e-11, 5e-10
#: Batching must be able to save this share of a trial's time, or it is not worth leaving the cache.
LEAST_SHARE = 0.1
#: A call that lasts so long, in seconds, is not held up by what the host does around it.
_CALL_SECONDS = 0.1
#: Trials of one call that run one after another, at most.
_MAX_IN_TURN = 64


def checked_executor(executor: Any) -> Executor | None:
    """An executor by its name, or None, as a problem is given it.

    Raises:
      UserError: for any other value.
    """
    if executor is None:
        return None
    for known in (*EXECUTORS, INTERPRETED):
        if isinstance(executor, str) and executor == known:
            return known
    hint = did_you_mean(executor, EXECUTORS) if isinstance(executor, str) else ""
    names = ", ".join(map(repr, EXECUTORS))
    raise UserError(
        f"executor must be one of {names}, or None for the planner's choice, "
        f"got {executor!r}.{hint}"
    )


def choose_executor(
    footprint: Footprint | None,
    platform: str,
    insist: str | None = None,
    misfit: Callable[[bool], str] | None = None,
) -> tuple[Executor, str]:
    """Choose how the trials of a cohort run.

    "vmap" as one batch, "map" one after another, "kernel" each in a program of its own on a GPU.

    Args:
      footprint: of one trial's unit; None where nobody chooses for a CPU.
      platform: "cpu", "gpu" or "tpu".
      insist: what the user asks for, if anything.
      misfit: (whether to interpret it) -> why no kernel can train a trial, "" if one can; None if
        there is nothing to make a kernel of.

    Returns:
      The executor and the reason, in words for a plan.

    Raises:
      UserError: if the user asks for another one, or for a kernel that cannot be.
    """
    executor = checked_executor(insist)
    if executor is not None:
        _check_kernel(executor, platform, misfit)
        return executor, "as asked for"
    if platform == "gpu" and misfit is not None:
        reason = misfit(False)
        if not reason:
            return "kernel", "weights and moments stay on the chip for a whole epoch"
        return "vmap", reason
    if platform != "cpu":
        return "vmap", "an accelerator computes a batch of trials at once"
    assert footprint is not None
    if footprint.kernels_differ:
        return "map", (
            "convolutions whose kernels differ by trial would be batched into grouped "
            "convolutions, which are slow on a CPU"
        )
    share = overhead_share(footprint)
    if share < LEAST_SHARE:
        return "map", (
            f"its operations are large: batching could save {share:.0%} of the time at most, and "
            "leaves the cache"
        )
    return "vmap", f"a batch shares the fixed cost of operations, some {share:.0%} of the time"


def _check_kernel(executor: Executor, platform: str, misfit: Callable[[bool], str] | None) -> None:
    if executor not in ("kernel", INTERPRETED):
        return
    reason = ""
    if misfit is None:
        reason = NO_LOOP
    elif executor == "kernel" and platform != "gpu":
        reason = f"it is for NVIDIA's GPUs, and this is a {platform.upper()}"
    reason = reason or misfit(executor == INTERPRETED) if misfit else reason
    if reason:
        raise UserError(f"executor='kernel' cannot be had here: {reason}; leave executor out")


def choose_width(
    footprint: Footprint,
    executor: Executor,
    platform: str,
    num_trials: int,
    limit_bytes: int | None = None,
) -> int:
    """Choose how many trials a device trains in one call.

    Args:
      footprint: of one trial's unit.
      executor: "vmap", "map" or "kernel".
      platform: "cpu", "gpu" or "tpu".
      num_trials: how many there are for each device, at most.
      limit_bytes: memory that a device's trials may take.

    Returns:
      A power of two, at most the first one from `num_trials` on.
    """
    widest = _power_from(max(num_trials, 1))
    if executor == "map":
        room = (limit_bytes or ACCELERATOR_BYTES) - footprint.peak_bytes
        in_turn = _power_from(_CALL_SECONDS / max(seconds_of(footprint), 1e-9))
        fitting = _power_up_to(room / max(footprint.state_bytes, 1))
        return max(1, min(widest, in_turn, fitting, _MAX_IN_TURN))
    if executor.startswith("kernel"):
        # What a trial computes with stays on the chip.
        fitting = _power_up_to((limit_bytes or ACCELERATOR_BYTES) / max(footprint.state_bytes, 1))
        return max(1, min(widest, MAX_KERNEL_WIDTH, fitting))
    each = max(footprint.trial_bytes, 1)
    if platform != "cpu":
        room = (limit_bytes or ACCELERATOR_BYTES) - footprint.shared_bytes
        return max(1, min(widest, MAX_ACCELERATOR_WIDTH, _power_up_to(room / each)))
    room = FAR_CACHE_BYTES if overhead_share(footprint) > LARGE_SHARE else CACHE_BYTES
    width = max(
        min(MAX_CPU_WIDTH, _power_up_to(NEAR_CACHE_BYTES / each)),
        min(MIDDLE_WIDTH, _power_up_to(room / each)),
    )
    if limit_bytes is not None:
        width = min(width, _power_up_to((limit_bytes - footprint.shared_bytes) / each))
    return max(1, min(widest, width))


def overhead_share(footprint: Footprint) -> float:
    """The share of a lone trial's time on a core that the fixed cost of operations takes."""
    fixed = SECONDS_PER_OPERATION * footprint.num_operations
    return fixed / max(seconds_of(footprint), 1e-12)


def seconds_of(footprint: Footprint) -> float:
    """The seconds that a unit of one trial takes on a core: the order of magnitude, no more."""
    fixed = SECONDS_PER_OPERATION * footprint.num_operations
    each = SECONDS_PER_CONVOLUTION_FLOP if footprint.kernels_differ else SECONDS_PER_FLOP
    return fixed + each * footprint.flops


def _power_up_to(bound: int | float) -> int:
    """The largest power of two up to a bound; 0 if that is below 1."""
    return 1 << (int(bound).bit_length() - 1) if bound >= 1 else 0


def _power_from(bound: int | float) -> int:
    """The least power of two from a bound on."""
    power = 1
    while power < bound:
        power *= 2
    return power
