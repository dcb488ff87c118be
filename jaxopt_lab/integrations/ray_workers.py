"""Workers as actors of Ray."""

import os
import socket
import warnings
from collections.abc import Sequence
from typing import Any

import jax

from jaxopt_lab.core.devices import use_cores_of
from jaxopt_lab.core.errors import MachineError
from jaxopt_lab.core.workers import Answer, Blueprint, Order, RemoteDevice, Trained, Worker

#: Options of JAX that workers take over: where compiled programs are kept, which they share.
_CACHE = (
    "jax_compilation_cache_dir",
    "jax_persistent_cache_min_compile_time_secs",
    "jax_persistent_cache_min_entry_size_bytes",
)
#: Workers in a row that may be lost before they have begun.
MAX_STILLBORN = 3


def _begin(num_devices: int, options: dict[str, Any]) -> list[Any]:
    """Start JAX in a worker; its devices."""
    for name, value in options.items():
        jax.config.update(name, value)
    if "cpu" in (jax.config.values.get("jax_platforms") or "cpu"):
        use_cores_of(num_devices)
    return jax.local_devices()[:num_devices]


def _look(num_devices: int, options: dict[str, Any]) -> list[RemoteDevice]:
    return [RemoteDevice.of(device) for device in _begin(num_devices, options)]


class _Actor:
    """A worker in a process of Ray's."""

    def __init__(self, blueprint: Blueprint, options: dict[str, Any]) -> None:
        _begin(blueprint.num_devices, options)
        self._worker = Worker(blueprint)

    def name(self) -> str:
        """The machine, and the process on it."""
        return f"{socket.gethostname()}:{os.getpid()}"

    def train(self, order: Order) -> Trained:
        """See `Worker`."""
        return self._worker.train(order)


class RayPlacement:
    """See `placements.ray`."""

    def __init__(
        self,
        ray: Any,
        address: str | None,
        devices_per_worker: int,
        num_workers: int | None,
        runtime_env: dict[str, Any],
    ) -> None:
        self._ray, self._per_worker = ray, devices_per_worker
        if not ray.is_initialized():
            try:
                with warnings.catch_warnings():
                    # What Ray forks becomes another program at once.
                    warnings.filterwarnings("ignore", message=r"os\.fork\(\) was called")
                    ray.init(address, runtime_env=runtime_env, log_to_driver=False)
            except (ConnectionError, ValueError, RuntimeError) as error:
                reason = (str(error).splitlines() or [type(error).__name__])[0]
                raise MachineError(f"no Ray cluster at {address}: {reason}") from None
        there = ray.cluster_resources()
        kind = next((name for name in ("GPU", "TPU") if there.get(name, 0) >= 1), "CPU")
        fitting = int(there.get(kind, 0)) // devices_per_worker
        self._num_workers = num_workers or fitting
        if not self._num_workers:
            raise MachineError(
                f"the Ray cluster has {there.get(kind, 0):g} {kind}s, too few for a worker of "
                f"{devices_per_worker}; give a smaller devices_per_worker, or num_workers= if it "
                "grows on demand"
            )
        each = float(devices_per_worker)
        kinds: dict[str, dict[str, Any]] = {
            "CPU": {"num_cpus": each},
            "GPU": {"num_cpus": 1.0, "num_gpus": each},
            "TPU": {"num_cpus": 1.0, "resources": {"TPU": each}},
        }
        self._options = kinds[kind]
        self._of_jax = {name: jax.config.values.get(name) for name in _CACHE}

    def devices(self) -> list[RemoteDevice]:
        """Those of one worker."""
        look = self._ray.remote(_look).options(**self._options)
        found: list[RemoteDevice] = self._ray.get(look.remote(self._per_worker, self._of_jax))
        if len(found) < self._per_worker:
            raise MachineError(
                f"JAX finds {len(found)} devices where Ray gives {self._per_worker}; is JAX "
                "installed there for this kind of device?"
            )
        return found

    def start(self, blueprint: Blueprint) -> "RayTransport":
        """Workers for a study."""
        return RayTransport(self._ray, blueprint, self._num_workers, self._options, self._of_jax)


class RayTransport:
    """Orders to actors, and answers.

    An actor that is lost is replaced; its successor takes orders when it has come up, which may
    take until the cluster has room for it.

    Args:
      ray: the library.
      blueprint: what is trained; it is sent once and kept by each machine.
      num_workers: actors.
      options: of Ray, for each.
      of_jax: options of JAX, for each.
    """

    def __init__(
        self,
        ray: Any,
        blueprint: Blueprint,
        num_workers: int,
        options: dict[str, Any],
        of_jax: dict[str, Any],
    ) -> None:
        self._ray, self._of_jax = ray, of_jax
        self._blueprint = ray.put(blueprint)
        self._make = ray.remote(_Actor).options(max_restarts=0, **options)
        self._actors: dict[str, Any] = {}
        self._coming: dict[Any, Any] = {}
        self._orders: dict[Any, tuple[str, int]] = {}
        self._stillborn = 0
        for _ in range(num_workers):
            self._hire()

    @property
    def workers(self) -> Sequence[str]:
        """Those that are ready to take orders."""
        return list(self._actors)

    def _hire(self) -> None:
        actor = self._make.remote(self._blueprint, self._of_jax)
        self._coming[actor.name.remote()] = actor

    def send(self, worker: str, order: Order) -> None:
        """Give an order to a worker."""
        self._orders[self._actors[worker].train.remote(order)] = worker, order.number

    def wait(self) -> Answer | None:
        """Until an order is answered, or a worker has come up.

        Raises:
          MachineError: if workers are lost before they have begun, one after the other.
        """
        (ref,), _ = self._ray.wait([*self._orders, *self._coming], num_returns=1)
        if ref in self._coming:
            self._welcome(ref)
            return None
        worker, number = self._orders.pop(ref)
        try:
            return Answer(worker, number, self._ray.get(ref))
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause or error from None
        except (
            self._ray.exceptions.RayActorError,
            self._ray.exceptions.ObjectLostError,
            self._ray.exceptions.WorkerCrashedError,
        ):
            if self._actors.pop(worker, None) is not None:
                self._hire()
            return Answer(worker, number, None)

    def _welcome(self, ref: Any) -> None:
        actor = self._coming.pop(ref)
        try:
            self._actors[self._ray.get(ref)] = actor
            self._stillborn = 0
        except self._ray.exceptions.RayError as error:
            self._stillborn += 1
            if self._stillborn >= MAX_STILLBORN:
                lines = [line for line in str(error).splitlines() if line.strip()]
                reason = lines[-1] if lines else type(error).__name__
                raise MachineError(f"workers do not come up: {reason}") from None
            self._hire()

    def close(self) -> None:
        """Let the actors go; the cluster stays."""
        if self._ray.is_initialized():
            for actor in [*self._actors.values(), *self._coming.values()]:
                self._ray.kill(actor)
        self._actors, self._coming, self._orders = {}, {}, {}
