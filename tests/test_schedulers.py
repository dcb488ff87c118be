"""Every scheduler keeps the contract: pure, falling rungs, no NaN goes on, and every study that
runs under one comes to the same, whatever interrupts it.
"""

import itertools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jaxopt_lab as lab
from jaxopt_lab import schedulers
from jaxopt_lab.core.errors import UserError
from jaxopt_lab.schedulers import Rung, Scheduler, Standing
from jaxopt_lab.schedulers.bohb import partly_random
from jaxopt_lab.search import History, Sampler
from jaxopt_lab.search.region import frame_of
from jaxopt_lab.study.histories import AGE

NAMES = [name for name, make in schedulers.REGISTRY.items() if isinstance(make(), Scheduler)]
SLOW = pytest.mark.slow
each = pytest.mark.parametrize("name", NAMES)
VALUES = st.floats(allow_nan=True, allow_infinity=True, width=32)


def standing(curves: Any, others: Any = ()) -> Standing:
    """A standing of curves alone, whose last epoch counts."""
    found = np.atleast_2d(np.array(curves, np.float64))
    rest = np.reshape(np.array(others, np.float64), (-1, found.shape[1]))
    return Standing(found[:, -1], found, rest, 2 * found.shape[1])


# Pure functions.


@each
@settings(max_examples=20)
@given(st.integers(1, 300), st.integers(1, 200), st.integers(1, 5))
def test_brackets_hold_every_trial_once_and_end_with_the_budget(
    name: str, num: int, epochs: int, folds: int
) -> None:
    brackets = schedulers.make(name).brackets(num, epochs, folds)
    assert sum(rungs[0].num_trials for rungs in brackets) == num
    for rungs in brackets:
        assert rungs[-1].num_epochs == epochs
        assert rungs[-1].num_folds in (None, folds)
        for before, after in itertools.pairwise(rungs):
            assert 1 <= after.num_trials <= before.num_trials
            assert 1 <= before.num_epochs <= after.num_epochs
            on = before.num_folds or folds, after.num_folds or folds
            assert before.num_epochs < after.num_epochs or on[0] < on[1]


@each
@settings(max_examples=20)
@given(st.lists(st.lists(VALUES, min_size=3, max_size=3), min_size=1, max_size=8), st.data())
def test_nothing_that_is_not_finite_is_promoted_and_the_best_always_is(
    name: str, curves: list[list[float]], data: st.DataObject
) -> None:
    scheduler, given_ = schedulers.make(name), standing(curves)
    count = data.draw(st.integers(1, len(curves)))
    chosen = scheduler.promote(given_, count)
    finite = np.isfinite(given_.losses)
    assert chosen.shape == finite.shape
    assert not (chosen & ~finite).any()
    assert chosen.sum() <= count
    if finite.any() and not scheduler.sees_curves:
        assert chosen.sum() == min(count, finite.sum())
        assert chosen[np.nanargmin(np.where(finite, given_.losses, np.nan))]
    assert chosen.any() == finite.any()
    again = Standing(*(np.copy(part) for part in given_[:3]), given_.budget)
    np.testing.assert_array_equal(scheduler.promote(again, count), chosen)


@each
def test_ties_go_to_the_lower_index(name: str) -> None:
    chosen = schedulers.make(name).promote(standing([[2.0], [1.0], [1.0], [1.0], [np.nan]]), 2)
    assert np.flatnonzero(chosen).tolist() == [1, 2]


@each
@pytest.mark.parametrize("count", [0, 4])
def test_an_impossible_number_is_refused(name: str, count: int) -> None:
    with pytest.raises(ValueError, match=rf"in \[1, 3\], got {count}"):
        schedulers.make(name).promote(standing(np.ones((3, 1))), count)


def test_halving_by_three_from_81() -> None:
    def rungs(num: int, epochs: int, **settings: int) -> tuple[Rung, ...]:
        (found,) = schedulers.successive_halving(**settings).brackets(num, epochs, 1)
        return found

    whole = (Rung(81, 1), Rung(27, 3), Rung(9, 9), Rung(3, 27), Rung(1, 81))
    assert rungs(81, 81, min_epochs=1) == whole
    assert rungs(5, 27, min_epochs=9) == (Rung(5, 9), Rung(1, 27))
    assert rungs(2, 27) == (Rung(2, 27),)


