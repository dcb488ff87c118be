"""Does `stabilize` find the cause, and does its fix hold? Cases broken on purpose, one JSON a line.

    python scripts/bench_stabilize.py --data DIR [--out FILE.jsonl] [--quick] [--only PATTERN]

A case counts only if breaking it raises the fluctuation at least threefold. Overfitting lifts the
end of a curve and does not shake it: there the end must stand a fifth above the lowest point, and a
fix must bring it below an eighth. The thresholds of the diagnosis were set on the cases marked
"setting"; the others report. `results/stabilize_cpu.jsonl` holds all 38, 35 minutes on two cores;
cases on which the last changes of rules could have no effect were not run again. A second call with
the same file goes on where the first stopped.
"""

import argparse
import fnmatch
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from bench import stabilize_cases
from bench.stabilize_cases import CASES, QUICK, Case

import jaxopt_lab as lab
from jaxopt_lab.problems.mlp.hyperparameters import complete
from jaxopt_lab.stabilization.compare import mean
from jaxopt_lab.stabilization.members import BASE, Member
from jaxopt_lab.stabilization.population import Population
from jaxopt_lab.stabilization.summary import Summary, summarize
from jaxopt_lab.stabilization.thresholds import GOAL_FLOOR, GOAL_RATIO, RISES

#: Breaking must raise the fluctuation by this for a case to count.
RAISED = 3.0
#: Overfitting must lift the end of the curve this far above its lowest instead.
LIFTED = 1.2


def main() -> None:
    arguments = parse()
    stabilize_cases.DATA = arguments.data
    lab.use_all_cores()
    done = read(arguments.out)
    cases = [c for c in CASES if not arguments.quick or c.name in QUICK]
    for case in cases:
        if case.name not in done and fnmatch.fnmatch(case.name, arguments.only):
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
    parser.add_argument("--only", default="*", help="pattern of case names, such as 'digits/*'")
    return parser.parse_args()


def read(path: Path | None) -> dict[str, dict[str, Any]]:
    if path is None or not path.exists():
        return {}
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return {row["case"]: row for row in rows}


def run(case: Case) -> dict[str, Any]:
    """Diagnose one case, and measure how much breaking it raised the fluctuation."""
    started = time.perf_counter()
    found = lab.stabilize(case.task(), case.hparams, num_epochs=case.num_epochs)
    seconds = time.perf_counter() - started
    healthy = healthy_summary(case)
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
        "cures": {r.name: [r.fluctuation.value, r.loss.value] for r in found.remedies.values()},
        "trainings": found.setting["num_trainings"],
        "seconds": round(seconds, 1),
    }
    if after is not None:
        row["rise"]["after"] = after.end_over_lowest
        row["fluctuation"]["after"] = mean(after.fluctuation)
        row["fluctuation"]["floor"] = mean(after.noise_floor)
        row["best_loss_ratio"] = float(np.mean(after.best) / np.mean(before.best))
    return row


def healthy_summary(case: Case) -> Summary:
    """Of the problem unbroken, with the same seeds and epochs."""
    sound = case.healthy()
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
            "main_cause_right": [sum(right(r) for r in counted), len(counted)],
            "healthy_called_healthy": [sum(right(r) for r in sound), len(sound)],
            "fixed": [sum(fixed(r) for r in counted), len(counted)],
            "worst_best_loss_ratio": max(losses, default=None),
        }
    found["seconds"] = round(sum(r["seconds"] for r in rows), 1)
    return found


def counts(row: dict[str, Any]) -> bool:
    """Whether breaking did what it was to do: overfitting lifts the end, it does not shake."""
    if row["cause"] == "overfitting":
        return bool(row["rise"]["before"] >= LIFTED > row["rise"]["healthy"])
    return bool(row["raised"] >= RAISED)


def right(row: dict[str, Any]) -> bool:
    """Whether the main cause is the one it was broken by."""
    return bool(row["found"][0][0] == row["cause"])


def fixed(row: dict[str, Any]) -> bool:
    """Whether the confirmed fix lowers the fluctuation enough."""
    spread = row["fluctuation"]
    if "after" not in spread:
        return False
    if row["cause"] == "overfitting":
        return bool(row["rise"]["after"] < RISES)
    near_floor = spread["after"] <= GOAL_FLOOR * spread["floor"]
    return bool(spread["after"] * GOAL_RATIO <= spread["before"] or near_floor)


if __name__ == "__main__":
    main()
