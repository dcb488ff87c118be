"""How many waves a second a driver can take from workers, who sleep instead of training.

One line of JSON: python scripts/bench_workers.py [--workers 64] [--waves 2000]

With `--train` one and two workers of Ray on this machine train networks, a core each, in
alternation: seconds of both, compilation apart, and their ratio.
"""

import argparse
import heapq
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxopt_lab as lab
from jaxopt_lab.core.workers import Answer, Blueprint, Order, RemoteDevice, Trained, Worker


class Sleepers:
    """Workers that answer after a while with what the first wave came to.

    Args:
      num_workers: of them.
      seconds: that each sleeps for a wave.
    """

    def __init__(self, num_workers: int, seconds: float) -> None:
        self.workers: Sequence[str] = [f"worker {number}" for number in range(num_workers)]
        self._seconds = seconds
        self._due: list[tuple[float, int, str]] = []
        self._until = dict.fromkeys(self.workers, 0.0)
        self._trained: Trained | None = None

    def devices(self) -> list[RemoteDevice]:
        return [RemoteDevice("cpu")]

    def start(self, blueprint: Blueprint) -> "Sleepers":
        self._worker = Worker(blueprint)
        return self

    def send(self, worker: str, order: Order) -> None:
        if self._trained is None:
            self._trained = self._worker.train(order)
            self.started = time.perf_counter()
        end = max(time.perf_counter(), self._until[worker]) + self._seconds
        self._until[worker] = end
        heapq.heappush(self._due, (end, order.number, worker))

    def wait(self) -> Answer:
        end, number, worker = heapq.heappop(self._due)
        time.sleep(max(0.0, end - time.perf_counter()))
        return Answer(worker, number, self._trained)

    def close(self) -> None:
        self._due = []


def build() -> Any:
    """A trial of ten weights."""

    def init(key: Any, hparams: Any) -> Any:
        return jax.random.normal(key, (10,))

    def step(state: Any, hparams: Any, shared: Any) -> Any:
        return state * (1 - hparams.learning_rate), {}

    def evaluate(state: Any, hparams: Any, shared: Any) -> Any:
        return {"loss": jnp.sum(state**2)}

    return lab.Trainable(init, step, evaluate)


def train(num_workers: int, waves: int) -> float:
    """Seconds in which workers of a core each train waves of eight networks of 3 x 64."""
    random = np.random.default_rng(0)
    x = random.standard_normal((4096, 8)).astype(np.float32)
    problem = lab.supervised(
        lambda: lab.models.MLP(None, num_layers=3),
        (x, np.sin(2 * x[:, 0]) + x[:, 1] * x[:, 2]),
        loss=optax.squared_error,
        optimizer=lambda hparams: optax.adam(hparams["learning_rate"]),
        splits=0.2,
        batch_size=32,
    )
    space = lab.SearchSpace(learning_rate=lab.LogUniform(1e-4, 1e-2))
    placement = lab.placements.ray("local", num_workers=num_workers)
    with lab.Study(problem, space, cohort_width=8, placement=placement, seed=0) as study:
        # Every worker compiles its programs.
        study.optimize("random", num_trials=32, budget=8)
        started = time.perf_counter()
        study.optimize("random", num_trials=32 + 8 * waves, budget=8)
        return time.perf_counter() - started


def scaling(waves: int, rounds: int = 3) -> dict[str, Any]:
    """One worker and two, in alternation; medians."""
    seconds: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(rounds):
        for number in seconds:
            seconds[number].append(round(train(number, waves), 2))
    one, two = (statistics.median(seconds[number]) for number in (1, 2))
    return {"waves": waves, "one": seconds[1], "two": seconds[2], "ratio": round(one / two, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--waves", type=int, default=2000)
    parser.add_argument("--seconds", type=float, default=0.02, help="that a wave takes a worker")
    parser.add_argument("--memory", action="store_true", help="keep the study in memory")
    parser.add_argument("--train", action="store_true", help="one worker of Ray against two")
    args = parser.parse_args()
    if args.train:
        print(json.dumps(scaling(min(args.waves, 24))))
        return
    space = lab.SearchSpace(learning_rate=lab.LogUniform(1e-3, 1e-1))
    problem = lab.from_steps(build, objective="loss")
    sleepers = Sleepers(args.workers, args.seconds)
    with tempfile.TemporaryDirectory() as folder:
        where = None if args.memory else folder
        with lab.Study(problem, space, where, cohort_width=1, placement=sleepers) as study:
            study.optimize("random", num_trials=args.waves, budget=2)
            seconds = time.perf_counter() - sleepers.started
    cpu = time.process_time()
    found = {
        "workers": args.workers,
        "waves": args.waves,
        "waves_per_second": round(args.waves / seconds, 1),
        "offered_per_second": args.workers / args.seconds,
        "cpu_seconds": round(cpu, 2),
        "in_memory": args.memory,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
