"""What a sampler is told of a study, and what comes before its own proposals."""

from pathlib import Path

import jax
import numpy as np
import pytest

import jaxopt_lab as lab
from jaxopt_lab.core.errors import UserError
from jaxopt_lab.core.types import Status
from jaxopt_lab.search.base import MAX_PROPOSALS
from jaxopt_lab.storage.store import Store
from jaxopt_lab.study.proposals import enqueue, history_of, propose, round_of

WIDE = lab.SearchSpace(
    learning_rate=lab.LogUniform(1e-4, 1e-1),
    optimizer=lab.Choice(["adamw", "nesterov"]),
    momentum=lab.Uniform(0.5, 0.99).when(optimizer="nesterov"),
    batch_size=32,
)
REFINED = lab.SearchSpace(
    learning_rate=lab.LogUniform(1e-3, 1e-2),
    optimizer="nesterov",
    momentum=lab.Uniform(0.8, 0.99).when(optimizer="nesterov"),
    batch_size=32,
)
GOOD = {"learning_rate": 5e-3, "optimizer": "nesterov", "momentum": 0.9, "batch_size": 32}


@pytest.fixture
def store() -> Store:
    return Store.open(None)


def fill(store: Store, phase: str, outcomes: list[tuple[dict, Status, float | None]]) -> None:
    first = len(store.trials())
    with store.transaction():
        for i, (config, status, score) in enumerate(outcomes):
            store.add_trial(first + i, phase, config)
            store.set_trial(first + i, status, score, 0.25 if score else None)


def test_a_refined_search_knows_the_wide_trials_inside(store: Store) -> None:
    fill(
        store,
        "wide",
        [
            (GOOD, Status.COMPLETED, 1.0),
            ({**GOOD, "learning_rate": 5e-2}, Status.COMPLETED, 2.0),
            ({**GOOD, "momentum": 0.6}, Status.COMPLETED, 3.0),
            (
                {"learning_rate": 2e-3, "optimizer": "adamw", "batch_size": 32},
                Status.COMPLETED,
                4.0,
            ),
            ({**GOOD, "momentum": 0.95}, Status.INFEASIBLE, None),
            ({**GOOD, "momentum": 0.85}, Status.STOPPED, None),
        ],
    )
    history = history_of(store, REFINED)
    assert history.values[0] == 1.0
    assert history.noise.tolist() == [0.25, 0.0, 0.0]
    assert history.infeasible.tolist() == [False, True, False]
    assert history.pending.tolist() == [False, False, True]
    np.testing.assert_allclose(history.points[:, 0], np.log10(5e-3 / 1e-3))
    assert len(history_of(store, WIDE)) == 6


def test_enqueued_configurations_come_first_and_once(store: Store) -> None:
    adamw = {"learning_rate": 2e-3, "optimizer": "adamw"}
    for _ in range(2):
        enqueue(store, WIDE, "search", [GOOD, adamw])
    propose(store, lab.search.random(), WIDE, "search", 0, 3)
    configs = [t.config for t in store.trials()]
    assert configs[:2] == [GOOD, {**adamw, "batch_size": 32}]
    assert len(configs) == 5
    assert all(t.status == Status.PENDING for t in store.trials())


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({**GOOD, "learning_rate": 1.0}, "learning_rate = 1.0 is not in"),
        ({**GOOD, "batch_size": 64}, "batch_size is fixed at 32, got 64"),
        ({"learning_rate": 1e-3, "optimizer": "nesterov"}, "momentum is missing"),
        ({**GOOD, "learning_rat": 1e-3}, "Did you mean 'learning_rate'"),
    ],
)
def test_enqueue_refuses_what_is_outside(store: Store, config: dict, message: str) -> None:
    with pytest.raises(UserError, match=message):
        enqueue(store, WIDE, "search", [GOOD, config])
    assert store.trials() == []


def test_a_study_trains_what_was_enqueued(houses_csv: Path) -> None:
    space = lab.SearchSpace(learning_rate=lab.LogUniform(1e-3, 1e-1), hidden_size=4, num_layers=1)
    table = lab.datasets.load_table(str(houses_csv), target="price")
    study = lab.Study(lab.tasks.tabular(table, numeric="standard"), space)
    study.enqueue([{"learning_rate": 0.01}])
    study.optimize(lab.search.random(), 2, num_epochs=1, num_folds=1)
    found = study.trials
    assert found["status"].tolist() == ["completed"] * 2
    assert found["learning_rate"][0] == 0.01


@pytest.mark.parametrize("kind", ["random", "grid", "quasi_random"])
def test_a_sampler_that_sees_no_scores_proposes_all_at_once(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampler = lab.search.REGISTRY[kind]()
    space = lab.SearchSpace(
        learning_rate=lab.Choice([10.0**-i for i in range(1, 6)]),
        hidden_size=lab.Choice([8, 16, 32]),
        num_layers=lab.Choice([1, 2]),
    )
    assert not sampler.sees_scores
    assert round_of(sampler, None, None, None) > MAX_PROPOSALS
    assert round_of(sampler, None, None, 60.0) == MAX_PROPOSALS
    assert round_of(lab.search.bayesian(), None, None, None) == MAX_PROPOSALS
    one_by_one = Store.open(None)
    for _ in range(25):
        propose(one_by_one, sampler, space, "search", 3, 1)
    monkeypatch.setattr("jaxopt_lab.study.proposals.MAX_PROPOSALS", 10)
    at_once = Store.open(None)
    assert propose(at_once, sampler, space, "search", 3, 25) == 25
    assert at_once.trials() == one_by_one.trials()
    assert propose(at_once, lab.search.grid(), space, "search", 3, 50) == 5


def test_proposals_after_a_restart_are_the_same_bit_for_bit(tmp_path: Path) -> None:
    """One process to the end, and one that forgets everything after each step."""

    def step(store: Store) -> None:
        propose(store, lab.search.bayesian(num_initial=4), WIDE, "refined", 7, 3)
        with store.transaction():
            for trial in store.trials():
                rate = trial.config["learning_rate"]
                score = None if rate > 0.05 else (np.log10(rate) + 2.5) ** 2
                status = Status.INFEASIBLE if score is None else Status.COMPLETED
                store.set_trial(trial.trial_id, status, score)

    whole = Store.open(None)
    enqueue(whole, WIDE, "refined", [GOOD])
    for _ in range(3):
        step(whole)
    for i in range(3):
        store = Store.open(tmp_path / "study")
        if i == 0:
            enqueue(store, WIDE, "refined", [GOOD])
        step(store)
        store.close()
        jax.clear_caches()
    assert Store.open(tmp_path / "study").trials() == whole.trials()
    assert len(whole.trials()) == 10
