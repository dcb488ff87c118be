"""Compile a function of one device for all devices, once, and call it."""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxopt_lab.core.types import PyTree

_AXIS = "trials"
#: For what runs once per wave: level 1 compiles as fast as 0 and runs four times faster.
_FAST_COMPILE: dict[str, Any] = {
    "xla_backend_optimization_level": 1,
    "xla_llvm_disable_expensive_passes": True,
}
#: On a GPU kernels are not chosen by timing them, which would make results differ in their last
#: bits from process to process. Products are cuBLAS's from the start: else XLA fuses activations
#: into products of Triton's, then takes cuBLAS after all and computes each activation twice. And
#: loops run on the device, without asking the host at each turn.
_ON_GPU: dict[str, Any] = {
    "xla_gpu_deterministic_ops": True,
    "xla_gpu_enable_triton_gemm": False,
    "xla_gpu_enable_command_buffer": "FUSION,CUBLAS,CUBLASLT,CUSTOM_CALL,WHILE,CONDITIONAL",
}


class Compiler:
    """Compiled functions by name.

    Args:
      devices: over which the leading axis of arguments is divided.

    Attributes:
      on_cpu: whether the devices are a CPU's.
      copy: sharding of what every device holds whole.
      seconds: spent compiling so far.
    """

    def __init__(self, devices: Sequence[jax.Device]) -> None:
        self._mesh = Mesh(np.array(devices), (_AXIS,))
        self._split = NamedSharding(self._mesh, PartitionSpec(_AXIS))
        self.copy = NamedSharding(self._mesh, PartitionSpec())
        self._platform = devices[0].platform
        self.on_cpu = self._platform == "cpu"
        self.seconds = 0.0
        # A program that is compiled in the background may be wanted meanwhile, after Ctrl-C say.
        self.lock = threading.RLock()
        self._lowered: dict[str, tuple[Any, dict[str, Any] | None]] = {}
        self._compiled: dict[str, Any] = {}

    def put(self, tree: PyTree) -> PyTree:
        """Leading axis over the devices; what is there already stays."""

        def on_host(leaf: Any) -> Any:
            return leaf if isinstance(leaf, jax.Array) else np.asarray(leaf)

        return jax.device_put(jax.tree.map(on_host, tree), self._split)

    def lower(
        self, name: str, body: Any, args: tuple, copied: PyTree, once: bool = False
    ) -> PyTree:
        """Trace a program, for `compile_lowered`.

        Args:
          name: of the program.
          body: what one device does with `copied` and its part of each of `args`.
          args: with leading axes that are divided over the devices, like that of the result;
            arrays or their shapes.
          copied: what every device gets whole.
          once: whether it runs once per wave.

        Returns:
          The shapes of its results, to be arguments of another program.
        """
        started = time.perf_counter()
        split, whole = PartitionSpec(_AXIS), PartitionSpec()
        specs = (whole, *([split] * len(args)))
        mapped = jax.shard_map(
            body, mesh=self._mesh, in_specs=specs, out_specs=split, check_vma=False
        )
        # Else a GPU multiplies float32 with 10 bits of mantissa.
        with jax.default_matmul_precision(None if self.on_cpu else "highest"):
            lowered = jax.jit(mapped).lower(copied, *args)
        self._lowered[name] = lowered, self._options(once)
        self.seconds += time.perf_counter() - started
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=self._split),
            lowered.out_info,
        )

    def compile_lowered(self) -> None:
        """Compile what was traced, all at the same time."""
        started = time.perf_counter()
        with self.lock:
            lowered, self._lowered = self._lowered, {}
            with ThreadPoolExecutor(max(len(lowered), 1)) as threads:
                compiled = threads.map(lambda both: both[0].compile(both[1]), lowered.values())
                self._compiled.update(zip(lowered, compiled, strict=True))
        self.seconds += time.perf_counter() - started

    def call(self, name: str, body: Any, args: tuple, copied: PyTree, once: bool = False) -> Any:
        """Run a program; compile it first if that was not done. Arguments as for `lower`."""
        with self.lock:
            if name not in self._compiled:
                self.lower(name, body, args, copied, once)
                self.compile_lowered()
        return self._compiled[name](copied, *args)

    def has(self, *names: str) -> bool:
        """Whether programs of all these names are compiled."""
        return all(name in self._compiled for name in names)

    def program(self, name: str) -> Any:
        """The compiled program of a name, `jax.stages.Compiled`."""
        return self._compiled[name]

    def _options(self, once: bool) -> dict[str, Any] | None:
        if self._platform == "gpu":
            return _ON_GPU
        return _FAST_COMPILE if self.on_cpu and once else None
