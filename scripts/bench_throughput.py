"""Seconds to train a population of networks: ours against live peers; prints JSON lines.

    pip install 'torch>=2.13,<2.14'    # a CPU build, before the rest
    pip install 'jaxopt-lab[bench]'
    python scripts/bench_throughput.py --quick
    python scripts/bench_throughput.py > scripts/results/throughput.jsonl
    python scripts/bench_throughput.py --sizes
    python scripts/bench_throughput.py --systems ours,vmap --trials 4096 --width 1024
    python scripts/bench_throughput.py --model gru
    python scripts/bench_throughput.py --kernel --trials 1024

Every system trains the same trial-epochs in processes of its own that stay alive; rounds
alternate (A B C A B C ...) and medians count. A slow system trains a part of the trials and its
seconds are scaled up: `measured_share`. `ratio` is a system's seconds over ours: above 1, ours is
faster. `mse` is trial 0's error on its training rows, to show that each system really trained.
Compilation is timed apart. Only numbers from an otherwise idle machine mean anything.

`--model gru|cnn` trains a module of Flax's own layers through `supervised`, `ours_shipped` the same
network out of `jaxopt_lab.models`; peers train the module of Flax's layers. `flax_mlp` is the case
of the MLP with such a module beside our tabular MLP: `ratio` of `ours_flax` is what it costs.
`--kernel` trains the cases of the executor `kernel` on a GPU: `kernel` and `vmap_bf16x3` multiply
in three passes of bfloat16, `kernel_tf32x3` and `vmap_tf32x3` of TF32, `kernel_scalar` and `vmap`
in float32, `planned` leaves the choice to the planner; `ratio` is over `kernel`. On a CPU the
kernel is interpreted, to see that the script works: `--kernel --trials 2 --epochs 1 --rows 64`.
`function` is a whole training as one function, 64 configurations x 4 seeds, against a `vmap` of it
written by hand in its best width.
"""

import argparse
import itertools
import json
import os
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from bench.cases import CASES, KERNEL_CASES, Case
from bench.pool import Failed, Pool
from bench.systems import DEFAULT, KERNEL, SWEEP, SYSTEMS

HIDDEN_SIZES, BATCH_SIZES = (16, 32, 128, 256, 512), (32, 128)
MIN_ROUNDS = 3
#: Whose seconds a ratio is over.
BASES = ("ours", "kernel", "planned")


@dataclass
class Entry:
    """One system on one case: how much it trains per round, and what it took."""

    case: Case
    system: str
    num_trials: int = 0
    compile_seconds: float | None = None
    width: int | None = None
    mse: float | None = None
    why: str = ""
    seconds: list[float] = field(default_factory=list)

    @property
    def share(self) -> float:
        """Part of the case that a round trains."""
        return self.num_trials / self.case.num_trials

    @property
    def median(self) -> float | None:
        """Seconds for the whole case."""
        return statistics.median(self.seconds) / self.share if self.seconds else None

    def line(self, ours: float | None, device: str) -> dict[str, Any]:
        """What is printed."""
        row: dict[str, Any] = {
            "bench": "throughput",
            "case": self.case.name,
            "system": self.system,
            "seconds": _round(self.median),
            "compile_seconds": _round(self.compile_seconds),
            "ratio": _round(self.median / ours) if self.median and ours else None,
            "device": device,
        }
        if self.median is None:
            return {**row, "why": self.why or "no round was timed"}
        extra = {"width": self.width} if self.width else {}
        return {
            **row,
            "epochs": self.case.num_epochs,
            "us_per_step": _round(self.median / self.case.num_steps * 1e6),
            "measured_share": _round(self.share),
            "rounds": [_round(s / self.share) for s in self.seconds],
            "mse": _round(self.mse),
            **extra,
        }


