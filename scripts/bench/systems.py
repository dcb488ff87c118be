"""The systems that are compared, and how each is started."""

import importlib
from dataclasses import dataclass
from typing import Any, Protocol

from bench.cases import Case, Unavailable


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
      models: which cases it can train.
      on_gpu: why it is left out on a GPU; empty if it runs there.
      precision: of products on a GPU, as `jax_default_matmul_precision` takes it.
    """

    factory: str
    per_core: bool = False
    one_core: bool = False
    devices: bool = False
    on_gpu: str = ""
    models: tuple[str, ...] = ("mlp",)
    precision: str = "highest"

    def make(self, case: Case) -> System:
        """Set it up; imports its libraries."""
        if case.model not in self.models:
            raise Unavailable(f"it trains {', '.join(self.models)} only")
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


_NETWORKS = ("mlp", "gru", "cnn")
_PROCESSES = "one process per core makes no sense on one GPU: see scan"
SYSTEMS: dict[str, Spec] = {
    "ours": Spec("ours:ours", devices=True, models=("mlp", "gru", "cnn", "function")),
    "ours_v1": Spec("ours:ours_v1", devices=True),
    "ours_flax": Spec("ours_general:flax", devices=True, models=_NETWORKS),
    "ours_shipped": Spec("ours_general:shipped", devices=True, models=_NETWORKS),
    "scan": Spec("peers_jax:Scan", one_core=True, models=_NETWORKS),
    "scan_all_cores": Spec("peers_jax:Scan", per_core=True, on_gpu=_PROCESSES, models=_NETWORKS),
    "vmap": Spec("peers_jax:Vmap", models=_NETWORKS),
    "vmap_bf16x3": Spec("peers_jax:Vmap", precision="BF16_BF16_F32_X3"),
    "vmap_tf32x3": Spec("peers_jax:Vmap", precision="TF32_TF32_F32_X3"),
    "kernel": Spec("ours_general:kernel"),
    "kernel_tf32x3": Spec("ours_general:kernel_tf32x3"),
    "kernel_scalar": Spec("ours_general:kernel_scalar"),
    "planned": Spec("ours_general:planned"),
    "best_vmap": Spec("peers_jax:BestVmap", per_core=True, on_gpu=_PROCESSES, models=("function",)),
    "pytorch": Spec("peers_other:PyTorch", per_core=True),
    "keras": Spec("peers_other:Keras"),
    "sklearn": Spec("peers_other:Sklearn", per_core=True, on_gpu="scikit-learn runs on CPUs only"),
    "keras_per_core": Spec("peers_other:Keras", per_core=True, on_gpu="see keras"),
}
#: Model -> what runs unless asked.
DEFAULT = {
    "mlp": ("ours", "ours_v1", "scan", "scan_all_cores", "vmap", "pytorch", "keras", "sklearn"),
    "flax_mlp": ("ours", "ours_flax", "ours_shipped", "scan_all_cores"),
    "gru": ("ours", "ours_shipped", "scan", "scan_all_cores", "vmap"),
    "cnn": ("ours", "ours_shipped", "scan", "scan_all_cores", "vmap"),
    "function": ("ours", "best_vmap"),
}
#: Of the cases of the executor `kernel`.
KERNEL = (
    "kernel", "vmap_bf16x3", "kernel_tf32x3", "vmap_tf32x3", "kernel_scalar", "vmap", "planned",
)  # fmt: skip
SWEEP = ("ours", "scan", "scan_all_cores")
Reply = dict[str, Any]
