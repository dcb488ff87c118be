"""How much training does it take to reach a loss? Schedulers against random search; JSON lines.

    python scripts/bench_schedulers.py [--seeds 5] [--out FILE.jsonl]
    python scripts/bench_schedulers.py --quick

Two problems, each with one split whatever the seed: 4,000 rows of `lucas_houses` in 16 bins
(hold-out log-RMSE of tabular MLPs of one architecture under a cosine schedule) and
scikit-learn's digits (hold-out cross-entropy of a Flax MLP under AdamW at a constant rate). The
target of a problem is a number of `results/scheduler_targets.json`: the loss that the best 2 %
(`--percent`) of a pool of random configurations reach at the full budget, trained once by
`replay_schedulers.py` with seeds that no run here has. A run goes on, round after round, until a
trial that completed is at least as good, or until all trials together have trained as many epochs
as `--most` random trials would.

Systems: `random` stops nothing, with rounds of 16 trials; the others are schedulers of the
registry, with the settings in `system_of`, `NAME:KEY=VALUE:...` others. BOHB's trials are proposed
by the Bayesian sampler; the population of population-based training has 16 members. `race` is left
out: there is one split.

A line per run: `epochs` of all trials to the end of the wave in which the target was reached (null:
never within `all_epochs`), `seconds` of wall time and `processor_seconds` of all threads up to
there, compilation included; `processor_seconds_per_epoch` between the first wave, with which
compiling is over, and the last. The last lines have means over the seeds, in which a run that never
reached the target counts with all its epochs, so that the true mean is larger. A process per
problem and system, one after the other. A second call with the same file goes on.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

PROBLEMS = ("lucas_houses", "digits")
#: Epochs of a trial.
SIZES = {"lucas_houses": 27, "digits": 81}
#: Epochs with `--quick`.
QUICK = 9
TARGETS = Path(__file__).parent / "results" / "scheduler_targets.json"
BASELINE = "random"
SYSTEMS = (
    BASELINE,
    "successive_halving",
    "hyperband",
    "bohb",
    "median_stopping",
    "population_based_training",
)
#: Trials of a round where no settings say how many.
ROUND = {
    BASELINE: 16,
    "successive_halving": 81,
    "population_based_training": 16,
    "median_stopping": 81,
}


def system_of(system: str, epochs: int) -> tuple[Any, int]:
    """A scheduler, None for one that stops nothing, and the trials of a round.

    Args:
      system: name, and settings of the scheduler or `trials` of a round, as `name:key=value`.
      epochs: of a whole training.
    """
    from jaxopt_lab import schedulers

    name, *given = system.split(":")
    settings = {key: int(value) for key, _, value in (one.partition("=") for one in given)}
    trials = settings.pop("trials", ROUND.get(name))
    if name == BASELINE:
        return None, trials or ROUND[name]
    if trials is None:
        trials = hyperband_trials(epochs, **settings)
    return schedulers.make(name, settings), trials


def hyperband_trials(epochs: int, reduction: int = 3, min_epochs: int = 1) -> int:
    """Trials of all brackets of one Hyperband."""
    most = 0
    while epochs // reduction ** (most + 1) >= min_epochs:
        most += 1
    return sum(-(-(most + 1) * reduction**s // (s + 1)) for s in range(most + 1))


def problem_of(name: str, quick: bool) -> tuple[Any, Any]:
    """Problem and search space."""
    import jaxopt_lab as lab

    if name == "digits":
        return digits(), lab.SearchSpace(
            learning_rate=lab.LogUniform(1e-5, 1e-1),
            decay=lab.LogUniform(1e-5, 1.0),
            b1=lab.Uniform(0.5, 0.99),
            dropout=lab.Uniform(0.0, 0.6),
        )
    table = lab.datasets.load_table("lucas_houses", target="price")
    rows = np.random.default_rng(0).permutation(len(table))
    table = table.take(np.sort(rows[: 1000 if quick else 4000]))
    split = np.split(np.random.default_rng(1).permutation(len(table)), [len(table) * 4 // 5])
    return lab.tasks.tabular(table, num_bins=16, splits=[(split[0], split[1])]), lab.SearchSpace(
        learning_rate=lab.LogUniform(1e-5, 1e-1),
        dropout=lab.Uniform(0.0, 0.5),
        weight_decay=lab.LogUniform(1e-5, 1.0),
        warmup_fraction=lab.Uniform(0.0, 0.2),
        activation=lab.Choice(["relu", "gelu", "silu"]),
        batch_size=128,
        num_layers=2,
        hidden_size=64,
        optimizer="adamw",
        schedule="cosine",
    )


def digits() -> Any:
    """A Flax MLP on 64 pixels."""
    import optax
    from sklearn.datasets import load_digits

    import jaxopt_lab as lab

    images, labels = load_digits(return_X_y=True)
    return lab.supervised(
        lambda: lab.models.MLP(10, hidden_size=64),
        (images.astype("float32") / 16, labels),
        loss=optax.softmax_cross_entropy_with_integer_labels,
        optimizer=lambda h: optax.adamw(h["learning_rate"], b1=h["b1"], weight_decay=h["decay"]),
        batch_size=64,
    )


def runs(
    name: str, system: str, seeds: list[int], target: float, most: int, quick: bool
) -> Iterator[dict[str, Any]]:
    """One run after the other in this process."""
    import jaxopt_lab as lab

    lab.use_all_cores()
    problem, space = problem_of(name, quick)
    epochs = QUICK if quick else SIZES[name]
    scheduler, trials = system_of(system, epochs)
    sampler = "bayesian" if getattr(scheduler, "in_turn", False) else "random"
    for seed in seeds:
        found = one_run(problem, space, seed, (scheduler, sampler, trials, epochs), target, most)
        yield {"problem": name, "system": system, "seed": seed, "target": target, **found}


def one_run(
    problem: Any,
    space: Any,
    seed: int,
    how: tuple[Any, str, int, int],
    target: float,
    most: int,
) -> dict[str, Any]:
    """Rounds until a target is reached, or all trials together have trained `most` epochs."""
    import jaxopt_lab as lab

    scheduler, sampler, trials, epochs = how
    reached: dict[str, Any] = {"epochs": None, "seconds": None, "processor_seconds": None}
    clocks: list[tuple[int, float]] = []
    started, used = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        study = lab.Study(problem, space, folder, seed)

        def watch(progress: Any) -> None:
            trained = sum(wave.units for wave in study.store.waves())
            clocks.append((trained, time.process_time() - used))
            best = progress.best
            if reached["epochs"] is None and best is not None and best <= target:
                seconds = round(time.perf_counter() - started, 2)
                took = round(clocks[-1][1], 2)
                reached.update(epochs=trained, seconds=seconds, processor_seconds=took)

        for number in range(most):
            study.optimize(
                sampler,
                trials,
                epochs,
                scheduler=scheduler,
                phase=f"round {number}",
                progress=watch,
            )
            if reached["epochs"] is not None or clocks[-1][0] >= most:
                break
        best = float(study.best.score)
        study.close()
    (first, before), (last, after) = clocks[0], clocks[-1]
    return {
        **reached,
        "best": best,
        "rounds": number + 1,
        "trials": (number + 1) * trials,
        "all_epochs": last,
        "all_seconds": round(time.perf_counter() - started, 2),
        "processor_seconds_per_epoch": (after - before) / (last - first) if last > first else None,
    }


def in_a_process(
    name: str, system: str, seeds: list[int], target: float, most: int, quick: bool
) -> Iterator[dict[str, Any]]:
    """The lines of `runs`, in a process of its own."""
    given = json.dumps([name, system, seeds, target, most, quick])
    command = [sys.executable, __file__, "--child", given]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            yield json.loads(line)
    if process.returncode:
        raise SystemExit(f"{system} on {name}: the process ended with {process.returncode}")


def means(rows: list[dict[str, Any]], base: list[dict[str, Any]]) -> dict[str, Any]:
    """Of the runs of one system on one problem; one without the target counts with all epochs."""

    def mean(rows: list[dict[str, Any]]) -> float:
        return statistics.mean(row["epochs"] or row["all_epochs"] for row in rows)

    costs = [row["processor_seconds_per_epoch"] for row in rows]
    known = [cost for cost in costs if cost is not None]
    return {
        "problem": rows[0]["problem"],
        "system": rows[0]["system"],
        "seeds": len(rows),
        "reached": sum(row["epochs"] is not None for row in rows),
        "mean_epochs": round(mean(rows), 1),
        "random_over_this": round(mean(base) / mean(rows), 2),
        "processor_seconds_per_epoch": statistics.median(known) if known else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--problems", default=",".join(PROBLEMS))
    parser.add_argument("--systems", default=",".join(SYSTEMS), help="names, with commas")
    parser.add_argument("--percent", type=int, default=2, help="1, 2 or 5: which target")
    parser.add_argument("--most", type=int, default=243, help="random trials' worth of epochs")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--quick", action="store_true", help="tiny trials, one seed, any loss")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        for row in runs(*json.loads(args.child)):
            print(json.dumps(row), flush=True)
        return
    known: list[dict[str, Any]] = []
    if args.out and args.out.exists():
        known = [json.loads(line) for line in args.out.read_text().splitlines()]
    targets = json.loads(TARGETS.read_text())
    names = [BASELINE, *(name for name in args.systems.split(",") if name != BASELINE)]
    for problem in args.problems.split(","):
        target = targets[problem][f"best {args.percent} %"]
        most = (QUICK if args.quick else SIZES[problem]) * (1 if args.quick else args.most)
        results: dict[str, list[dict[str, Any]]] = {}
        for system in names:
            mine = [
                row
                for row in known
                if (row["problem"], row["system"], row["target"]) == (problem, system, target)
            ]
            done = {row["seed"] for row in mine}
            seeds = [s for s in range(1 if args.quick else args.seeds) if s not in done]
            if seeds:
                for row in in_a_process(problem, system, seeds, target, most, args.quick):
                    emit(row, args.out)
                    mine.append(row)
            results[system] = mine
        for system in names:
            emit(means(results[system], results[BASELINE]), None)


def emit(row: dict[str, Any], out: Path | None) -> None:
    """Print a line, and keep it."""
    text = json.dumps(row)
    print(text, flush=True)
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        with out.open("a") as handle:
            handle.write(text + "\n")


if __name__ == "__main__":
    main()
