"""What a driver and its workers say to each other, and the worker.

A worker is a process with devices of its own. It is told once what is trained, then gets waves, and
answers with results on the host. Who carries the words is a `Transport`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import numpy as np

from jaxopt_lab.core.cohorts import Job, Wave
from jaxopt_lab.core.runner import Runner


@dataclass(frozen=True)
class RemoteDevice:
    """What a driver knows of a device of its workers.

    Attributes:
      platform: "cpu", "gpu" or "tpu".
      bytes_limit: of its memory; None where JAX does not tell.
    """

    platform: str
    bytes_limit: int | None = None

    def memory_stats(self) -> dict[str, int]:
        """As `jax.Device` tells them."""
        return {} if self.bytes_limit is None else {"bytes_limit": self.bytes_limit}

    @classmethod
    def of(cls, device: jax.Device) -> "RemoteDevice":
        """Of one that is here."""
        return cls(device.platform, (device.memory_stats() or {}).get("bytes_limit"))


class Blueprint(NamedTuple):
    """All that a worker must know, sent once.

    Attributes:
      problem: what is trained; it makes its data and its functions anew where it is.
      space: of the study.
      num_splits: of the problem's `training`.
      seed: of the study.
      num_devices: that the worker uses.
    """

    problem: Any
    space: Any
    num_splits: int | None
    seed: int
    num_devices: int


class Order(NamedTuple):
    """A wave to train.

    Attributes:
      number: of the order; its answer has the same.
      wave: what is trained.
      width: cohort width of its program.
      states: of each of its jobs, from which they go on; None if they begin.
    """

    number: int
    wave: Wave
    width: int
    states: list[list[np.ndarray]] | None


class Part(NamedTuple):
    """What one job came to: the fields of a `Result` on the host. A job that is to go on has a
    state and no `params`, any other `params` and no state."""

    curves: dict[str, np.ndarray]
    info: Any
    params: Any
    state: list[np.ndarray] | None


class Trained(NamedTuple):
    """A wave that was trained: its jobs in their order, and what it cost the worker, seconds."""

    parts: list[Part]
    seconds: float
    compile_seconds: float


class Answer(NamedTuple):
    """What a transport tells of a worker.

    Attributes:
      worker: which one.
      number: of the order.
      trained: its result; None if the worker was lost.
    """

    worker: str
    number: int
    trained: Trained | None


@runtime_checkable
class Transport(Protocol):
    """Carries orders to workers and answers back; replaces workers that are lost."""

    @property
    def workers(self) -> Sequence[str]:
        """Those that are ready to take orders."""
        ...

    def send(self, worker: str, order: Order) -> None:
        """Give an order to a worker, which works through its orders in turn."""
        ...

    def wait(self) -> Answer | None:
        """Until an order is answered, or (None) there are other workers than before.

        Raises:
          MachineError: if no worker can be had.
        """
        ...

    def close(self) -> None:
        """Let the workers go."""
        ...


@runtime_checkable
class Placement(Protocol):
    """Where a study's waves are trained, if not here."""

    def devices(self) -> list[RemoteDevice]:
        """Those of one worker; all have the same."""
        ...

    def start(self, blueprint: Blueprint) -> Transport:
        """Workers for a study."""
        ...


class Worker:
    """Trains waves with a runner of its own.

    Args:
      blueprint: what is trained.
    """

    def __init__(self, blueprint: Blueprint) -> None:
        training = blueprint.problem.training(blueprint.space, blueprint.num_splits, blueprint.seed)
        devices = jax.local_devices()[: blueprint.num_devices]
        self._runner = Runner(training.client, blueprint.seed, {}, devices)

    def train(self, order: Order) -> Trained:
        """Train a wave."""
        runner, wave = self._runner, order.wave
        runner.use_width(wave.program, order.width)
        known = dict(zip(map(_place, wave.jobs), order.states or [], strict=False))
        left = [wave]
        reports = runner.stream(
            lambda: left.pop() if left else None, lambda job: known[_place(job)]
        )
        (report,) = reports
        parts = [
            Part(r.curves, r.info, None if r.job.resumable else r.params, r.state)
            for r in report.results
        ]
        return Trained(parts, report.seconds, report.compile_seconds)


def _place(job: Job) -> tuple[int, int, int]:
    return job.trial_id, job.fold, job.replicate
