"""Which rungs pay? Schedulers replayed on stored learning curves; a fixed target for each problem.

    python scripts/replay_schedulers.py pool [--problems digits] [--seeds 4] [--trials 128]
    python scripts/replay_schedulers.py target
    python scripts/replay_schedulers.py replay [--replays 200] [--out FILE.jsonl]
    python scripts/replay_schedulers.py round [--trials 81] [--out FILE.jsonl]

`pool` trains random configurations of a problem of `bench_schedulers.py` to the end, by studies
with seeds from 1000 on, which no compared run has, and keeps the validation loss after each epoch
in `results/scheduler_pools/`. `target` writes the losses that the best 1, 2 and 5 % of a pool reach
at the full budget. A scheduler that draws its trials at random decides by these curves alone, so
`replay` runs the real one (its brackets, its comparisons) on configurations drawn from the pool,
with replacement, round after round, until a trial that completed is at least as good as the target,
and counts the epochs of all trials. A round's youngest trials train first. `epochs` is the mean
over replays, `ratio` that of random search over it, which is exact: its trials end one after the
other, so it needs (share that reaches the target)^-1 trials in the mean. `standard_error` is that
of the replays alone. The pool itself is a sample, and few of its trials reach the target: 95 % of
20 pools drawn anew from it gave ratios between those in `interval`. `round` replays one round and
says what the best trial that completed came to: the median of its loss, and the mean share of the
pool that is at least as good; `random` is random search with the same epochs.
"""

import argparse
import itertools
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from bench_schedulers import BASELINE, PROBLEMS, SIZES, TARGETS, emit, hyperband_trials, problem_of

POOLS = Path(__file__).parent / "results" / "scheduler_pools"
FIRST_SEED = 1000
#: Per cent of the pool that reaches a target.
PERCENT = (1, 2, 5)
#: After so many rounds a replay has failed.
MOST_ROUNDS = 200
#: Drawn anew, for the interval.
NUM_POOLS = 20


def train_pool(name: str, seed: int, num_trials: int) -> np.ndarray:
    """[trials, epochs] validation losses of random configurations; NaN where training diverged."""
    import jaxopt_lab as lab

    problem, space = problem_of(name, False)
    epochs = SIZES[name]
    curves = np.full((num_trials, epochs), np.nan, np.float32)
    with tempfile.TemporaryDirectory() as folder:
        study = lab.Study(problem, space, folder, seed)
        study.optimize("random", num_trials, epochs)
        for trial_id in range(num_trials):
            for row in study.store.member_arrays(trial_id):
                found = study.training.objective_curve(row.curves, row.fold)
                curves[trial_id, : len(found)] = found
        study.close()
    return curves


def read_pool(name: str) -> np.ndarray:
    """[trials, epochs] curves of all seeds."""
    files = sorted(POOLS.glob(f"{name}-*.npz"))
    if not files:
        raise SystemExit(f"no pool of {name}; run: python {__file__} pool --problems {name}")
    return np.concatenate([np.load(file)["curves"] for file in files]).astype(np.float64)


def targets_of(curves: np.ndarray) -> dict[str, Any]:
    """The losses that the best shares of a pool reach at the full budget."""
    final = np.sort(np.where(np.isfinite(curves[:, -1]), curves[:, -1], np.inf))
    count = [max(1, round(len(final) * percent / 100)) for percent in PERCENT]
    return {
        "pool": len(final),
        "epochs": curves.shape[1],
        **{
            f"best {percent} %": float(final[number - 1])
            for percent, number in zip(PERCENT, count, strict=True)
        },
    }


def standing_of(curves: np.ndarray, age: int, others: np.ndarray, see: bool) -> Any:
    """What a scheduler sees of trials that are compared."""
    from jaxopt_lab.schedulers import Standing

    seen = age if see else 0
    return Standing(curves[:, age - 1], curves[:, :seen], others[:, :seen], curves.shape[1])


def rounds(scheduler: Any, curves: np.ndarray, others: np.ndarray) -> Iterator[tuple[int, float]]:
    """Epochs of each training up to a rung, youngest trials first, and the best loss at its end.

    Args:
      scheduler: of one round.
      curves: [n, epochs] of its trials, in order.
      others: [m, epochs] of trials of earlier rounds.

    Yields:
      Epochs of all that trained, and the least loss of those that completed by it; infinity for
      none.
    """
    brackets = scheduler.brackets(len(curves), curves.shape[1], 1)
    first = np.cumsum([0, *(rungs[0].num_trials for rungs in brackets)])
    alive = [np.arange(start, end) for start, end in itertools.pairwise(first)]
    steps = sorted(
        (rungs[at - 1].num_epochs if at else 0, number, at)
        for number, rungs in enumerate(brackets)
        for at in range(len(rungs))
    )
    for before, number, at in steps:
        rungs, mine = brackets[number], alive[number]
        if not len(mine):
            continue
        age = rungs[at].num_epochs
        losses = curves[mine, age - 1]
        over = at == len(rungs) - 1
        best = float(np.nanmin(np.where(np.isfinite(losses), losses, np.inf))) if over else np.inf
        yield len(mine) * (age - before), best
        if not over:
            known = standing_of(curves[mine], age, others, scheduler.sees_curves)
            chosen = scheduler.promote(known, min(rungs[at + 1].num_trials, len(mine)))
            alive[number] = mine[chosen]


