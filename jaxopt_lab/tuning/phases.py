"""The phases of a search: wide, refined by what the wide one says, the best again."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from jaxopt_lab import analysis, schedulers, search
from jaxopt_lab.core.errors import UserError
from jaxopt_lab.core.types import Status
from jaxopt_lab.problems.mlp import hyperparameters
from jaxopt_lab.search import stopping
from jaxopt_lab.search.prior import centre_of
from jaxopt_lab.spaces.space import SearchSpace
from jaxopt_lab.study import trials
from jaxopt_lab.study.callbacks import Progress
from jaxopt_lab.study.study import Study
from jaxopt_lab.tuning import ranking, with_members
from jaxopt_lab.tuning.settings import Settings

#: Shares of a time limit after which the wide search, the refined one and the reruns stop; a
#: search in one phase has the time of both.
SHARES = {"wide": 0.4, "refined": 0.75, "rerun": 0.85, "members": 1.0}
#: Trials that are rerun with other seeds before one of them wins.
NUM_RERUN = 3
#: Searches that make sense in one phase only.
ONE_PHASE = ("grid",)
#: Bayesian search proposes a third of its trials at a time, but no fewer than these: a race of
#: less than four stops next to nothing.
MIN_ROUND = 4
#: It starts from so many results inside them; those of the wide search count.
NUM_KNOWN = 6


def is_one_phase(settings: Settings) -> bool:
    """Whether there is no refined search: the wide one is exhaustive, or learns by itself."""
    found = scheduler_of(settings)
    if isinstance(found, schedulers.PopulationScheduler):
        return True  # its members find better values by themselves
    return settings.search in ONE_PHASE or (found is not None and found.in_turn)


def num_wide(num_trials: int) -> int:
    """Trials of the wide search."""
    return math.ceil(num_trials / 2)


def _stopping(settings: Settings) -> stopping.StoppingRule | None:
    rules = []
    if settings.stop_at is not None:
        rules.append(stopping.target(settings.stop_at))
    if settings.stop_improvement is not None:
        rules.append(stopping.small_improvement(settings.stop_improvement))
    return stopping.any_of(*rules) if rules else None


def scheduler_of(
    settings: Settings,
) -> schedulers.Scheduler | schedulers.PopulationScheduler | None:
    found: schedulers.Scheduler | schedulers.PopulationScheduler | None = schedulers.make(
        settings.scheduler, settings.scheduler_settings
    )
    return found


def search_phases(
    study: Study,
    settings: Settings,
    budget: tuple[int, int, int],
    progress: Callable[[Progress], None] | None,
    say: Callable[[str], None],
) -> None:
    """Wide search, analysis, refined search."""
    num_trials, folds, epochs = budget
    is_bayesian = settings.search == "bayesian"

    def phase(name: str, total: int, space: SearchSpace, until: str) -> None:
        limit = settings.time_limit and settings.time_limit * SHARES[until]
        sampler, round_size = search.REGISTRY[settings.search](), None
        if is_bayesian and name == "wide" and not is_one_phase(settings):
            sampler = search.quasi_random()
        elif is_bayesian and name == "refined":
            sampler = search.bayesian(num_initial=NUM_KNOWN)
            round_size = max(MIN_ROUND, math.ceil(total / 3))
        if settings.prior and name == "wide":
            sampler = search.with_prior(sampler, _prior(study, settings.prior))
        study.optimize(
            sampler,
            total,
            epochs,
            folds,
            time_limit=limit,
            scheduler=scheduler_of(settings),
            phase=name,
            space=space,
            round_size=round_size,
            stopping=_stopping(settings),
            progress=progress,
        )

    def wide_phase(total: int, *shares: str) -> None:
        phase("wide", total, study.space, shares[0])
        for until in shares[1:]:
            if settings.time_limit and not trials.ranking(study.store):
                # All of the time rather than end with no network; nothing is refined without one.
                phase("wide", total, study.space, until)

    if is_one_phase(settings):
        wide_phase(num_trials, "refined", "members")
    else:
        wide = study.recall("wide trials", lambda: num_wide(num_trials))
        wide_phase(min(wide, num_trials), "wide", "refined", "members")
        if num_trials > wide:
            refined = study.recall("refined space", lambda: refine(study, settings, say))
            phase("refined", num_trials - wide, SearchSpace.from_dict(refined), "refined")
    for decision in study.store.decisions("enough")[:1]:
        say(f"stopped searching: {decision['reason']}")


def train_again(
    study: Study,
    settings: Settings,
    progress: Callable[[Progress], None] | None,
    say: Callable[[str], None],
) -> None:
    """The best of a search with other seeds, and the winner with members."""
    limit = settings.time_limit and settings.time_limit * SHARES["rerun"]
    study.rerun(ranking.searched(study)[:NUM_RERUN], 1, limit, progress)
    if settings.members > 1:
        limit = settings.time_limit and settings.time_limit * SHARES["members"]
        with_members.train(study, settings.members, limit, progress, say)


def _prior(study: Study, believed: Mapping[str, Any]) -> dict[str, Any]:
    """What is believed of the parameters that are searched.

    Raises:
      UserError: if it contradicts what the space fixes, or what the study began with.
    """
    searched = {}
    everywhere = hyperparameters.complete(study.space.fixed)
    for name, value in believed.items():
        if name in study.space.parameters or name not in everywhere:
            searched[name] = value
        elif everywhere[name] != value:
            raise UserError(f"prior: {name} is {everywhere[name]!r} in every trial, got {value!r}")
    centre_of(study.space, searched)  # before it is written for ever
    if study.recall("prior", lambda: searched) != searched:
        raise UserError("the study began with another prior; give the same, or another directory")
    return searched


def refine(study: Study, settings: Settings, say: Callable[[str], None]) -> dict[str, Any]:
    """Narrow the ranges to where the best trials of the wide search lie."""
    rows = [t for t in study.store.trials() if t.status != Status.PENDING]
    scores = [math.nan if t.score is None else t.score for t in rows]
    bad = [t.status == Status.INFEASIBLE for t in rows]
    configs = [t.config for t in rows]
    for finding in analysis.boundary_findings(study.space, configs, scores, bad):
        say(finding.text)
    if not trials.ranking(study.store):
        return study.space.to_dict()
    # Ranges that nobody wrote may grow; more layers or neurons would cost more than was planned.
    ranges = [n for n, d in study.space.parameters.items() if not math.isfinite(d.cardinality)]
    widen = settings.widen or (ranges if settings.space is None else ())
    refined = analysis.refine(study.space, configs, scores, bad, widen=widen)
    for name in refined.fixed:
        hyperparameters.check_value(name, refined.fixed[name])
    return refined.to_dict()
