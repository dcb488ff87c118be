"""How good is the best network after so many seconds? `tune` against random search and Optuna.

    pip install 'torch>=2.13,<2.14'    # a CPU build, before the rest
    pip install 'jaxopt-lab[bench]'
    python scripts/bench_time_to_quality.py --out scripts/results/time_to_quality.jsonl
    python scripts/bench_time_to_quality.py --quick

`lucas_houses`, the space, epochs, split and encoding that `jaxopt-lab tune` takes by default; the
score is the validation loss by which it chooses. Systems, one process each, one after the other:

- `tune`: the default of the command line with `--time-limit 60`;
- `random`: random search by this package's engine, nothing stopped early, 180 seconds;
- `tune_halving`, only if asked for by `--systems`: `tune` with `--scheduler successive_halving`;
- `optuna_pytorch`: Optuna's TPE over a PyTorch training loop (fused AdamW, tensors in memory), one
  process per core on a shared study, for as long as `tune` and then as long as `random`.

One JSON line per system and seed: `curve` is [seconds, best score so far], from the start of the
search, compilation included; imports and reading the table apart. The last line has medians over
seeds: the best after each time, and the seconds at which `tune` reached what the others ended with.
"""

import argparse
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SYSTEMS = {"tune": 60.0, "random": 180.0, "optuna_pytorch": 180.0, "tune_halving": 60.0}
DEFAULT = "tune,random,optuna_pytorch"
#: More than fit the time.
MANY_TRIALS = 10_000
#: Seconds after which the scores are compared.
TIMES = (20.0, 40.0, 60.0, 120.0, 180.0)
Curve = list[list[float]]


class Watcher:
    """Keeps the best score over time."""

    def __init__(self) -> None:
        self.started = time.perf_counter()
        self.curve: list[Any] = []
        self.num_trials = 0

    def see(self, best: float | None) -> None:
        if best is not None and (not self.curve or best < self.curve[-1][1]):
            self.curve.append([round(time.perf_counter() - self.started, 2), float(best)])

    def update(self, progress: Any) -> None:
        """As `progress` of a study."""
        self.num_trials = sum(progress.counts.values()) - progress.counts["pending"]
        self.see(progress.best)


def ours(system: str, seed: int, seconds: float, folder: str) -> dict[str, Any]:
    """Default `tune`, or random search alone."""
    import jaxopt_lab as lab
    from jaxopt_lab.tuning import tune
    from jaxopt_lab.tuning.settings import Settings

    lab.use_all_cores()
    table = lab.datasets.load_table("lucas_houses", target="price")
    watcher = Watcher()
    if system.startswith("tune"):
        scheduler = "successive_halving" if system == "tune_halving" else Settings().scheduler
        settings = Settings(seed=seed, time_limit=seconds, scheduler=scheduler)
        tune.run(table, settings, folder, watcher.update, lambda text: None)
    else:
        task, space, (folds, epochs) = problem(table, seed)
        study = lab.Study(task, space, folder, seed)
        watcher.started = time.perf_counter()
        study.optimize(
            lab.search.random(),
            MANY_TRIALS,
            epochs,
            folds,
            time_limit=seconds,
            round_size=64,
            progress=watcher.update,
        )
    return {"curve": watcher.curve, "trials": watcher.num_trials}


def problem(table: Any, seed: int) -> tuple[Any, Any, tuple[int, int]]:
    """Task, space, folds and epochs as `tune` takes them."""
    import jaxopt_lab as lab
    from jaxopt_lab.tuning.settings import Settings, default_budget, default_space

    task = lab.tasks.tabular(table, test_fraction=Settings().test_fraction)
    num_rows = round(len(table) * (1 - Settings().test_fraction))
    encoded = task.prepare(1, seed).arrays.inputs.shape[2]
    return task, default_space(num_rows), default_budget(num_rows, encoded)[1:]


