"""Studies of very many small trials: what the host costs beside the devices; JSON lines.

    python scripts/bench_scale.py > scripts/results/scale.jsonl
    python scripts/bench_scale.py --quick
    python scripts/bench_scale.py --host

Cases: `small-1000` and `small-20000`, networks of 2 x 32 on 2,048 rows, one hold-out split, random
search, a study on disk. `seconds` of `ours` is the wall time of `Study.optimize`, compilation
apart; of `programs_alone` that of the same networks through the runner without a study; its
`ratio`, its seconds over ours, is the share of the wall time inside compiled programs (fetching
results included). `store_ms` is the time per trial in transactions and weight files, `propose_ms`
that of proposals; medians of alternating rounds. `peak_gib` is the process's peak memory.

`--host` measures on a CPU what the host costs where programs cost next to nothing: processor time
of the thread that runs the study, 20,000 networks of 1 x 2 on 64 rows in cohorts as wide as an
accelerator's.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd

import jaxopt_lab as lab
from jaxopt_lab.core import cohorts
from jaxopt_lab.study import records, searching, trainings

SPACE = lab.SearchSpace(
    learning_rate=lab.LogUniform(3e-4, 3e-3),
    weight_decay=lab.LogUniform(1e-5, 1e-3),
    num_layers=2,
    hidden_size=32,
    batch_size=32,
)
NUM_ROWS = 2560
#: Trials, epochs, rounds.
CASES = {"small-1000": (1000, 10, 5), "small-20000": (20_000, 2, 1)}
QUICK = {"small-1000": (1000, 10, 3)}


def timed(
    function: Callable[..., Any],
    spent: list[float],
    clock: Callable[[], float] = time.perf_counter,
) -> Callable[..., Any]:
    """The function; adds its seconds to `spent`."""

    def call(*args: Any, **kwargs: Any) -> Any:
        started = clock()
        try:
            return function(*args, **kwargs)
        finally:
            spent.append(clock() - started)

    return call


def measure_host(num_trials: int, rounds: int) -> dict[str, Any]:
    """Medians of processor seconds of the thread that runs a study, and of its parts."""
    cohorts.MAX_WIDTH = cohorts.MAX_ACCELERATOR_WIDTH
    parts: dict[str, list[float]] = {"store": [], "propose": [], "jobs": []}
    records.write_wave = timed(records.write_wave, parts["store"], time.thread_time)
    searching.propose = timed(searching.propose, parts["propose"], time.thread_time)
    missing = timed(trainings.Trainings.missing, parts["jobs"], time.thread_time)
    trainings.Trainings.missing = missing  # type: ignore[method-assign]
    x = np.random.default_rng(0).standard_normal((80, 2))
    frame = pd.DataFrame(x, columns=["a", "b"]).assign(y=np.sin(2 * x[:, 0]) + x[:, 1])
    space = lab.SearchSpace(
        **SPACE.parameters, num_layers=1, hidden_size=2, batch_size=SPACE.fixed["batch_size"]
    )
    whole: list[float] = []
    each: dict[str, list[float]] = {name: [] for name in parts}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.csv"
        frame.to_csv(path, index=False)
        table = lab.datasets.load_table(str(path), target="y")
        task = lab.tasks.tabular(table, numeric="standard")
        for i in range(rounds + 1):
            with lab.Study(task, space, Path(folder) / f"study-{i}") as study:
                started = time.thread_time()
                study.optimize(lab.search.random(), num_trials, 2, 1)
                whole.append(time.thread_time() - started)
            for name, spent in parts.items():
                each[name].append(sum(spent))
                spent.clear()
    # The first compiles.
    found = {f"{name}_ms": 1e3 * statistics.median(x[1:]) / num_trials for name, x in each.items()}
    return {
        "system": "ours",
        "host_seconds": statistics.median(whole[1:]),
        **found,
        "rounds": [round(value, 3) for value in whole[1:]],
    }


def measure(num_trials: int, num_epochs: int, rounds: int) -> list[dict[str, Any]]:
    """Studies on disk, and their networks alone, in alternation."""
    random = np.random.default_rng(0)
    x = random.standard_normal((NUM_ROWS, 8))
    frame = pd.DataFrame(x, columns=[f"x{i}" for i in range(8)])
    writing: list[float] = []
    proposing: list[float] = []
    records.write_wave = timed(records.write_wave, writing)
    searching.propose = timed(searching.propose, proposing)
    seconds, steady = [], []
    # Random numbers are compiled once per process.
    empty = lab.search.History.empty(SPACE)
    lab.search.random().propose(jax.random.key(0), SPACE, empty, 256)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.csv"
        frame.assign(y=np.sin(2 * x[:, 0]) + x[:, 1] * x[:, 2]).to_csv(path, index=False)
        table = lab.datasets.load_table(str(path), target="y")
        for i in range(rounds):
            task = lab.tasks.tabular(table, numeric="standard")
            mine = lab.Study(task, SPACE, Path(folder) / f"study-{i}")
            started = time.perf_counter()
            mine.optimize(lab.search.random(), num_trials, num_epochs, 1)
            whole = time.perf_counter() - started
            compiled = sum(w.compile_seconds for w in mine.store.waves())
            seconds.append(whole - compiled)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            done = len(mine.store.trials_with(lab.Status.COMPLETED))
            jobs = [mine.job(t.trial_id, t.config, 0) for t in mine.store.trials()]
            started = time.perf_counter()
            for _ in mine.runner.run(jobs):
                pass
            steady.append(time.perf_counter() - started)
            mine.close()
    ours = {
        "system": "ours",
        "seconds": statistics.median(seconds),
        "compile_seconds": compiled,
        "completed": done,
        "store_ms": 1e3 * sum(writing) / num_trials / rounds,
        "propose_ms": 1e3 * sum(proposing) / num_trials / rounds,
        "peak_gib": peak * (1 if sys.platform == "darwin" else 1024) / 2**30,
        "rounds": [round(value, 3) for value in seconds],
    }
    alone = {
        "system": "programs_alone",
        "seconds": statistics.median(steady),
        "compile_seconds": 0.0,
        "rounds": [round(value, 3) for value in steady],
    }
    return [ours, alone]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="1,000 trials only")
    parser.add_argument("--case", help="only cases whose name contains this")
    parser.add_argument("--host", action="store_true", help="what the host costs, on a CPU")
    parser.add_argument("--child", nargs=3, type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        lab.use_all_cores()
        print(json.dumps(measure(*args.child)))
        return
    if args.host:
        line = {"bench": "scale", "case": "host-20000", **measure_host(20_000, 3)}
        print(json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in line.items()}))
        return
    for case, size in (QUICK if args.quick else CASES).items():
        if args.case and args.case not in case:
            continue
        command = [sys.executable, __file__, "--child", *map(str, size)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        rows = json.loads(done.stdout)
        for row in rows:
            kind = jax.devices()[0].device_kind
            device = kind if jax.default_backend() != "cpu" else f"cpu, {os.cpu_count()} cores"
            line = {"bench": "scale", "case": case, **row, "device": device}
            line["ratio"] = row["seconds"] / rows[0]["seconds"]
            numbers = {k: float(f"{v:.4g}") for k, v in line.items() if isinstance(v, float)}
            print(json.dumps({**line, **numbers}), flush=True)


if __name__ == "__main__":
    main()