def epochs_to(
    target: float, scheduler: Any, size: int, curves: np.ndarray, rng: np.random.Generator
) -> float:
    """Epochs of all trials until one that completed reaches a target; infinity for never."""
    spent, others = 0, curves[:0]
    for _ in range(MOST_ROUNDS):
        drawn = curves[rng.integers(len(curves), size=size)]
        for epochs, best in rounds(scheduler, drawn, others):
            spent += epochs
            if best <= target:
                return float(spent)
        if scheduler.sees_curves:
            others = drawn if not len(others) else np.concatenate([others, drawn])[-256:]
    return float("inf")


def systems(epochs: int) -> Iterator[tuple[str, dict[str, int], int]]:
    """Name, settings and trials of a round of what is replayed."""
    for reduction in (2, 3, 4):
        for least in (1, 3, 9, 27):
            if least * reduction > epochs:
                continue
            settings = {"reduction": reduction, "min_epochs": least}
            for size in (27, 81):
                yield "successive_halving", settings, size
            yield "hyperband", settings, 0
    for size in (32, 81):
        yield "median_stopping", {}, size


def replay(
    name: str, settings: dict[str, int], size: int, curves: np.ndarray, percent: int, number: int
) -> dict[str, Any]:
    """Mean epochs of a scheduler to the loss of the best `percent` of the pool."""
    from jaxopt_lab import schedulers

    epochs = curves.shape[1]
    size = size or hyperband_trials(epochs, **settings)
    scheduler = schedulers.make(name, settings)
    rng = np.random.default_rng(0)

    def mean(pool: np.ndarray, number: int) -> tuple[float, float, float]:
        target = targets_of(pool)[f"best {percent} %"]
        random = epochs / np.mean(pool[:, -1] <= target)
        found = [epochs_to(target, scheduler, size, pool, rng) for _ in range(number)]
        spread = np.std(found) if np.isfinite(found).all() else np.inf
        return float(np.mean(found)), float(spread / number**0.5), float(random)

    spent, error, random = mean(curves, number)
    others = []
    if np.isfinite(spent):
        for _ in range(NUM_POOLS):
            again = curves[rng.integers(len(curves), size=len(curves))]
            other, _, base = mean(again, max(20, number // 10))
            others.append(base / other)
    row: dict[str, Any] = {
        "system": name,
        **settings,
        "trials": size,
        "percent": percent,
        "epochs": round(spent, 1) if np.isfinite(spent) else None,
        "standard_error": round(error, 1) if np.isfinite(spent) else None,
        "random": round(random, 1),
        "ratio": round(random / spent, 2),
    }
    if others:
        row["interval"] = [round(float(x), 2) for x in np.quantile(others, [0.025, 0.975])]
    return row


def one_round(
    name: str, settings: dict[str, int], size: int, curves: np.ndarray, number: int
) -> dict[str, Any]:
    """What the best of one round of trials comes to."""
    from jaxopt_lab import schedulers

    scheduler = schedulers.make("race" if name == BASELINE else name, settings)
    rng = np.random.default_rng(0)
    final = np.sort(np.where(np.isfinite(curves[:, -1]), curves[:, -1], np.inf))
    spent, best = [], []
    for _ in range(number):
        drawn = curves[rng.integers(len(curves), size=size)]
        steps = list(rounds(scheduler, drawn, curves[:0]))
        spent.append(sum(epochs for epochs, _ in steps))
        best.append(min(loss for _, loss in steps))
    share = np.searchsorted(final, best, side="right") / len(final)
    return {
        "system": name,
        **settings,
        "trials": size,
        "epochs": round(float(np.mean(spent)), 1),
        "median_loss": round(float(np.median(best)), 4),
        "mean_share": round(float(np.mean(share)), 4),
    }


def rounds_of(size: int, curves: np.ndarray, number: int) -> Iterator[dict[str, Any]]:
    """`one_round` of several schedulers, and of random search."""
    yield one_round(BASELINE, {}, size, curves, number)
    for system, settings in (
        ("successive_halving", {}),
        ("successive_halving", {"min_epochs": 1}),
        ("hyperband", {}),
        ("median_stopping", {}),
    ):
        row = one_round(system, settings, size, curves, number)
        same = max(1, round(row["epochs"] / curves.shape[1]))
        base = one_round(BASELINE, {}, same, curves, number)
        yield {**row, "random": {key: base[key] for key in ("trials", "median_loss", "mean_share")}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("what", choices=["pool", "target", "replay", "round"])
    parser.add_argument("--problems", default=",".join(PROBLEMS))
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--trials", type=int, help="128 of a seed of a pool, 81 of a round")
    parser.add_argument("--replays", type=int, default=200)
    parser.add_argument("--percent", default="1,2")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    problems = args.problems.split(",")
    if args.what == "pool":
        import jaxopt_lab as lab

        lab.use_all_cores()
        POOLS.mkdir(parents=True, exist_ok=True)
        for name in problems:
            for seed in range(FIRST_SEED, FIRST_SEED + args.seeds):
                curves = train_pool(name, seed, args.trials or 128)
                np.savez_compressed(POOLS / f"{name}-{seed}.npz", curves=curves)
    elif args.what == "target":
        known = json.loads(TARGETS.read_text()) if TARGETS.exists() else {}
        found = {**known, **{name: targets_of(read_pool(name)) for name in problems}}
        TARGETS.write_text(json.dumps(found, indent=2) + "\n")
        print(json.dumps(found))
    elif args.what == "round":
        for name in problems:
            for row in rounds_of(args.trials or 81, read_pool(name), 2 * args.replays):
                emit({"problem": name, **row}, args.out)
    else:
        for name in problems:
            curves = read_pool(name)
            for percent in map(int, args.percent.split(",")):
                for system, settings, size in systems(curves.shape[1]):
                    row = replay(system, settings, size, curves, percent, args.replays)
                    emit({"problem": name, **row}, args.out)


if __name__ == "__main__":
    main()