def optuna_pytorch(seed: int, seconds: float, folder: str) -> dict[str, Any]:
    """One process per core on a study in a journal file."""
    import os

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    command = [sys.executable, __file__, "--child", "worker", str(seed), str(seconds), folder]
    workers = [
        subprocess.Popen([*command, str(i)], stdout=subprocess.PIPE, text=True)
        for i in range(cores or 1)
    ]
    found = [json.loads(worker.communicate()[0]) for worker in workers]
    best, curve = math.inf, []
    for moment, score in sorted(pair for row in found for pair in row["curve"]):
        if score < best:
            best = score
            curve.append([moment, score])
    return {"curve": curve, "trials": sum(row["trials"] for row in found)}


def worker(seed: int, seconds: float, folder: str, number: int) -> dict[str, Any]:
    """The trial loop of an expert: sample, train, report."""
    import numpy as np
    import optuna
    import torch
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    import jaxopt_lab as lab
    from jaxopt_lab.spaces.distributions import Choice, LogUniform

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    torch.set_num_threads(1)
    table = lab.datasets.load_table("lucas_houses", target="price")
    task, space, (num_folds, epochs) = problem(table, seed)
    assert num_folds == 1
    prepared = task.prepare(1, seed)
    arrays = prepared.arrays
    inputs, targets = (torch.from_numpy(np.array(a[0])) for a in (arrays.inputs, arrays.targets))
    train = torch.from_numpy(np.array(arrays.train_rows[0][: arrays.num_train[0]])).long()
    valid = torch.from_numpy(np.array(arrays.valid_rows[0][: arrays.num_valid[0]])).long()
    kinds = {"relu": torch.nn.ReLU, "gelu": torch.nn.GELU, "silu": torch.nn.SiLU}

    def network(config: dict[str, Any]) -> Any:
        layers, size = [], inputs.shape[1]
        for _ in range(config["num_layers"]):
            layers += [torch.nn.Linear(size, config["hidden_size"]), kinds[config["activation"]]()]
            layers.append(torch.nn.Dropout(config["dropout"]))
            size = config["hidden_size"]
        model = torch.nn.Sequential(*layers, torch.nn.Linear(size, 1), torch.nn.Flatten(0))
        for module in model:
            if isinstance(module, torch.nn.Linear):
                torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                torch.nn.init.zeros_(module.bias)
        return model

    def objective(trial: Any) -> float:
        config = dict(space.fixed)
        for name, dist in space.parameters.items():
            if isinstance(dist, Choice):
                config[name] = trial.suggest_categorical(name, list(dist.values))
            else:
                log = isinstance(dist, LogUniform)
                config[name] = trial.suggest_float(name, dist.low, dist.high, log=log)
        torch.manual_seed(1000 * seed + trial.number)
        model, size = network(config), config["batch_size"]
        total = epochs * math.ceil(len(train) / size)
        warm = round(config["warmup_fraction"] * total)
        optimizer = torch.optim.AdamW(
            model.parameters(),
            lr=config["learning_rate"],
            weight_decay=config["weight_decay"],
            fused=True,
        )

        def rate(step: int) -> float:
            if step < warm:
                return (step + 1) / (warm + 1)
            return 0.5 * (1.0 + math.cos(math.pi * (step - warm) / max(total - warm, 1)))

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
        loss_of = torch.nn.functional.mse_loss
        model.train()
        for _ in range(epochs):
            order = train[torch.randperm(len(train))]
            rows = zip(inputs[order].split(size), targets[order].split(size), strict=True)
            for x, y in rows:
                optimizer.zero_grad()
                loss_of(model(x), y).backward()
                optimizer.step()
                schedule.step()
            if time.perf_counter() - watcher.started > seconds:
                trial.study.stop()
                raise optuna.TrialPruned
        model.eval()
        with torch.no_grad():
            loss = float(loss_of(model(inputs[valid]), targets[valid]))
        score = float(task.score(loss, 0, prepared)) if math.isfinite(loss) else math.inf
        watcher.num_trials += 1
        watcher.see(score)
        return score

    storage = JournalStorage(JournalFileBackend(str(Path(folder) / "journal.log")))
    sampler = optuna.samplers.TPESampler(seed=100 * seed + number, constant_liar=True)
    study = optuna.create_study(
        storage=storage, study_name="peer", sampler=sampler, load_if_exists=True
    )
    watcher = Watcher()
    study.optimize(objective, timeout=seconds)
    return {"curve": watcher.curve, "trials": watcher.num_trials}