def test_halving_compares_after_a_ninth_of_the_budget_unless_told_otherwise() -> None:
    def ages(num: int, epochs: int, **settings: int) -> list[int]:
        (found,) = schedulers.successive_halving(**settings).brackets(num, epochs, 1)
        return [rung.num_epochs for rung in found]

    assert ages(81, 81) == [9, 27, 81]
    assert ages(81, 81, reduction=2) == [10, 20, 40, 81]
    assert ages(81, 27, reduction=4) == [6, 27]
    assert ages(9, 9) == ages(9, 9, min_epochs=1) == [1, 3, 9]
    assert ages(9, 3) == [1, 3]
    assert ages(9, 1) == [1]
    names = [schedulers.successive_halving(min_epochs=n).name for n in (None, 1)]
    assert "from a ninth," in names[0]
    assert "from 1," in names[1]


def test_hyperband_has_the_brackets_of_the_paper() -> None:
    brackets = schedulers.hyperband().brackets(143, 81, 1)
    assert brackets == (
        (Rung(81, 1), Rung(27, 3), Rung(9, 9), Rung(3, 27), Rung(1, 81)),
        (Rung(34, 3), Rung(11, 9), Rung(3, 27), Rung(1, 81)),
        (Rung(15, 9), Rung(5, 27), Rung(1, 81)),
        (Rung(8, 27), Rung(2, 81)),
        (Rung(5, 81),),
    )
    assert schedulers.bohb().brackets(143, 81, 1) == brackets
    again = schedulers.hyperband().brackets(143 + 49, 81, 1)
    assert again[:5] == brackets
    assert [rungs[0].num_trials for rungs in again[5:]] == [28, 11, 5, 3, 2]


def test_a_race_is_run_on_folds() -> None:
    assert schedulers.race().brackets(5, 10, 3) == ((Rung(5, 10, 1), Rung(3, 10)),)
    assert schedulers.race(3, 2).brackets(9, 10, 5) == ((Rung(9, 10, 2), Rung(3, 10)),)
    assert schedulers.race().brackets(5, 10, 1) == ((Rung(5, 10),),)
    assert schedulers.race().brackets(1, 10, 3) == ((Rung(1, 10),),)


def test_median_stopping_compares_the_best_with_the_averages_of_the_others() -> None:
    median = schedulers.median_stopping()
    curves = [[4.0, 1.0], [3.0, 3.0], [5.0, 2.9], [9.0, 9.0], [np.nan, np.nan]]
    # Averages: 2.5, 3, 3.95, 9. The median of the others is, in turn, 3.95, 3.95, 3, 3.
    assert median.promote(standing(curves), 5).tolist() == [True, True, True, False, False]
    # With trials of earlier brackets that averaged 1, 2 and 2 the others' medians are lower.
    others = [[1.0, 1.0], [2.0, 2.0], [2.0, 2.0]]
    chosen = median.promote(standing(curves, others), 5)
    assert chosen.tolist() == [True, False, False, False, False]
    assert median.promote(standing([[7.0, 8.0]]), 1).tolist() == [True]


def test_the_ages_of_median_stopping() -> None:
    def ages(epochs: int, *settings: int) -> list[int]:
        (rungs,) = schedulers.median_stopping(*settings).brackets(4, epochs, 1)
        return [rung.num_epochs for rung in rungs]

    assert ages(30) == [3, 6, 9, 12, 15, 18, 21, 24, 27, 30]
    assert ages(10, 5) == [5, 6, 7, 8, 9, 10]
    assert ages(10, 20, 3) == [10]


