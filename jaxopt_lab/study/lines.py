"""A study and a trial in a line of text."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxopt_lab.core.errors import UserError
from jaxopt_lab.core.status import Status
from jaxopt_lab.storage.store import Store
from jaxopt_lab.study.trials import sign_of


def study_line(store: Store, metric: str, directory: Path | None) -> str:
    """How many trials there are, the best of them, and where.

    Args:
      store: of the study.
      metric: name of its objective.
      directory: of the study; None in memory.
    """
    where = "in memory" if directory is None else f"in {directory}"
    try:
        counts, best = store.counts(), store.best_trials(1)
        score = store.best_score()
    except UserError:
        return f"Study {where}, closed"
    parts = [f"{n} {status}" for status, n in counts.items() if n or status == Status.COMPLETED]
    line = f"Study {where}: {sum(counts.values())} trials ({', '.join(parts)})"
    if score is not None:
        line += f"; best {metric} {sign_of(store) * score:.5g}, trial {best[0]}"
    return line


def trial_line(trial_id: int, metric: str, score: float, config: Mapping[str, Any]) -> str:
    """Its number, score and hyperparameters."""
    chosen = ", ".join(f"{k}={_short(v)}" for k, v in config.items())
    return f"Trial {trial_id}: {metric} {score:.5g}, {chosen}"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else repr(value)
