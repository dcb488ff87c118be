"""Does `stabilize` find the cause, and does its fix hold? Cases broken on purpose, one JSON a line.

    python scripts/bench_stabilize.py --data DIR [--out FILE.jsonl] [--quick] [--half HALF]
        [--only PATTERN ...]

A case counts if breaking it makes it worse for a person than its healthy twin, which is decided
before any verdict: a fluctuation of three times that, or a best loss a tenth higher (not of broken
rows, whose losses are in other units). Overfitting lifts the end of a curve and does not shake it:
there the end must stand a fifth above the lowest point, and a fix must bring it below an eighth.
Elsewhere a fix must divide the fluctuation by three, or make it calm.

The thresholds of the diagnosis were set on the cases marked "setting"; the others report.
`results/stabilize_cpu.jsonl` holds 38 of the cases as an earlier version found them, 35 minutes on
two cores; `results/stabilize_newer_cpu.jsonl` 41 as newer ones did, most of them of
`bench/more_stabilize_cases.py`, and the twelve of `bench/fresh_stabilize_cases.py` at first sight,
each with its commit. A second call with the same file goes on where the first stopped.
"""

import argparse
import fnmatch
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from bench import more_stabilize_cases, stabilize_cases
from bench.fresh_stabilize_cases import FRESH, Fresh
from bench.stabilize_cases import QUICK, Case
from scipy.stats import binomtest

import jaxopt_lab as lab
from jaxopt_lab.problems.general import GeneralProblem
from jaxopt_lab.problems.mlp.hyperparameters import complete
from jaxopt_lab.stabilization.compare import mean
from jaxopt_lab.stabilization.members import BASE, Member
from jaxopt_lab.stabilization.population import Population
from jaxopt_lab.stabilization.summary import Summary, summarize
from jaxopt_lab.stabilization.thresholds import GOAL_RATIO, HEALTHY, RISES

stabilize_cases.PROBLEMS.update(more_stabilize_cases.PROBLEMS)
CASES: list[Case | Fresh] = [*stabilize_cases.CASES, *more_stabilize_cases.cases(), *FRESH]

#: Breaking must raise the fluctuation by this for a case to count.
RAISED = 3.0
#: Or the best loss by this.
WORSE = 1.1
#: Overfitting must lift the end of the curve this far above its lowest instead.
LIFTED = 1.2


def main() -> None:
    arguments = parse()
    stabilize_cases.DATA = arguments.data
    lab.use_all_cores()
    done = read(arguments.out)
    cases = [c for c in CASES if not arguments.quick or c.name in QUICK]
    for case in cases:
        wanted = any(fnmatch.fnmatch(case.name, pattern) for pattern in arguments.only)
        if case.name not in done and wanted and arguments.half in (None, case.half):
            row = run(case)
            done[case.name] = row
            print(json.dumps(row), flush=True)
            if arguments.out:
                with open(arguments.out, "a", encoding="utf-8") as handle:
                    handle.write(json.dumps(row) + "\n")
    print(json.dumps(score([done[c.name] for c in cases if c.name in done])))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, default=stabilize_cases.DATA)
    parser.add_argument("--out", type=Path, help="file of JSON lines to add to and go on from")
    parser.add_argument("--quick", action="store_true", help="one case per cause")
    parser.add_argument(
        "--only", nargs="+", default=["*"], help="patterns of case names, such as 'digits/*'"
    )
    parser.add_argument("--half", choices=("setting", "reporting"), help="cases of this half only")
    return parser.parse_args()


def read(path: Path | None) -> dict[str, dict[str, Any]]:
    if path is None or not path.exists():
        return {}
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return {row["case"]: row for row in rows}


