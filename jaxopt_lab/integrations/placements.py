"""Where a study's waves are trained: `lab.placements.ray(...)` sends them to other processes."""

import sys
from collections.abc import Mapping
from types import ModuleType
from typing import TYPE_CHECKING, Any

from jaxopt_lab.core.attributes import missing
from jaxopt_lab.core.calls import checked_call
from jaxopt_lab.core.errors import MachineError
from jaxopt_lab.core.other_names import PLACEMENTS
from jaxopt_lab.core.scalars import whole

__all__ = ["ray"]


@checked_call()
def ray(
    address: str | None = None,
    devices_per_worker: Any = 1,
    *,
    num_workers: Any = None,
    runtime_env: Mapping[str, Any] | None = None,
    by_value: ModuleType | None = None,
) -> Any:
    """Workers of a Ray cluster: `lab.Study(..., placement=lab.placements.ray())`.

    Study and store stay in this process. Each worker is an actor that holds devices, the problem
    and its programs; it gets waves, and results come back. A worker that is lost costs its waves,
    which others train again.

    Args:
      address: of the cluster, "auto" say; "local" starts one on this machine. None takes the one
        that this process is connected to or RAY_ADDRESS names, else starts one on this machine.
      devices_per_worker: GPUs, TPU chips, or cores of a CPU where there is neither.
      num_workers: as many as the cluster has devices for, by default. More wait until the cluster
        has grown.
      runtime_env: of `ray.init`, for files and packages that workers need.
      by_value: a module of your own that workers cannot import: its functions are sent.

    Raises:
      UserError: for a number that is none.
      MachineError: if Ray is not installed, or the cluster cannot be reached or has no device.
    """
    try:
        import ray as library
    except ImportError:
        raise MachineError("Ray is not installed; pip install 'jaxopt-lab[ray]'") from None
    from jaxopt_lab.integrations.ray_workers import RayPlacement

    per_worker = whole("devices_per_worker", devices_per_worker, least=1)
    number = None if num_workers is None else whole("num_workers", num_workers, least=1)
    if by_value is not None:
        library.cloudpickle.register_pickle_by_value(by_value)
    return RayPlacement(library, address, per_worker, number, dict(runtime_env or {}))


def from_options(address: str | None, module: str | None = None) -> Any:
    """The placement that `--ray` asks for; None without it.

    Args:
      address: of the cluster; "local" starts one on this machine.
      module: name of a script's module, which workers cannot import.
    """
    if address is None:
        return None
    by_value = None if module is None else sys.modules[module]
    return ray(address, by_value=by_value)


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        raise missing(f"module {__name__!r}", name, __all__, PLACEMENTS)
