"""The end of `tune`: test scores side by side, the winner, and where to look."""

from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from jaxopt_lab.cli.console import duration, short

_HIGHER_IS_BETTER = {"r2", "accuracy", "macro_f1"}
_NAMES = {"single": "tuned, single network", "ensemble": "tuned, ensemble"}


def print_summary(console: Console, content: dict[str, Any], directory: Path) -> None:
    """Print what a finished run came to.

    Args:
      console: where to.
      content: of `best.json`.
      directory: of the study.
    """
    console.print()
    validation = content["validation"]
    scores = {**content.get("test", {}), **content.get("baselines", {})}
    if scores:
        console.print(scores_table(scores, validation["metric"]))
        console.print()
    error = validation.get("standard_error")
    around = f" ± {short(error, 2)}" if error is not None else ""
    chosen = ", ".join(f"{k}={short(v)}" for k, v in content["hyperparameters"].items())
    lines = [
        f"winner: trial {content['trial_id']}, {validation['metric']} "
        f"{short(validation['mean'])}{around} in validation: {chosen}",
        f"trials: {', '.join(f'{n} {status}' for status, n in content['trials'].items())}; "
        f"{duration(content['seconds']['total'])}, "
        f"{duration(content['seconds']['compile'])} of it compiling",
        "",
        *where_to_look(directory),
    ]
    for line in lines:
        console.print(line, soft_wrap=not console.is_terminal)


def where_to_look(directory: Path) -> list[str]:
    """The files worth opening and the command that lists the trials."""
    files = {"report.html": "the report", "best.json": "the winner and all scores"}
    found = [f"{what}: {directory / name}" for name, what in files.items() if _is(directory, name)]
    return [*found, f"all trials: jaxopt-lab show {directory}"]


def _is(directory: Path, name: str) -> bool:
    return (directory / name).exists()


def scores_table(scores: dict[str, dict[str, float]], first: str) -> Table:
    """One row per model, one column per metric, the best of each in bold.

    Args:
      scores: model -> metric -> score on the test rows.
      first: the metric that trials were compared by; its column comes first.
    """
    metrics = list(dict.fromkeys(m for of_model in scores.values() for m in of_model))
    metrics.sort(key=lambda metric: metric != first)
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("test scores")
    for metric in metrics:
        table.add_column(metric, justify="right")
    for name, of_model in scores.items():
        cells = [_cell(of_model.get(m), m, scores) for m in metrics]
        table.add_row(_NAMES.get(name, name), *cells)
    return table


def _cell(value: float | None, metric: str, scores: dict[str, dict[str, float]]) -> Any:
    from rich.text import Text

    known = [s[metric] for s in scores.values() if s.get(metric) is not None]
    best = (max if metric in _HIGHER_IS_BETTER else min)(known)
    return Text(short(value, 5), style="bold" if value == best else "")
