"""Worker processes of one system that act as one."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.cases import Case
from bench.systems import SYSTEMS, Reply

_SCRIPTS = Path(__file__).parents[1]
#: Variables that would change what a system does by itself.
_UNWANTED = ("XLA_FLAGS", "JAX_COMPILATION_CACHE_DIR", "JAX_PLATFORMS", "JAX_NUM_CPU_DEVICES")


class Failed(Exception):
    """A worker could not do what it was asked; the message says why."""


class Pool:
    """The live processes of a system.

    Args:
      name: key of `SYSTEMS`.
      cores: the cores that this benchmark may use.
    """

    def __init__(self, name: str, cores: Sequence[int]) -> None:
        self.spec = SYSTEMS[name]
        pinned = cores if self.spec.per_core else cores[:1] if self.spec.one_core else [-1]
        env = {k: v for k, v in os.environ.items() if k not in _UNWANTED}
        env |= self.spec.environment()
        env["PYTHONPATH"] = os.pathsep.join(
            [str(_SCRIPTS), str(_SCRIPTS.parent), *filter(None, [env.get("PYTHONPATH")])]
        )
        command = [sys.executable, "-m", "bench.worker", name]
        self.workers = [
            subprocess.Popen(
                [*command, str(core)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=env,
            )
            for core in pinned
        ]
        self.quantum: dict[str, int] = {}

    def ask(self, requests: Sequence[Reply]) -> list[Reply]:
        """Send each worker its request at the same time; wait for all."""
        workers = self.workers[: len(requests)]
        try:
            for worker, request in zip(workers, requests, strict=True):
                assert worker.stdin is not None
                worker.stdin.write(json.dumps(request) + "\n")
                worker.stdin.flush()
            lines = [w.stdout.readline() if w.stdout else "" for w in workers]
        except BrokenPipeError:
            lines = [""]
        replies = [json.loads(line) if line else {"error": "its process died"} for line in lines]
        for reply in replies:
            if "error" in reply:
                raise Failed(reply["error"])
        return replies

    def start(self) -> str:
        """Wait until JAX, if it uses it, is up; name the device."""
        return self.ask([{"do": "device"}] * len(self.workers))[0]["device"]

    def prepare(self, case: Case) -> dict[str, Any]:
        """Set a case up in every process: compile and warm up."""
        replies = self.ask([{"do": "prepare", "case": case.to_dict()}] * len(self.workers))
        self.quantum[case.name] = replies[0]["quantum"] * len(self.workers)
        compile_seconds = max(reply["compile_seconds"] for reply in replies)
        return {"compile_seconds": compile_seconds, "width": replies[0]["width"]}

    def run(self, case: Case, num_trials: int) -> float:
        """Train the first `num_trials` trials; seconds until the last process is done."""
        count = len(self.workers)
        ends = [num_trials * i // count for i in range(count + 1)]
        requests = [
            {"do": "run", "case": case.name, "trials": [ends[i], ends[i + 1]]} for i in range(count)
        ]
        started = time.perf_counter()
        self.ask(requests)
        return time.perf_counter() - started

    def score(self, case: Case) -> float:
        """Mean squared error of trial 0 as trained last."""
        return self.ask([{"do": "score", "case": case.name}])[0]["score"]

    def close(self) -> None:
        """End the processes."""
        for worker in self.workers:
            if worker.stdin is not None:
                worker.stdin.close()
        for worker in self.workers:
            try:
                worker.wait(10)
            except subprocess.TimeoutExpired:
                worker.kill()