@pytest.mark.parametrize(
    ("name", "given_", "message"),
    [
        ("successive_halving", {"reduction": 1}, "reduction must be at least 2, got 1"),
        ("successive_halving", {"min_epochs": 0}, "min_epochs must be at least 1"),
        ("successive_halving", {"num_brackets": 0}, "num_brackets must be at least 1"),
        ("hyperband", {"reduction": 2.5}, "reduction must be a whole number, got 2.5"),
        ("hyperband", {"reductoin": 3}, "unknown setting 'reductoin'. Did you mean 'reduction'?"),
        ("bohb", {"random_fraction": 2}, "random_fraction must be a number from 0 to 1"),
        ("median_stopping", {"grace_period": "long"}, "grace_period must be a whole number"),
        ("race", {"num_folds": True}, "num_folds must be a whole number"),
        ("none", {"reduction": 3}, "unknown setting 'reduction'"),
        ("hyperbend", {}, "Did you mean 'hyperband'? Known: race, successive_halving, hyperband"),
    ],
    ids=str,
)
def test_what_cannot_be_is_named(name: str, given_: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as found:
        schedulers.make(name, given_)
    assert message in str(found.value)
    assert "\n" not in str(found.value)


def test_settings_make_the_name() -> None:
    assert schedulers.make("none") is None
    names = {schedulers.make("hyperband", {"reduction": eta}).name for eta in (2, 3, 4)}
    assert len(names) == 3
    assert schedulers.make("hyperband", {"reduction": 3}).name == schedulers.hyperband().name


# Studies.


def imitate(key: Any, space: Any, history: History, n: int) -> list[Any]:
    """Proposals around the best result at any age: cheap, and a function of all it is told."""
    known = history.frame.history if history.frame else history
    rng = np.random.default_rng([len(history), len(known)])
    points = rng.random((n, space.num_dims))
    if known.observed.any():
        best = known.points[np.nanargmin(known.values)][: space.num_dims]
        points[::2] = np.clip(best + 0.1 * (points[::2] - 0.5), 0, 1)
    return space.from_unit(points)


IMITATION = Sampler("imitation", imitate)


def build() -> lab.Trainable:
    def init(key: Any, hparams: Any) -> Any:
        return 1.0 + 0.3 * jax.random.normal(key, (2,))

    def step(state: Any, hparams: Any, shared: lab.Shared) -> Any:
        noise = 0.01 * jax.random.normal(shared.key, (2,))
        # Above 0.9 it diverges at once, as a rate that is too high does.
        wild = jnp.where(hparams.rate > 0.9, jnp.inf, 0.0)
        return state * (1.0 - hparams.rate) + hparams.shift * noise + wild, {}

    def evaluate(state: Any, hparams: Any, shared: lab.Shared) -> Any:
        return {"reward": -jnp.sum(state**2)}

    return lab.Trainable(init, step, evaluate, result=lambda state: state)


STEPS = lab.SearchSpace(rate=lab.LogUniform(1e-2, 1.5), shift=lab.Uniform(0.0, 1.0))
TABLE = lab.SearchSpace(
    learning_rate=lab.LogUniform(1e-4, 1e-1),
    dropout=lab.Uniform(0.0, 0.3),
    num_layers=1,
    hidden_size=4,
    schedule="cosine",
)
NUM, BUDGET = 16, 9


@pytest.fixture(scope="module")
def problems(houses: pd.DataFrame) -> dict[str, tuple[Callable[[], Any], lab.SearchSpace]]:
    data = lab.datasets.load_table(houses[["area", "age", "price"]].head(120), target="price")
    return {
        "steps": (
            lambda: lab.from_steps(
                build, objective="reward", direction="maximize", objective_at="best", num_seeds=2
            ),
            STEPS,
        ),
        "table": (lambda: lab.tasks.tabular(data, numeric="standard"), TABLE),
    }


Made = Callable[..., lab.Study]


@pytest.fixture(scope="module")
def made(problems: dict[str, Any]) -> Made:
    """A study of a door, in memory or in a directory."""

    def make(door: str, directory: Path | None = None) -> lab.Study:
        problem, space = problems[door]
        return lab.Study(problem(), space, directory, cohort_width=1 if door == "steps" else 2)

    return make


def optimize(study: lab.Study, scheduler: str | None, num: int = NUM, **options: Any) -> lab.Study:
    folds = 2 if study.problem.unit == "epoch" else None
    study.optimize(IMITATION, num, BUDGET, folds, scheduler=scheduler, **options)
    return study


def stored(study: lab.Study) -> dict[tuple[int, int], Any]:
    """(trial, fold) -> everything that was stored about a training."""
    found = {}
    for trial_id in range(len(study.trials)):
        for m in study.store.member_arrays(trial_id):
            curves = {name: values.tobytes() for name, values in m.curves.items()}
            found[trial_id, m.fold] = (m.score, m.num_units, curves, m.outputs.tobytes())
    return found


@pytest.fixture(scope="module")
def searched(made: Made) -> Callable[[str, str], lab.Study]:
    known: dict[tuple[str, str], lab.Study] = {}

    def search(door: str, name: str) -> lab.Study:
        if (door, name) not in known:
            known[door, name] = optimize(made(door), name)
        return known[door, name]

    return search


#: On a table those that differ in what they train or read; `test_rungs` has halving there.
CASES = [*(("steps", name) for name in NAMES), ("table", "race"), ("table", "median_stopping")]


def cases(*quick: tuple[str, str]) -> pytest.MarkDecorator:
    """All cases; those that are not quick are for --runslow."""
    marked = [case if case in quick else pytest.param(*case, marks=SLOW) for case in CASES]
    return pytest.mark.parametrize(("door", "name"), marked)


def some(*quick: str) -> pytest.MarkDecorator:
    """All schedulers; those that are not quick are for --runslow."""
    marked = [name if name in quick else pytest.param(name, marks=SLOW) for name in NAMES]
    return pytest.mark.parametrize("name", marked)


@cases(*CASES[: len(NAMES)], ("table", "median_stopping"))
def test_every_trial_ends_in_exactly_one_state(searched: Any, door: str, name: str) -> None:
    study = searched(door, name)
    frame = study.trials
    assert len(frame) == NUM
    assert set(frame["status"]) <= {"completed", "stopped", "infeasible"}
    assert {"completed", "stopped"} <= set(frame["status"])
    assert study.store.kept_members("state") == set()
    stopped = frame["status"] == "stopped"
    assert frame.loc[stopped, "score"].notna().all()
    assert frame.loc[stopped, "reason"].str.match(r"not promoted after \d+ \w+$").all()
    full = BUDGET * len(range(study.num_folds)) * NUM
    assert sum(wave.units for wave in study.store.waves()) < full
    ages = {key: value[1] for key, value in stored(study).items()}
    for trial_id in frame.index[frame["status"] == "completed"]:
        assert [ages[trial_id, fold] for fold in range(study.num_folds)] == [BUDGET] * 2
    if door == "steps":
        wild = frame["rate"] > 0.9
        assert (frame.loc[wild, "status"] == "infeasible").all()
    placed = [i for d in study.store.decisions("bracket") for i in d["trials"]]
    assert sorted(placed) == list(range(NUM))


@cases(*CASES[: len(NAMES)])
def test_survivors_are_bitwise_what_they_would_be_alone(
    made: Made, searched: Any, door: str, name: str
) -> None:
    study, alone = searched(door, name), made(door)
    alone.enqueue([trial.config for trial in study.store.trials()])
    if door == "table":
        alone.configure(BUDGET, 2)
        alone.store.set("programs", study.store.settings()["programs"])
    optimize(alone, None)
    expected, found = stored(alone), stored(study)
    done = study.trials.index[study.trials["status"] == "completed"]
    assert len(done) >= 1
    for key, value in found.items():
        if key[0] in done:
            assert value == expected[key]
        for metric, curve in value[2].items():  # of those that were stopped, up to their age
            assert expected[key][2][metric][: len(curve)] == curve


@cases(("steps", "bohb"), ("steps", "race"))
def test_interrupted_it_comes_to_the_same(
    made: Made, searched: Any, door: str, name: str, tmp_path: Path
) -> None:
    whole = searched(door, name)

    class Stopped(Exception):
        """Stands for a kill."""

    for num_waves in (2, 3):
        left = itertools.count(1)

        def stop(progress: object, left: Any = left, last: int = num_waves) -> None:
            if next(left) == last:
                raise Stopped

        with made(door, tmp_path) as study, pytest.raises(Stopped):
            optimize(study, name, progress=stop)
    with made(door, tmp_path) as study:
        optimize(study, name)
        pd.testing.assert_frame_equal(study.trials, whole.trials)
        assert stored(study) == stored(whole)
        for kind in ("bracket", "rung"):
            assert study.store.decisions(kind) == whole.store.decisions(kind)


@some("bohb")
def test_one_trial_trains_to_the_end(made: Made, name: str) -> None:
    study = optimize(made("steps"), name, num=1)
    assert study.trials["status"].tolist() in (["completed"], ["infeasible"])


@some("hyperband", "median_stopping")
def test_where_all_diverge_nothing_is_promoted(name: str, problems: dict[str, Any]) -> None:
    wild = lab.SearchSpace(rate=lab.Uniform(1.0, 2.0), shift=lab.Uniform(0.0, 1.0))
    study = optimize(lab.Study(problems["steps"][0](), wild, cohort_width=2), name, num=5)
    assert (study.trials["status"] == "infeasible").all()
    assert max(value[1] for value in stored(study).values()) <= BUDGET


def test_the_flag_is_the_race(made: Made) -> None:
    flagged, named = made("steps"), made("steps")
    flagged.optimize(lab.search.random(), 6, budget=2, race=True)
    named.optimize(lab.search.random(), 6, budget=2, scheduler="race")
    pd.testing.assert_frame_equal(flagged.trials, named.trials)
    assert flagged.store.settings() == named.store.settings()


def test_more_trials_make_more_brackets(made: Made) -> None:
    study = optimize(made("steps"), "bohb", num=7)
    first = study.trials
    optimize(study, "bohb", num=20)
    pd.testing.assert_frame_equal(study.trials.head(7), first)
    assert len(study.trials) == 20
    assert "pending" not in set(study.trials["status"])


def test_the_page_of_schedulers_names_them_all() -> None:
    page = Path(__file__).resolve().parent.parent / "docs" / "schedulers.md"
    text = page.read_text(encoding="utf-8")
    assert [name for name in schedulers.REGISTRY if f"| `{name}` |" not in text] == []


# BOHB.


def test_the_model_is_told_of_every_age(made: Made) -> None:
    seen: list[History] = []

    def watch(key: Any, space: Any, history: History, n: int) -> list[Any]:
        seen.append(history)
        return imitate(key, space, history, n)

    study = made("steps")
    study.optimize(Sampler("imitation", watch), NUM, budget=BUDGET, scheduler="bohb")
    first, second = seen[0], seen[1]
    assert first.frame is None or not len(first.frame.history)
    size = len(study.store.decisions("bracket")[0]["trials"])
    (drawn,) = {len(history) for history in seen[1:2]}
    assert drawn >= size
    rungs = [d for d in study.store.decisions("rung") if d["bracket"] == 0]
    told = second.frame.history
    assert told.observed.sum() == sum(
        loss is not None for d in rungs for loss in d["losses"] if d["epochs"] < BUDGET
    )
    age = second.frame.space.names.index(AGE)
    expected = {math.log(d["epochs"]) / math.log(BUDGET) for d in rungs}
    assert set(np.round(told.points[:, age], 6)) == set(np.round(list(expected), 6))
    # A trial that was stopped is pending where the budget is full; nothing is proposed twice.
    frame = study.trials.head(size)
    np.testing.assert_array_equal(
        second.pending[:size], (frame["status"] == "stopped").to_numpy(bool)
    )


def test_a_sampler_that_sees_no_scores_is_refused(made: Made) -> None:
    with pytest.raises(UserError, match="such as 'bayesian', not 'random'"):
        made("steps").optimize(lab.search.random(), 4, budget=BUDGET, scheduler="bohb")


def test_a_share_of_the_proposals_is_random() -> None:
    space, key = lab.SearchSpace(x=lab.Uniform(0, 1)), jax.random.key(0)
    constant = Sampler("constant", lambda key, space, history, n: [{"x": 0.5}] * n)
    mixed = partly_random(constant, 1 / 3)
    empty = History.empty(space)
    assert mixed.propose(key, space, empty, 9) == [{"x": 0.5}] * 9
    known = History([[0.2]], [1.0])
    drawn = [config["x"] for config in mixed.propose(key, space, known, 9)]
    assert sum(x == 0.5 for x in drawn) == 6
    assert drawn == [config["x"] for config in mixed.propose(key, space, known, 9)]


@pytest.mark.slow
def test_results_after_few_epochs_lead_the_bayesian_sampler() -> None:
    """Told what a bracket came to, two trials at the full budget, it proposes near the optimum."""
    space = lab.SearchSpace(x=lab.Uniform(0, 1), y=lab.Uniform(0, 1))
    wide = lab.SearchSpace(**space.parameters, **{AGE: lab.LogUniform(1.0, 9.0)})
    inner = lab.SearchSpace(**space.parameters, **{AGE: 9.0})
    rng = np.random.default_rng(0)
    configs = [{"x": float(x), "y": float(y)} for x, y in rng.random((24, 2))]

    def loss(config: Any, epochs: float = 9.0) -> float:
        return (config["x"] - 0.7) ** 2 + 0.3 * (config["y"] - 0.2) ** 2 + 1.0 / epochs

    ranked = sorted(configs, key=loss)
    told = [(config, 1.0) for config in configs] + [(config, 3.0) for config in ranked[:8]]
    at = [{**config, AGE: epochs} for config, epochs in told]
    values = [loss(config, epochs) for config, epochs in told]
    nothing = [0.0] * len(told)
    full = np.array([loss(config) if config in ranked[:2] else np.nan for config in configs])
    frame = frame_of(wide, inner, at, values, [False] * len(told), nothing)
    history = History(inner.to_unit(configs), full, pending=np.isnan(full), frame=frame)
    found = lab.search.bayesian().propose(jax.random.key(0), inner, history, 4)
    assert max(map(loss, found)) < loss(ranked[2])
