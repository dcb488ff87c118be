"""The end of `tune`: test scores side by side, the winner, and where to look."""

from pathlib import Path
from typing import Any

from rich.console import Console

from jaxopt_lab.cli.console import duration, short
from jaxopt_lab.cli.grid import Column, print_grid

_HIGHER_IS_BETTER = {"r2", "accuracy", "macro_f1"}
#: Neither more nor less of these is better.
_UNRANKED = {"share_below"}
_NAMES = {"single": "tuned, single network", "ensemble": "tuned, ensemble"}


def print_summary(
    console: Console, content: dict[str, Any], directory: Path, has_report: bool = True
) -> None:
    """Print what a finished run came to.

    Args:
      console: where to.
      content: of `best.json`.
      directory: of the study.
      has_report: whether its page was written.
    """
    console.print()
    validation = content["validation"]
    scores = {**content.get("test", {}), **content.get("baselines", {})}
    if scores:
        print_scores(console, scores, validation["metric"])
        for name, mine in content.get("targets", {}).items():
            console.print()
            of_target = {**mine["test"], **mine["baselines"]}
            print_scores(console, of_target, mine["metric"], f"test scores of {short(name)}")
        console.print()
    error = validation.get("standard_error")
    around = f" (standard error over folds {short(error, 2)})" if error is not None else ""
    chosen = ", ".join(f"{k}={short(v)}" for k, v in content["hyperparameters"].items())
    lines = [
        *_intervals(content.get("intervals")),
        *(
            line
            for name, mine in content.get("targets", {}).items()
            for line in _intervals(mine.get("intervals"), f" for {short(name)}")
        ),
        *_calibration(content.get("calibration")),
        f"winner: trial {content['trial_id']}, {validation['metric']} "
        f"{short(validation['mean'])}{around} in validation: {chosen}",
        *_epochs(validation.get("epochs")),
        *_rerun(validation, content["trial_id"]),
        *_members(content.get("members"), content["trial_id"]),
        *curve_findings(content),
        f"trials: {', '.join(f'{n} {status}' for status, n in content['trials'].items())}; "
        f"{duration(content['seconds']['total'])}, "
        f"{duration(content['seconds']['compile'])} of it compiling",
        "",
        *where_to_look(directory, has_report),
    ]
    for line in lines:
        console.print(line, soft_wrap=not console.is_terminal)


def curve_findings(content: dict[str, Any]) -> list[str]:
    """A line for each finding about learning curves, as the report has them."""
    found = content["analysis"].get("curves", {}).get("findings", [])
    return [f"finding: {row['text']}" for row in found]


def where_to_look(directory: Path, has_report: bool = True) -> list[str]:
    """The files worth opening and the command that lists the trials.

    Args:
      directory: of the study.
      has_report: whether its page was written; one of an earlier run is not worth opening.
    """
    files = {"report.html": "the report"} if has_report else {}
    files["best.json"] = "the winner and all scores"
    found = [f"{what}: {directory / name}" for name, what in files.items() if _is(directory, name)]
    return [*found, f"all trials: jaxopt-lab show {directory}"]


def _is(directory: Path, name: str) -> bool:
    return (directory / name).exists()


def print_scores(
    console: Console,
    scores: dict[str, dict[str, float]],
    first: str,
    title: str = "test scores",
) -> None:
    """One row per model, one column per metric, the best of each in bold.

    Args:
      console: where to.
      scores: model -> metric -> score on the test rows.
      first: the metric that trials were compared by; its column comes first.
      title: over the models.
    """
    metrics = list(dict.fromkeys(m for of_model in scores.values() for m in of_model))
    metrics.sort(key=lambda metric: metric != first)
    names = [_NAMES.get(name, name) for name in scores]
    columns = [Column(title, names, right=False)]
    for i, metric in enumerate(metrics):
        values = [of_model.get(metric) for of_model in scores.values()]
        best = (max if metric in _HIGHER_IS_BETTER else min)(v for v in values if v is not None)
        ranked = metric not in _UNRANKED
        looks = ["bold" if ranked and value == best else "" for value in values]
        columns.append(Column(metric, [short(v, 5) for v in values], True, min(i, 1), looks))
    left_out = print_grid(console, columns)
    if left_out:
        missing = ", ".join(column.title for column in left_out)
        console.print(f"not shown, for want of width: {missing}", soft_wrap=not console.is_terminal)


def _intervals(found: dict[str, Any] | None, of: str = "") -> list[str]:
    """A line on the intervals of the test rows, if they were measured; `of` a target."""
    if not found:
        return []
    of_ensemble = found["ensemble"]
    return [
        f"intervals of {found['asked']:.0%}{of} (predict --interval {found['asked']:g}): they hold "
        f"the truth of {of_ensemble['coverage']:.1%} of the test rows, mean width "
        f"{short(of_ensemble['mean_width'])} (ensemble)"
    ]


def _calibration(found: dict[str, Any] | None) -> list[str]:
    """A line for each of our models whose class probabilities got a temperature."""
    return [
        f"probabilities ({_NAMES[name]}): temperature {short(mine['temperature'])}, out-of-fold "
        f"log loss {short(mine['log_loss']['before'])} before, {short(mine['log_loss']['after'])} "
        "with it"
        for name, mine in (found or {}).items()
        if mine["temperature"] != 1
    ]


def _epochs(found: dict[str, Any] | None) -> list[str]:
    """A line where the last epoch is not the one that counts."""
    if not found:
        return []
    each = ", ".join(str(epoch) for epoch in found["folds"])
    return [
        f"the best epoch of each fold counts, of {found['of']}: {each}; the network of all rows is "
        f"trained for their mean over all seeds, {found['refit']}"
    ]


def _rerun(validation: dict[str, Any], winner: int) -> list[str]:
    """A line where training with other seeds made another trial win, or another score."""
    again = [score for score in validation.get("rerun", []) if score is not None]
    if not again:
        return []
    both = [score for score in (*validation["folds"], *again) if score is not None]
    line = (
        f"with other seeds trial {winner} scores {short(sum(again) / len(again))}, over both "
        f"{short(sum(both) / len(both))}"
    )
    before = validation.get("before_reruns")
    if before and before["trial_id"] != winner:
        line += (
            f"; trial {before['trial_id']} was first before, with {short(before['mean'])}, and "
            f"comes to {short(before['with_reruns'])}"
        )
    return [line]


def _members(found: dict[str, Any] | None, winner: int) -> list[str]:
    """A line on what the winner's configuration came to with members."""
    scored = [t for t in (found or {}).get("trials", []) if t["mean"] is not None]
    if not found or not scored:
        return []
    best = min(scored, key=lambda trial: trial["mean"])
    taken = "taken" if best["trial_id"] == winner else "not taken"
    against = "" if found["without"] is None else f" against {short(found['without'])} without"
    return [f"with {best['size']} members it scores {short(best['mean'])}{against}: {taken}"]
