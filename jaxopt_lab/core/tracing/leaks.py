"""Whether traced values outlive their trace."""

import gc
from collections.abc import Callable
from typing import Any

import jax

#: How the message of JAX's own check begins.
_LEAK = "Leaked trace"


def is_leak(error: BaseException | None) -> bool:
    """Whether an exception says that a traced value outlived its trace."""
    leaked = isinstance(error, jax.errors.UnexpectedTracerError)
    return leaked or str(error).startswith(_LEAK)


def leaves_tracers(trace: Callable[[], Any]) -> bool:
    """Whether traced values can still be reached after a trace.

    JAX's own check (`jax.checking_leaks`) also reports objects that refer to each other in a circle
    and would be collected a moment later; this one collects first.

    Args:
      trace: what is traced, once.
    """
    before = {id(tracer) for tracer in _alive()}
    trace()
    return any(id(tracer) not in before for tracer in _alive())


def _alive() -> list[Any]:
    gc.collect()
    return [thing for thing in gc.get_objects() if issubclass(type(thing), jax.core.Tracer)]
