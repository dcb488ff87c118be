"""Seconds to train trials of many shapes in few programs, against exact shapes; JSON lines.

    python scripts/bench_heterogeneous.py > scripts/results/heterogeneous.jsonl
    python scripts/bench_heterogeneous.py --case grid-243 --epochs 2

Cases: `grid-243`, every combination of rate, batch, layers, neurons and dropout; `random-128`,
128 random trials of any width and depth; `halving-5x81`, five brackets of successive halving.

`seconds` of `ours` is the whole wall time with a cold compilation cache. `exact` trains every
shape by its own program: its `seconds` are the run time alone, compilation done before. Where
shapes are too many to compile (`random-128`), some are measured, with both devices full, and scaled
by their arithmetic: `measured_share`. `steady_state` is the time that the trained epochs of a
study with successive halving would take in full waves; there the `seconds` of `ours` are without
compilation, too. `ratio` is a system's seconds over ours.
"""

import argparse
import itertools
import json
import os
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
from bench.cases import Case

import jaxopt_lab as lab
from jaxopt_lab import search
from jaxopt_lab.core.cohorts import Job
from jaxopt_lab.core.runner import Runner
from jaxopt_lab.planning import costs
from jaxopt_lab.problems.mlp import choosing, hyperparameters, programs
from jaxopt_lab.problems.mlp.client import RowsClient
from jaxopt_lab.problems.mlp.data import lay_out, regression
from jaxopt_lab.problems.mlp.signature import Signature

GRID = lab.SearchSpace(
    learning_rate=lab.Choice([3e-4, 1e-3, 3e-3]),
    batch_size=lab.Choice([32, 64, 128]),
    num_layers=lab.Choice([2, 3, 4]),
    hidden_size=lab.Choice([64, 128, 256]),
    dropout=lab.Choice([0.0, 0.2, 0.4]),
)
RANDOM = lab.SearchSpace(
    learning_rate=lab.LogUniform(3e-4, 3e-3),
    batch_size=lab.Choice([32, 64, 128]),
    num_layers=lab.IntUniform(2, 6),
    hidden_size=lab.IntUniform(48, 256),
    optimizer=lab.Choice(["adam", "adamw", "momentum"]),
    activation=lab.Choice(["relu", "tanh"]),
)
ONE_SHAPE = lab.SearchSpace(
    learning_rate=lab.LogUniform(3e-4, 3e-3), weight_decay=lab.LogUniform(1e-5, 1e-3)
)
NUM_RANDOM, NUM_MEASURED = 128, 32
BRACKETS, BRACKET_TRIALS, BRACKET_EPOCHS = 5, 81, 81
Config = dict[str, Any]


def configs_of(space: lab.SearchSpace) -> list[Config]:
    """All combinations of a grid, else a fixed random draw."""
    if space is GRID:
        names = list(space.parameters)
        choices: list[Any] = list(space.parameters.values())
        values = [choice.ranked for choice in choices]
        chosen = [dict(zip(names, row, strict=True)) for row in itertools.product(*values)]
    else:
        history = search.base.History.from_configs(space, [], [])
        chosen = search.random().propose(jax.random.key(0), space, history, NUM_RANDOM)
    return [hyperparameters.complete({**space.fixed, **config}) for config in chosen]


def choose(space: lab.SearchSpace, num_trials: int, epochs: int) -> programs.Programs:
    """What a study would compile."""
    case = Case()
    load = costs.Load(
        num_trials, epochs, 1, case.num_rows, case.num_features, jax.local_device_count()
    )
    on_cpu = jax.default_backend() == "cpu"
    return choosing.choose(space, load, costs.SHIPPED[on_cpu], on_cpu)


def make_runner(max_cohort: Callable[[Signature], int]) -> Callable[[list[Job]], Runner]:
    """(jobs) -> a runner whose cohorts are as wide as a study's would be."""
    case = Case()
    inputs, targets = case.data()
    arrays = lay_out([inputs], [targets], [(np.arange(case.num_rows), np.arange(0))])

    def make(jobs: list[Job]) -> Runner:
        runner = Runner(RowsClient(arrays, regression()), seed=0)
        for job in jobs:
            width = min(runner.width(job.program), max_cohort(job.program))
            runner.widths[job.program] = width
        return runner

    return make


def ours(space: lab.SearchSpace, epochs: int) -> Config:
    """Wall time, compilation included."""
    configs = configs_of(space)
    started = time.perf_counter()
    chosen = choose(space, len(configs), epochs)
    jobs = [
        Job(i, 0, 0, config, chosen.signature(config), epochs, epochs)
        for i, config in enumerate(configs)
    ]
    runner = make_runner(chosen.max_cohort)(jobs)
    compiled = sum(report.compile_seconds for report in runner.run(jobs))
    return {
        "seconds": time.perf_counter() - started,
        "compile_seconds": compiled,
        "programs": len({job.program for job in jobs}),
    }


