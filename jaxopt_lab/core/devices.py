"""Devices: on a CPU, one JAX device per core."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import jax

from jaxopt_lab.core.errors import UserError


def num_cores() -> int:
    """Processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def use_cores_of(num_devices: int) -> int:
    """`use_all_cores` for a process that shares its machine with others of its kind: so many CPU
    devices, and no more threads than devices to compute on them.

    XLA computes on a thread for each core of the machine whatever the number of devices, so that
    processes of one device each would take each other's cores.

    Returns:
      The number of CPU devices.

    Raises:
      UserError: if JAX has already started with another number.
    """
    os.environ["NPROC"] = str(num_devices)  # XLA's own word for it, read when JAX starts
    return use_all_cores(num_devices)


def use_all_cores(num_devices: int | None = None) -> int:
    """Make one JAX CPU device per core; call it before JAX computes anything.

    Args:
      num_devices: another number of devices.

    Returns:
      The number of CPU devices.

    Raises:
      UserError: if JAX has already started with another number.
    """
    wanted = num_devices or num_cores()
    try:
        jax.config.update("jax_num_cpu_devices", wanted)
    except RuntimeError:
        found = jax.local_device_count("cpu")
        if found != wanted:
            raise UserError(
                f"JAX has already started with {found} CPU device(s), not {wanted}; call "
                "use_all_cores() right after importing, before JAX computes anything"
            ) from None
    return wanted


def accelerator() -> str:
    """What is meant by an accelerator here: "gpu" or "tpu"; "gpu" where there is none."""
    return "tpu" if jax.default_backend() == "tpu" else "gpu"


@contextmanager
def float64() -> Iterator[None]:
    """Run what follows in float64 where it asks for it; nothing global is changed."""
    # JAX 0.7 has it elsewhere only, where later ones call it deprecated.
    place = jax if hasattr(jax, "enable_x64") else jax.experimental
    with place.enable_x64(True):  # type: ignore[attr-defined]
        yield


@contextmanager
def on_host() -> Iterator[None]:
    """Run what follows on a CPU device: small programs, of which an accelerator takes seconds to
    compile each. Where JAX was started without a CPU backend, on what there is."""
    with ExitStack() as stack:
        with suppress(RuntimeError):
            stack.enter_context(jax.default_device(jax.local_devices(backend="cpu")[0]))
        yield
