"""How a study and its best trial show themselves in a notebook; all text is escaped."""

from typing import Any

from markupsafe import Markup

from jaxopt_lab.core.errors import UserError
from jaxopt_lab.report import tables, words
from jaxopt_lab.report.words import html, joined
from jaxopt_lab.study.trials import sign_of

#: The best trials shown.
TOP = 5


def study_html(study: Any) -> Markup:
    """A line about a study, and its best trials."""
    head = html("<p>{}</p>", repr(study))
    try:
        best = study.store.best_trials(TOP)
        rows, sign = study.store.trials(), sign_of(study.store)
    except UserError:  # it is closed
        return head
    if not best:
        return head
    names = list(study.space.names)
    shown = [
        [
            str(rows[i].trial_id),
            words.number(sign * rows[i].score),
            words.number(rows[i].standard_error, 2),
            *(words.number(rows[i].config.get(name), 4) for name in names),
        ]
        for i in best
    ]
    top = ["trial", study.problem.objective.metric, "±", *map(words.title, names)]
    return joined([head, tables.table(top, shown)])


def best_html(best: Any, metric: str) -> Markup:
    """A trial: its score and hyperparameters."""
    error = words.number(best.standard_error, 2)
    head = html("<p>Trial {}: {} <b>{}</b> ± {}</p>", best.trial_id, metric,
                words.number(best.score), error)  # fmt: skip
    items = [(words.title(k), words.number(v)) for k, v in best.hyperparameters.items()]
    return joined([head, tables.pairs(items)])