def child(system: str, seed: int, seconds: float, folder: str, number: int) -> None:
    """Measure one system in this process; one JSON line."""
    if system == "worker":
        found = worker(seed, seconds, folder, number)
    elif system == "optuna_pytorch":
        found = optuna_pytorch(seed, seconds, folder)
    else:
        found = ours(system, seed, seconds, folder)
    print(json.dumps(found))


def best_at(curve: Curve, seconds: float) -> float:
    """The best score so far; infinite before the first."""
    return min((score for moment, score in curve if moment <= seconds), default=math.inf)


def reached(curve: Curve, score: float) -> float:
    """When a score was reached; infinite if never."""
    return min((moment for moment, mine in curve if mine <= score), default=math.inf)


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over seeds, and how often `tune` reached what the others ended with."""
    found: dict[str, Any] = {"bench": "time_to_quality", "summary": True}
    for system, limit in SYSTEMS.items():
        mine = [row["curve"] for row in rows if row["system"] == system]
        if mine:
            times = [t for t in TIMES if t <= limit]
            medians = [statistics.median(best_at(curve, t) for curve in mine) for t in times]
            found[system] = {f"{t:g}": m for t, m in zip(times, medians, strict=True)}
    ours = {row["seed"]: row["curve"] for row in rows if row["system"] == "tune"}
    for other in ("random", "optuna_pytorch"):
        ends = {row["seed"]: row["curve"][-1][1] for row in rows if row["system"] == other}
        moments = [reached(ours[seed], end) for seed, end in ends.items() if seed in ours]
        if moments:
            found[f"seconds_to_{other}"] = [m if math.isfinite(m) else None for m in moments]
            found[f"reached_{other}"] = [sum(map(math.isfinite, moments)), len(moments)]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--systems", default=DEFAULT, help=f"comma-separated [{DEFAULT}]")
    parser.add_argument("--quick", action="store_true", help="one seed, a third of the seconds")
    parser.add_argument("--out", type=Path, help="file of JSON lines to add to and go on from")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.child:
        system, seed, seconds, folder, *number = args.child
        child(system, int(seed), float(seconds), folder, int(number[0]) if number else 0)
        return
    known = args.out.read_text(encoding="utf-8").splitlines() if known_file(args.out) else []
    rows = [row for row in map(json.loads, known) if "system" in row]
    done = {(row["system"], row["seed"]) for row in rows}
    for seed in range(1 if args.quick else args.seeds):
        for system in args.systems.split(","):
            seconds = SYSTEMS[system]
            if (system, seed) in done:
                continue
            limit = seconds / 3 if args.quick else seconds
            print(f"seed {seed}: {system}, {limit:g} s", file=sys.stderr, flush=True)
            with tempfile.TemporaryDirectory() as folder:
                command = [sys.executable, __file__, "--child", system, str(seed), str(limit)]
                started = subprocess.run(
                    [*command, folder], stdout=subprocess.PIPE, text=True, check=True
                )
            row = {"bench": "time_to_quality", "system": system, "seed": seed, "limit": limit}
            rows.append({**row, **json.loads(started.stdout)})
            write(rows[-1], args.out)
    write(summary(rows), args.out)


def known_file(path: Path | None) -> bool:
    return path is not None and path.exists()


def write(row: dict[str, Any], path: Path | None) -> None:
    """Print a line, and add it to a file."""
    print(json.dumps(row), flush=True)
    if path is not None:
        with open(path, "a", encoding="utf-8") as handle:
            handle.write(json.dumps(row) + "\n")


if __name__ == "__main__":
    main()