def run(case: Case | Fresh) -> dict[str, Any]:
    """Diagnose one case, and measure how much breaking it raised the fluctuation."""
    started = time.perf_counter()
    found = lab.stabilize(case.task(), case.hparams, num_epochs=case.num_epochs)
    seconds = time.perf_counter() - started
    sound = case.cause == "no_problem"
    healthy = found.summaries[BASE] if sound else healthy_summary(case)
    before, after, chosen = found.before, found.after, found.chosen
    row = {
        "case": case.name,
        "half": case.half,
        "cause": case.cause,
        "found": [[c.name, c.confidence] for c in found.causes],
        "raised": found.evidence.fluctuation / mean(healthy.fluctuation),
        "fluctuation": {
            "healthy": mean(healthy.fluctuation),
            "before": mean(before.fluctuation),
        },
        "rise": {"healthy": healthy.end_over_lowest, "before": before.end_over_lowest},
        "fix": None if chosen is None else chosen.name,
        "evidence": found.to_dict()["evidence"],
        "cures": {
            r.name: [r.fluctuation.value, r.loss.value, r.final.value]
            for r in found.remedies.values()
        },
        "healthy_loss_ratio": float(np.mean(before.best) / np.mean(healthy.best)),
        "spoilt": case.spoil is not None,
        "sentence": found.sentence,
        "trainings": found.setting["num_trainings"],
        "seconds": round(seconds, 1),
        "compile_seconds": found.setting["compile_seconds"],
        "train_seconds": found.setting.get("train_seconds"),
    }
    if after is not None:
        row["rise"]["after"] = after.end_over_lowest
        row["fluctuation"]["after"] = mean(after.fluctuation)
        row["fluctuation"]["floor"] = mean(after.noise_floor)
        row["best_loss_ratio"] = float(np.mean(after.best) / np.mean(before.best))
    return row


def healthy_summary(case: Case | Fresh) -> Summary:
    """Of the problem unbroken, with the same seeds and epochs."""
    sound = case.healthy()
    problem = sound.task()
    if isinstance(problem, GeneralProblem):
        found = lab.stabilize(problem, sound.hparams, num_epochs=sound.num_epochs, num_seeds=2)
        return found.summaries[BASE]
    population = Population(sound.task(), complete(sound.hparams), sound.num_epochs)
    return summarize(population.train([Member(BASE, {})], range(2))[BASE])


def score(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Shares by half: right main cause, healthy called healthy, fixed, and the worst loss."""
    found: dict[str, Any] = {}
    for half in ("setting", "reporting"):
        mine = [r for r in rows if r["half"] == half]
        sound = [r for r in mine if r["cause"] == "no_problem"]
        counted = [r for r in mine if r["cause"] != "no_problem" and counts(r)]
        losses = [r["best_loss_ratio"] for r in counted if "best_loss_ratio" in r]
        found[half] = {
            "cases": len(mine),
            "broken_counted": len(counted),
            "healthy": len(sound),
            "main_cause_right": share(sum(right(r) for r in counted), len(counted)),
            "healthy_called_healthy": share(sum(right(r) for r in sound), len(sound)),
            "fixed": share(sum(fixed(r) for r in counted), len(counted)),
            "worst_best_loss_ratio": max(losses, default=None),
        }
    found["seconds"] = round(sum(r["seconds"] for r in rows), 1)
    return found


def share(number: int, of: int) -> list[Any]:
    """Number, of how many, and the 95 % interval of the share (Clopper and Pearson 1934)."""
    if not of:
        return [0, 0, None]
    interval = binomtest(number, of).proportion_ci(0.95)
    return [number, of, [round(interval.low, 3), round(interval.high, 3)]]


def counts(row: dict[str, Any]) -> bool:
    """Whether breaking did what it was to do: overfitting lifts the end, it does not shake."""
    if row["cause"] == "overfitting":
        return bool(row["rise"]["before"] >= LIFTED > row["rise"]["healthy"])
    if row["raised"] >= RAISED:
        return True
    return not row.get("spoilt") and row.get("healthy_loss_ratio", 0.0) >= WORSE


def right(row: dict[str, Any]) -> bool:
    """Whether the main cause is the one it was broken by."""
    return row["found"][0][0] in row["cause"].split("+")


def fixed(row: dict[str, Any]) -> bool:
    """Whether the confirmed fix lowers the fluctuation enough."""
    spread = row["fluctuation"]
    if "after" not in spread:
        return False
    if row["cause"] == "overfitting":
        return bool(row["rise"]["after"] < RISES)
    calm = row["evidence"].get("calm_limit", HEALTHY)
    return bool(spread["after"] * GOAL_RATIO <= spread["before"] or spread["after"] <= calm)


if __name__ == "__main__":
    main()
