"""How much training does it take to reach a loss? Schedulers against random search; JSON lines.

    python scripts/bench_schedulers.py [--seeds 5] [--out FILE.jsonl]
    python scripts/bench_schedulers.py --quick

Two problems: `lucas_houses` (hold-out log-RMSE of tabular MLPs of one architecture, in wide ranges)
and scikit-learn's digits (hold-out cross-entropy of a Flax MLP under AdamW). Systems: `random`
stops nothing; each other one is a scheduler of the registry with its defaults, under random search,
or under the Bayesian sampler where it proposes by results (BOHB). `race` is left out: there is one
split. What a later registry has (population-based training) runs too. `NAME/3` is a scheduler with
as many trials as are planned to take a third of the epochs of random search: what trials that stop
early cost less is spent on more of them (`--systems hyperband,hyperband/3`).

The target of a problem and a seed is the best loss of random search with as many trials. A line per
run: `curve` is [epochs trained by all trials so far, seconds, best loss of a completed trial];
`epochs` and `seconds` are those at which it first reached the target (null: never), `ratio` the
epochs over those of random search, `seconds_per_epoch` the whole run's, compilation apart. The last
lines have medians over seeds. Every run is a process of its own, one after the other. A second call
with the same file goes on.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

PROBLEMS = ("lucas_houses", "digits")
#: Trials and epochs of each.
SIZES = {"lucas_houses": (81, 27), "digits": (81, 81)}
QUICK = {"lucas_houses": (9, 3), "digits": (9, 9)}
BASELINE = "random"


def systems() -> list[str]:
    """Random search, and every scheduler that stops trials after epochs."""
    from jaxopt_lab import schedulers

    names = [name for name in schedulers.REGISTRY if name != "race"]
    return [BASELINE, *names]


def trials_of(system: str, num_trials: int, epochs: int) -> tuple[Any, int]:
    """The scheduler of a system, and how many trials it gets; None stops nothing."""
    from jaxopt_lab import schedulers
    from jaxopt_lab.planning.plan import pieces

    name, _, part = system.partition("/")
    scheduler = None if name == BASELINE else schedulers.make(name)
    if not part:
        return scheduler, num_trials
    wanted = num_trials * epochs / float(part)
    low, high = 1, num_trials * epochs
    while high - low > 1:
        middle = (low + high) // 2
        units = sum(row[-1] for row in pieces(middle, epochs, 1, 0, scheduler))
        low, high = (middle, high) if units <= wanted else (low, middle)
    return scheduler, low


def problem_of(name: str, seed: int, quick: bool) -> tuple[Any, Any]:
    """Problem and search space."""
    import jaxopt_lab as lab

    if name == "digits":
        return digits(seed), lab.SearchSpace(
            learning_rate=lab.LogUniform(1e-5, 1e-1),
            decay=lab.LogUniform(1e-5, 1.0),
            b1=lab.Uniform(0.5, 0.99),
            dropout=lab.Uniform(0.0, 0.6),
        )
    table = lab.datasets.load_table("lucas_houses", target="price")
    if quick:
        table = lab.datasets.load_table(table.frame.head(1000), target="price")
    return lab.tasks.tabular(table, test_fraction=0.2), lab.SearchSpace(
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


def digits(seed: int) -> Any:
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


def child(name: str, system: str, seed: int, quick: bool) -> dict[str, Any]:
    """One run in this process."""
    import jaxopt_lab as lab

    lab.use_all_cores()
    problem, space = problem_of(name, seed, quick)
    num_trials, epochs = (QUICK if quick else SIZES)[name]
    scheduler, num_trials = trials_of(system, num_trials, epochs)
    learns = getattr(scheduler, "in_turn", False)
    sampler = lab.search.bayesian() if learns else lab.search.random()
    curve: list[list[float]] = []
    with tempfile.TemporaryDirectory() as folder:
        study = lab.Study(problem, space, folder, seed)
        started = time.perf_counter()

        def watch(progress: Any) -> None:
            trained = sum(wave.units for wave in study.store.waves())
            if progress.best is not None and (not curve or progress.best < curve[-1][2]):
                seconds = round(time.perf_counter() - started, 2)
                curve.append([trained, seconds, float(progress.best)])

        folds = 1 if problem.unit == "epoch" and name == "lucas_houses" else None
        study.optimize(sampler, num_trials, epochs, folds, scheduler=scheduler, progress=watch)
        waves, seconds = study.store.waves(), time.perf_counter() - started
        counts = study.trials["status"].value_counts().to_dict()
        study.close()
    trained = sum(wave.units for wave in waves)
    running = sum(wave.seconds - wave.compile_seconds for wave in waves)
    return {
        "curve": curve,
        "trials": num_trials,
        "all_epochs": trained,
        "all_seconds": round(seconds, 2),
        "training_seconds": round(running, 2),
        "seconds_per_epoch": running / trained,
        "counts": counts,
    }


def reached(row: dict[str, Any], target: float) -> tuple[float | None, float | None]:
    """Epochs and seconds at which a run was at least as good as a target."""
    for epochs, seconds, best in row["curve"]:
        if best <= target:
            return epochs, seconds
    return None, None


def run(name: str, system: str, seed: int, quick: bool) -> dict[str, Any]:
    """A run in a process of its own."""
    command = [sys.executable, __file__, "--child", name, system, str(seed)]
    done = subprocess.run(
        [*command, *(["--quick"] if quick else [])], stdout=subprocess.PIPE, text=True, check=True
    )
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {"problem": name, "system": system, "seed": seed, **row}


def against(row: dict[str, Any], base: dict[str, Any]) -> dict[str, Any]:
    """A run with what it took to reach the best of random search."""
    target = base["curve"][-1][2]
    epochs, seconds = reached(row, target)
    spent, _ = reached(base, target)
    ratio = None if epochs is None or not spent else epochs / spent
    return {**row, "target": target, "epochs": epochs, "seconds": seconds, "ratio": ratio}


def medians(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Of the runs of one system on one problem; a target that is not reached counts as infinite."""

    def median(key: str) -> float | None:
        values = [float("inf") if row[key] is None else float(row[key]) for row in rows]
        found = statistics.median(values)
        return None if found == float("inf") else found

    keys = ("epochs", "seconds", "ratio", "all_epochs", "all_seconds", "seconds_per_epoch")
    return {
        "problem": rows[0]["problem"],
        "system": rows[0]["system"],
        "seeds": len(rows),
        "reached": sum(row["epochs"] is not None for row in rows),
        "best": statistics.median(row["curve"][-1][2] for row in rows),
        **{key: median(key) for key in keys},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--problems", default=",".join(PROBLEMS))
    parser.add_argument("--systems", help="names, with commas (default: all)")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--quick", action="store_true", help="tiny trials, one seed")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        name, system, seed = args.child
        print(json.dumps(child(name, system, int(seed), args.quick)))
        return
    known: list[dict[str, Any]] = []
    if args.out and args.out.exists():
        known = [json.loads(line) for line in args.out.read_text().splitlines()]
    asked = args.systems.split(",") if args.systems else systems()
    names = [BASELINE, *(name for name in asked if name != BASELINE)]
    results: list[dict[str, Any]] = []
    for problem in args.problems.split(","):
        for seed in range(1 if args.quick else args.seeds):
            base: dict[str, Any] = {}
            for system in names:
                where = (problem, system, seed)
                row = next(
                    (r for r in known if where == (r["problem"], r["system"], r.get("seed"))), None
                )
                if row is None:
                    row = run(*where, args.quick)
                    row = against(row, base or row)
                    emit(row, args.out)
                base = base or row
                results.append(row)
    for problem in args.problems.split(","):
        for system in names:
            mine = [r for r in results if (r["problem"], r["system"]) == (problem, system)]
            emit(medians(mine), None)


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