def exact(space: lab.SearchSpace, epochs: int) -> Config:
    """Run time alone, each shape by its own program."""
    configs = configs_of(space)
    chosen = choose(space, len(configs), epochs)
    sizes = tuple(sorted({c["hidden_size"] for c in configs}))
    depths = tuple(sorted({c["num_layers"] for c in configs}))
    own = programs.Programs(
        sizes, depths, 0, (), chosen.noise_rows, sizes[-1], chosen.features, False, False
    )
    signatures = [own.signature(config) for config in configs]
    num_shapes = len(set(signatures))
    share, copies = 1.0, 1
    if num_shapes > len(configs) / 2:
        work = [_work(config) for config in configs]
        configs, signatures = configs[:NUM_MEASURED], signatures[:NUM_MEASURED]
        share, copies = sum(work[:NUM_MEASURED]) / sum(work), jax.local_device_count()
    jobs = [
        Job(i * copies + k, 0, 0, config, signature, epochs, epochs)
        for i, (config, signature) in enumerate(zip(configs, signatures, strict=True))
        for k in range(copies)
    ]
    most = max(1, len(configs) // num_shapes // 2)
    runner = make_runner(lambda _: most)(jobs)
    first = {job.program: job for job in jobs}.values()
    compiled = sum(r.compile_seconds for r in runner.run([j._replace(num_units=1) for j in first]))
    started = time.perf_counter()
    for _ in runner.run(jobs):
        pass
    seconds = (time.perf_counter() - started) / copies / share
    found = {"seconds": seconds, "compile_seconds": compiled, "programs": num_shapes}
    return found if share == 1.0 else {**found, "measured_share": share}


def _work(config: Config) -> float:
    """Weights of a network, as a measure of its arithmetic."""
    width, depth = config["hidden_size"], config["num_layers"]
    return float(Case().num_features * width + (depth - 1) * width * width)


def halving(epochs: int) -> list[Config]:
    """Five brackets in one study, and what their epochs would cost in full waves."""
    case = Case()
    inputs, targets = case.data()
    frame = pd.DataFrame(inputs, columns=[f"x{i}" for i in range(case.num_features)])
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.csv"
        frame.assign(y=targets).to_csv(path, index=False)
        table = lab.datasets.load_table(str(path), target="y")

        def trained(num_trials: int, budget: int, stored: Any, **options: Any) -> Config:
            study = lab.Study(lab.tasks.tabular(table, numeric="standard"), ONE_SHAPE)
            study.configure(budget, 1)
            if stored:
                study.store.set("programs", stored)
            started = time.perf_counter()
            study.optimize(search.random(), num_trials, budget, 1, **options)
            waves = study.store.waves()
            compiled = sum(w.compile_seconds for w in waves)
            return {
                "seconds": time.perf_counter() - started - compiled,
                "compile_seconds": compiled,
                "epochs": sum(w.units for w in waves),
                "programs": len({w.program for w in waves}),
                "stored": study.store.settings()["programs"],
            }

        trained(8, 1, None)  # what a process traces and compiles once, random numbers say
        scheduler = lab.schedulers.successive_halving(min_epochs=1, num_brackets=BRACKETS)
        mine = trained(BRACKETS * BRACKET_TRIALS, epochs, None, scheduler=scheduler)
        stored = mine.pop("stored")
        steady = trained(128, max(epochs // 8, 1), stored)
        per_epoch = steady["seconds"] / steady["epochs"]
    other = {"seconds": per_epoch * mine["epochs"], "compile_seconds": steady["compile_seconds"]}
    return [{"system": "ours", **mine}, {"system": "steady_state", **other}]


def child(case: str, system: str, epochs: int | None) -> None:
    """Measure one system in this process; one JSON line."""
    lab.use_all_cores()
    if case.startswith("halving"):
        rows = halving(epochs or BRACKET_EPOCHS)
    else:
        space = GRID if case.startswith("grid") else RANDOM
        rows = [{"system": system, **{"ours": ours, "exact": exact}[system](space, epochs or 10)}]
    kind = jax.devices()[0].device_kind
    device = kind if jax.default_backend() != "cpu" else f"cpu, {os.cpu_count()} cores"
    print(json.dumps([{**row, "device": device} for row in rows]))


CASES = {
    "grid-243": ("ours", "exact"),
    "random-128": ("ours", "exact"),
    f"halving-{BRACKETS}x{BRACKET_TRIALS}": ("both",),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", help="only cases whose name contains this")
    parser.add_argument("--epochs", type=int, help="of every trial [10; halving: 81]")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        case, system = args.child
        child(case, system, args.epochs)
        return
    for case in [name for name in CASES if not args.case or args.case in name]:
        rows: list[Config] = []
        for system in CASES[case]:
            print(f"{case}: {system}", file=sys.stderr, flush=True)
            command = [sys.executable, __file__, "--child", case, system]
            command += ["--epochs", str(args.epochs)] if args.epochs else []
            env = {**os.environ, "JAX_ENABLE_COMPILATION_CACHE": "false"}
            done = subprocess.run(command, env=env, stdout=subprocess.PIPE, text=True, check=True)
            rows += json.loads(done.stdout)
        for row in rows:
            line = {"bench": "heterogeneous", "case": case, **row}
            line["ratio"] = row["seconds"] / rows[0]["seconds"]
            numbers = {k: float(f"{v:.4g}") for k, v in line.items() if isinstance(v, float)}
            print(json.dumps({**line, **numbers}), flush=True)


if __name__ == "__main__":
    main()
