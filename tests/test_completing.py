"""A time limit leaves a complete trial where that can be had in time, not twenty that are not."""

from typing import Any

import jax
import jax.numpy as jnp
import pandas as pd
import pytest

import jaxopt_lab as lab
from jaxopt_lab.core.types import Status
from jaxopt_lab.study.watch import Watch
from jaxopt_lab.tuning.phases import search_phases
from jaxopt_lab.tuning.settings import Settings

NUM_TRIALS, NUM_SEEDS, BUDGET = 12, 3, 9
#: Seconds of three whole trainings one after another, and some.
LIMIT = 10.0 * (NUM_SEEDS * BUDGET + 4)
SCHEDULERS = {
    "none": lambda: None,
    "race": lab.schedulers.race,
    "successive_halving": lab.schedulers.successive_halving,
    "hyperband": lab.schedulers.hyperband,
    "bohb": lab.schedulers.bohb,
    "median_stopping": lab.schedulers.median_stopping,
    "curve_extrapolation": lambda: lab.schedulers.curve_extrapolation(grace_period=4),
}


def steps() -> lab.Trainable:
    """Noisy descent that keeps its sum, so that a training cut in pieces must go on exactly."""

    def init(key: Any, hparams: Any) -> Any:
        return {"x": jax.random.normal(key, (3,)), "sum": jnp.zeros(3)}

    def step(state: Any, hparams: Any, shared: Any) -> Any:
        x = state["x"] - hparams.rate * (state["x"] + jax.random.normal(shared.key, (3,)))
        return {"x": x, "sum": state["sum"] + x}, {"loss": jnp.sum(x**2) + jnp.sum(state["sum"])}

    return lab.Trainable(init, step)


def make_study(cohort_width: int = 2) -> lab.Study:
    problem = lab.from_steps(steps, objective="loss", num_seeds=NUM_SEEDS)
    space = lab.SearchSpace(rate=lab.LogUniform(1e-3, 0.5))
    return lab.Study(problem, space, seed=3, cohort_width=cohort_width)


def optimize(study: lab.Study, scheduler: str, **options: Any) -> None:
    sampler = "bayesian" if scheduler == "bohb" else "random"
    made = SCHEDULERS[scheduler]()
    study.optimize(sampler, NUM_TRIALS, budget=BUDGET, scheduler=made, **options)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds of each wave that was recorded, ten a unit; a study has spent their sum."""
    waves: list[float] = []
    after = Watch.after

    def told(self: Watch, report: Any) -> None:
        waves.append(10.0 * max(cohort.num_units for cohort in report.wave.cohorts))
        after(self, report._replace(seconds=waves[-1], compile_seconds=0.0))

    monkeypatch.setattr(Watch, "after", told)
    monkeypatch.setattr(Watch, "seconds", property(lambda self: sum(waves)))
    return waves


def members(study: lab.Study, trial_id: int) -> dict[int, tuple[Any, ...]]:
    return {
        m.fold: (m.score, m.num_units, {name: c.tobytes() for name, c in m.curves.items()})
        for m in study.store.member_arrays(trial_id)
    }


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_the_best_so_far_are_trained_to_the_end(scheduler: str, clock: list[float]) -> None:
    study, whole = make_study(), make_study()
    optimize(study, scheduler, time_limit=LIMIT)
    spent = sum(clock)
    rows = study.store.trials()
    complete = [row.trial_id for row in rows if row.status == Status.COMPLETED]
    assert 1 <= len(complete) < NUM_TRIALS
    assert spent <= 1.25 * LIMIT
    assert Status.PENDING not in {row.status for row in rows}
    clock.clear()
    optimize(whole, "none")  # what they learn if nobody is stopped
    for trial_id in complete:
        if scheduler != "bohb":  # whose proposals follow from results
            assert members(study, trial_id) == members(whole, trial_id)
        assert all(units == BUDGET for _, units, _ in members(study, trial_id).values())
    assert study.best.trial_id in complete


@pytest.mark.parametrize("scheduler", [name for name in SCHEDULERS if name != "bohb"])
def test_more_time_goes_on_and_loses_nothing(scheduler: str, clock: list[float]) -> None:
    study, whole = make_study(), make_study()
    optimize(study, scheduler, time_limit=LIMIT)
    early = {t.trial_id for t in study.store.trials() if t.status == Status.COMPLETED}
    clock.clear()
    optimize(study, scheduler)
    optimize(whole, scheduler)
    known = {t.trial_id: t for t in study.store.trials()}
    assert not {t.status for t in known.values()} & {Status.PENDING, Status.INFEASIBLE}
    for trial in whole.store.trials():
        if trial.status == Status.COMPLETED and not early - {trial.trial_id}:
            assert known[trial.trial_id].score == trial.score
    assert min(t.score for t in known.values() if t.status == Status.COMPLETED) <= min(
        t.score for t in whole.store.trials() if t.status == Status.COMPLETED
    )


def test_company_in_the_cohort_is_completed_too(clock: list[float]) -> None:
    study = make_study(cohort_width=4)
    optimize(study, "none", time_limit=300.0)
    found = study.trials
    complete = found[found["status"] == "completed"]
    assert len(complete) == 4
    first = {m.trial_id: m.score for m in study.store.members() if m.fold == 0}
    assert sorted(first[i] for i in complete.index) == sorted(first.values())[:4]


def test_a_limit_that_even_one_trial_breaks_is_kept(clock: list[float]) -> None:
    study = make_study()
    optimize(study, "none", time_limit=50.0)
    assert (study.trials["status"] == "stopped").all()
    assert sum(clock) <= 200.0


def test_tune_searches_on_where_a_share_of_its_time_completed_nothing(
    houses: pd.DataFrame, clock: list[float]
) -> None:
    table = lab.datasets.load_table(houses[["area", "age", "price"]].head(150), target="price")
    small = {"hidden_size": 4, "num_layers": 1, "batch_size": 32}
    space = lab.SearchSpace(learning_rate=lab.LogUniform(1e-3, 1e-1), **small)
    study = lab.Study(lab.tasks.tabular(table, numeric="standard"), space, cohort_width=2)
    said: list[str] = []
    # The wide search has 40 s: two waves of two epochs, and 20 to 40 s more complete a trial.
    search_phases(study, Settings(time_limit=100.0), (16, 3, 2), None, said.append)
    found = study.trials
    assert (found["status"] == "completed").any()
    assert (found["phase"] == "wide").all()
    assert sum(clock) <= 125.0


def test_a_search_in_one_phase_has_the_time_of_both(
    houses: pd.DataFrame, clock: list[float]
) -> None:
    table = lab.datasets.load_table(houses[["area", "age", "price"]].head(150), target="price")
    rates = lab.Choice([0.001 * i for i in range(1, 41)])
    space = lab.SearchSpace(learning_rate=rates, hidden_size=4, num_layers=1, batch_size=32)
    study = lab.Study(lab.tasks.tabular(table, numeric="standard"), space, cohort_width=1)
    settings = Settings(time_limit=200.0, search="grid", scheduler="none")
    search_phases(study, settings, (40, 1, 2), None, lambda text: None)
    in_flight = 20.0  # a wave that had begun
    assert 0.4 * 200.0 + in_flight < sum(clock) <= 0.75 * 200.0 + in_flight