def _round(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def note(text: str) -> None:
    """Progress, for a person."""
    print(text, file=sys.stderr, flush=True)


class Bench:
    """All systems live, timed in turn.

    Args:
      systems: names.
      target: seconds that one system may take per round and case.
      rounds: how often each is timed.
      deadline: on `time.perf_counter`; after `MIN_ROUNDS` no round starts that would pass it.
    """

    def __init__(self, systems: list[str], target: float, rounds: int, deadline: float) -> None:
        cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [-1]
        self.target, self.rounds, self.deadline = target, rounds, deadline
        self.pools = {name: Pool(name, cores) for name in systems}
        self.device, self.broken = "unknown", {}
        self.ready: dict[tuple[str, str], Entry] = {}
        for name, pool in self.pools.items():
            try:
                self.device = pool.start()
            except Failed as error:
                self.broken[name] = str(error)
        if "cpu" not in self.device:
            self.broken |= {n: SYSTEMS[n].on_gpu for n in systems if SYSTEMS[n].on_gpu}

    def prepare(self, case: Case, name: str) -> Entry:
        """Compile, warm up, and decide how many trials a round trains."""
        entry, pool = Entry(case, name, why=self.broken.get(name, "")), self.pools[name]
        if entry.why:
            return entry
        note(f"{case.name}: {name} compiles")
        try:
            found = pool.prepare(case)
            quantum = min(pool.quantum[case.name], case.num_trials)
            seconds = pool.run(case, quantum)
        except Failed as error:
            entry.why = str(error)
            return entry
        entry.compile_seconds, entry.width = found["compile_seconds"], found["width"]
        # All ratios hang on ours, so it is measured on more.
        fits = max(1, int(self.target * (3 if name == "ours" else 1) / seconds))
        entry.num_trials = min(quantum * fits, case.num_trials)
        return entry

    def prepare_all(self, cases: list[Case]) -> None:
        """Compile the cases of all systems at the same time, where there are the cores for it."""

        def of_system(name: str) -> None:
            for case in cases:
                self.ready[case.name, name] = self.prepare(case, name)

        with ThreadPoolExecutor(len(self.pools)) as threads:
            list(threads.map(of_system, self.pools))

    def measure(self, cases: list[Case]) -> None:
        """Time all systems on cases, one after the other, round by round; print the lines."""
        keys = [(case, name) for case in cases for name in self.pools]
        entries = [self.ready.get((c.name, name)) or self.prepare(c, name) for c, name in keys]
        for i in range(self.rounds):
            started = time.perf_counter()
            for entry in entries:
                if not entry.why:
                    self._time(entry)
            took = time.perf_counter() - started
            note(f"round {i + 1} of {self.rounds}: {took:.1f} s")
            if i + 1 >= MIN_ROUNDS and time.perf_counter() + took > self.deadline:
                break
        for case in cases:
            mine = [entry for entry in entries if entry.case == case]
            ours = next((e.median for e in mine if e.system in BASES), None)
            for entry in mine:
                print(json.dumps(entry.line(ours, self.device)), flush=True)

    def _time(self, entry: Entry) -> None:
        pool = self.pools[entry.system]
        try:
            entry.seconds.append(pool.run(entry.case, entry.num_trials))
            if entry.mse is None:
                entry.mse = pool.score(entry.case)
        except Failed as error:
            entry.why, entry.seconds = str(error), []

    def close(self) -> None:
        """End all processes."""
        for pool in self.pools.values():
            pool.close()


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="at most two minutes")
    parser.add_argument("--systems", help=f"comma-separated, of: {', '.join(SYSTEMS)}")
    parser.add_argument("--case", help="only cases whose name contains this, or one of A,B")
    parser.add_argument(
        "--sizes", action="store_true", help=f"hidden sizes and batches against {SWEEP[1:]}"
    )
    parser.add_argument("--kernel", action="store_true", help="cases of the executor `kernel`")
    parser.add_argument("--rows", type=int, help="training rows [8192]")
    parser.add_argument("--model", choices=DEFAULT, default="mlp")
    parser.add_argument("--trials", type=int, help="networks [64; gru and cnn: 32]")
    parser.add_argument("--epochs", type=int, help="of every trial [8; quick or sizes: 2]")
    parser.add_argument("--width", type=int, default=0, help="V of ours [the formula's]")
    parser.add_argument("--rounds", type=int, help=f"at least {MIN_ROUNDS} [5; quick or sizes: 3]")
    parser.add_argument("--time-limit", type=float, default=540.0, help="seconds [%(default)g]")
    return parser.parse_args()


def _cases(args: argparse.Namespace) -> list[Case]:
    is_mlp = args.model in ("mlp", "flax_mlp")
    epochs = args.epochs or (8 if is_mlp and not args.quick and not args.sizes else 2)
    common = {"num_epochs": epochs, "width": args.width}
    if args.trials:
        common["num_trials"] = args.trials
    if args.rows:
        common["num_rows"] = args.rows
    if not is_mlp:
        return [Case(**{"model": args.model, **CASES[args.model], **common})]
    if args.kernel:
        small = args.trials and args.trials < 1024
        fewer = {"num_trials": args.trials} if small else {}
        cases = [Case(**{**common, **changes, **fewer}) for changes in KERNEL_CASES]
    elif args.sizes:
        grid = itertools.product(HIDDEN_SIZES, BATCH_SIZES)
        cases = [Case(hidden_size=h, batch_size=b, **common) for h, b in grid]
    else:
        cases = [Case(dropout=rate, **common) for rate in (0.0, 0.2)]
    wanted = (args.case or "").split(",")
    found = [case for case in cases if any(part in case.name for part in wanted)]
    exact = [case for case in found if case.name == args.case]
    if not found:
        sys.exit(f"no such case; there are: {', '.join(case.name for case in cases)}")
    return exact or found


def main() -> None:
    args = _parse()
    if args.sizes and args.model != "mlp":
        sys.exit("--sizes are those of the MLP")
    if args.kernel and (args.sizes or args.model != "mlp"):
        sys.exit("--kernel has cases of its own")
    default = KERNEL if args.kernel else SWEEP if args.sizes else DEFAULT[args.model]
    systems = args.systems.split(",") if args.systems else list(default)
    for name in systems:
        if name not in SYSTEMS:
            sys.exit(f"unknown system {name!r}; there are: {', '.join(SYSTEMS)}")
    brief = args.quick or args.sizes
    limit = 100.0 if args.quick else args.time_limit
    target = 0.8 if args.quick else 2.0 if args.sizes else 5.0
    rounds = max(args.rounds or (3 if brief else 5), MIN_ROUNDS)
    bench = Bench(systems, target, rounds, time.perf_counter() + limit)
    cases = _cases(args)
    try:
        if (args.kernel or args.sizes) and "cpu" not in bench.device:
            bench.prepare_all(cases)
        # The sweep measures case by case, to have lines early; the headline cases alternate.
        for group in [[case] for case in cases] if args.sizes or args.kernel else [cases]:
            bench.measure(group)
    finally:
        bench.close()


if __name__ == "__main__":
    main()
