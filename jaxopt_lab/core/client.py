"""What the runner asks of a problem that is ready to train."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np

from jaxopt_lab.core.cohorts import Job
from jaxopt_lab.core.controls import Values
from jaxopt_lab.core.engine import Executor, Probe
from jaxopt_lab.core.trainable import Trainable
from jaxopt_lab.core.types import PyTree


@runtime_checkable
class Client(Protocol):
    """Data, pure functions and programs of a problem."""

    @property
    def data(self) -> PyTree:
        """Host arrays; every device holds a copy, which reaches the functions as `Shared.data`."""
        ...

    @property
    def curve_length(self) -> int:
        """Units of one call, at most; a longer one needs room for its metrics."""
        ...

    def trainable(self, program: Any, on_cpu: bool) -> Trainable:
        """The pure functions of one trial of a program."""
        ...

    def static(self, program: Any) -> Mapping[str, Any]:
        """Hyperparameters that are Python values in a program."""
        ...

    def executor(self, program: Any, on_cpu: bool) -> Executor:
        """How the trials of a cohort are run."""
        ...

    def insists(self) -> bool:
        """Whether a user asked for the executor: nothing else may run then."""
        ...

    def default_width(self, program: Any, on_cpu: bool) -> int:
        """Cohort width V where nobody has chosen one."""
        ...

    def init_in_turn(self, program: Any) -> bool:
        """Whether an accelerator, too, initialises one trial after the other."""
        ...

    def shared_as(self, program: Any) -> Hashable | None:
        """All that a compiled program depends on besides shapes, where other clients of this
        process may use it too; None where they may not."""
        ...

    def traced(self, jobs: Sequence[Job]) -> Values:
        """Traced hyperparameters of jobs: name -> [len(jobs)]."""
        ...

    def probe(self, probe: Callable[..., Any], on_cpu: bool) -> Probe:
        """What measures a trial at its end, as the engine calls it."""
        ...

    def curves(self, metrics: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Metrics of n trainings by name, [n, units, ...] each, as they are stored."""
        ...

    def finished(self, kept: PyTree, job: Job) -> PyTree:
        """What is kept of one training (`Trainable.result`), as a user sees it."""
        ...
