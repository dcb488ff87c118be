"""The systems that are compared, and how each is started."""

import importlib
from dataclasses import dataclass
from typing import Any, Protocol

from bench.cases import Case


class System(Protocol):
    """One system set up for one case; constructing it compiles and warms up.

    Attributes:
      quantum: the least number of trials that it trains at a time.
      compile_seconds: spent compiling.
    """

    quantum: int
    compile_seconds: float

    def run(self, trials: range) -> None:
        """Train these trials for the case's epochs; returns when the work is done."""

    def score(self) -> float:
        """Mean squared error of the last run's first trial over the training rows."""


@dataclass(frozen=True)
class Spec:
    """How a system runs.

    Attributes:
      factory: `module:name` in this package; takes a case.
      per_core: one process per core, each pinned to its core, with one thread.
      one_core: one such process.
      devices: JAX devices: one per core.
      on_gpu: why it is left out on a GPU; empty if it runs there.
    """

    factory: str
    per_core: bool = False
    one_core: bool = False
    devices: bool = False
    on_gpu: str = ""

    def make(self, case: Case) -> System:
        """Set it up; imports its libraries."""
        module, name = self.factory.split(":")
        return getattr(importlib.import_module(f"bench.{module}"), name)(case)

    def environment(self) -> dict[str, str]:
        """Variables of its processes."""
        found = {
            "JAX_ENABLE_COMPILATION_CACHE": "false",
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
            "KERAS_BACKEND": "jax",
        }
        if self.per_core or self.one_core:
            found["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
            threads = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
            found.update(dict.fromkeys(threads, "1"))
        return found


_PROCESSES = "one process per core makes no sense on one GPU: see scan"
SYSTEMS: dict[str, Spec] = {
    "ours": Spec("ours:ours", devices=True),
    "ours_v1": Spec("ours:ours_v1", devices=True),
    "scan": Spec("peers_jax:Scan", one_core=True),
    "scan_all_cores": Spec("peers_jax:Scan", per_core=True, on_gpu=_PROCESSES),
    "vmap": Spec("peers_jax:Vmap"),
    "pytorch": Spec("peers_other:PyTorch", per_core=True),
    "keras": Spec("peers_other:Keras"),
    "sklearn": Spec("peers_other:Sklearn", per_core=True, on_gpu="scikit-learn runs on CPUs only"),
    "keras_per_core": Spec("peers_other:Keras", per_core=True, on_gpu="see keras"),
}
#: What runs unless asked; `keras_per_core` is there to be asked for.
DEFAULT = tuple(name for name in SYSTEMS if name != "keras_per_core")
SWEEP = ("ours", "scan", "scan_all_cores")
Reply = dict[str, Any]
