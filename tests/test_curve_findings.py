"""Findings about learning curves: each fires on curves that show it, and on no others."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jaxopt_lab import analysis, report
from jaxopt_lab.analysis.boundaries import Finding
from jaxopt_lab.analysis.curve_findings import rate_finding, rate_in
from jaxopt_lab.cli.summary import curve_findings as lines
from jaxopt_lab.core.status import Status
from jaxopt_lab.spaces.distributions import LogUniform
from jaxopt_lab.spaces.space import SearchSpace
from jaxopt_lab.storage.rows import TrainedMember
from jaxopt_lab.storage.store import Store

UNITS = 40
T = np.arange(1.0, UNITS + 1)
#: Falls by half in two units and is flat from a quarter of the training on.
SETTLED = 0.3 + np.exp(-T / 3.0)
FALLING = T**-0.8
#: Lowest after six units, then 70 % higher at the end.
RISING = 0.3 + np.exp(-T / 2.0) + 0.006 * T


def trials(validation: Any, train: Any = SETTLED, num: int = 8) -> list[analysis.Learned]:
    """Trials that differ by a factor and by a little noise, best first."""
    rng = np.random.default_rng(0)
    made = []
    for i in range(num):
        noise = 1.0 + 0.002 * rng.standard_normal((2, UNITS))
        factor = 1.0 + 0.05 * i
        made.append(
            analysis.Learned(
                i, factor, factor * validation * noise[0], factor * np.asarray(train) * noise[1]
            )
        )
    return made


def kinds(found: list[analysis.Learned]) -> list[str]:
    return [finding.kind for finding in analysis.curve_findings(found)]


def test_curves_as_they_should_be_are_no_finding() -> None:
    # Best in the last quarter, as a decaying rate makes it, but without gaining anything there.
    assert kinds(trials(SETTLED)) == []
    assert kinds(trials(0.3 + 0.2 * np.cos(np.pi * T / UNITS / 2) ** 4)) == []


def test_runs_that_still_gain_are_too_short() -> None:
    (found,) = analysis.curve_findings(trials(FALLING, FALLING), "step")
    assert found.kind == "too short"
    # (40 / 30)^-0.8 = 0.79 of the loss before the last quarter is left.
    assert "gain 2" in found.text
    assert "% in it" in found.text
    assert "80 steps" in found.text


def test_runs_that_are_best_at_once_are_too_long() -> None:
    early = np.where(T < 3, 2.0 - 0.5 * T, 0.53)
    (found,) = analysis.curve_findings(trials(early, num=5))
    assert found.kind == "too long"
    assert "within 2% of their best at epoch 3 of 40" in found.text


def test_overfitting_is_said_with_its_number_and_explains_an_early_best_epoch() -> None:
    (found,) = analysis.curve_findings(trials(RISING, FALLING))
    assert found.kind == "overfitting"
    assert "Overfitting in all trials" in found.text
    assert "end 4" in found.text  # 0.54 over 0.37
    assert kinds(trials(1.0 + 0.05 * T, FALLING)) == ["overfitting"]  # best at the first epoch


def test_an_end_that_does_not_count_is_no_harm() -> None:
    made = trials(RISING, FALLING)
    (found,) = analysis.curve_findings([t._replace(keeps_best=True) for t in made])
    assert found.kind == "overfitting"
    assert "this end does no harm" in found.text
    assert "or train about" not in found.text
    (one,) = analysis.curve_findings([made[0], *(t._replace(keeps_best=True) for t in made[1:])])
    assert "or train about" in one.text


@pytest.mark.parametrize("train", [np.full(UNITS, 0.4), np.zeros(0)], ids=["flat", "unknown"])
def test_a_rise_without_a_training_loss_that_falls_is_not_called_overfitting(train: Any) -> None:
    made = [t._replace(train=train) for t in trials(RISING)]
    assert "overfitting" not in kinds(made)


def test_overfitting_of_bad_trials_alone_is_none() -> None:
    good, bad = trials(SETTLED, FALLING, 4), trials(RISING, FALLING, 8)
    assert kinds([*good, *bad]) == []


def test_a_training_loss_that_rises_is_found_in_the_best_or_in_most() -> None:
    (found,) = analysis.curve_findings(trials(SETTLED, RISING, 6))
    assert found.kind == "training loss rises"
    assert "in 6 of 6 trials" in found.text
    healthy = trials(SETTLED, SETTLED, 12)
    assert kinds([*healthy, *trials(SETTLED, RISING, 4)]) == []
    assert kinds([*healthy[:4], *trials(SETTLED, RISING, 8)]) == ["training loss rises"]


def test_maximised_objectives_are_read_in_units_of_what_training_gains() -> None:
    accuracy = -(1.0 - 0.8 * np.exp(-T / 3.0))
    assert kinds(trials(accuracy)) == []
    assert kinds(trials(-0.9 * (1.0 - np.exp(-T / UNITS)))) == ["too short"]


def test_short_few_and_broken_curves_say_nothing() -> None:
    assert kinds(trials(FALLING, FALLING, 2)) == []
    short = [t._replace(objective=t.objective[:10]) for t in trials(FALLING)]
    lost = [t._replace(objective=np.full(UNITS, np.nan)) for t in trials(FALLING)]
    assert kinds(short) == kinds(lost) == kinds([]) == []
    assert analysis.readable([*short, *lost]) == []


RATES = [0.001, 0.003, 0.01, 0.012, 0.02, 0.028, 0.3]


def rate(infeasible: list[bool], known: Any = ()) -> list[Any]:
    configs = [{"lr": value} for value in RATES]
    scores = [4.0, 2.0, 1.0, 1.1, None, None, None]
    return rate_finding("lr", configs, scores, infeasible, known)


def test_a_best_rate_next_to_diverged_ones_is_at_the_edge() -> None:
    (found,) = rate([False] * 4 + [True] * 3)
    assert found.kind == "edge of divergence"
    assert "the best trial has 0.01, and 2 of the 3 trials" in found.text
    assert rate([False] * 6 + [True]) == []  # that one is far away
    # The ranges have said so.
    said = Finding("lr", "high", "diverging", "lr: the best trials lie next to ...", None)
    assert rate([False] * 4 + [True] * 3, [said]) == []
    assert rate_finding(None, [{}], [1.0], [False]) == []
    assert rate_in(["units", "init_lr"]) == "init_lr"
    assert rate_in(["units"]) is None


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of eight trials that overfit, one of them stopped after one of two splits."""
    folder = tmp_path_factory.mktemp("study")
    store = Store.open(folder)
    space = SearchSpace(learning_rate=LogUniform(1e-4, 1e-1))
    settings = {
        "task": {"kind": "supervised"},
        "objective": {"metric": "accuracy", "direction": "maximize", "at": "last"},
        "space": space.to_dict(),
        "num_folds": 2,
        "budget": UNITS,
        "problem unit": "epoch",
    }
    with store.transaction():
        for name, value in settings.items():
            store.set(name, value)
        for made in trials(RISING, FALLING):
            i = made.trial_id
            store.add_trial(i, "search", {"learning_rate": 1e-3 * (1 + i)})
            curves = {"accuracy": -made.objective, "train_loss": made.train}
            for fold in range(1 if i == 7 else 2):
                outputs = np.zeros((0, 1), np.float32)
                facts = (i, fold, 0, made.score, "", 39, UNITS)
                store.add_members([TrainedMember(*facts, curves, outputs)])
            status = Status.STOPPED if i == 7 else Status.COMPLETED
            store.set_trial(i, status, made.score, None, "")
        store.add_trial(8, "search", {"learning_rate": 0.09})
        store.add_members([TrainedMember(8, 0, 0, None, "diverged", 0, 5, curves, outputs)])
        store.set_trial(8, Status.INFEASIBLE, reason="diverged")
    store.close()
    return folder


def test_curves_are_read_of_whole_trainings_best_first(study: Path) -> None:
    store = Store.open(study, read_only=True)
    found = analysis.learned(store)
    store.close()
    assert [row.trial_id for row in found] == list(range(8))
    np.testing.assert_array_equal(found[0].objective, trials(RISING)[0].objective)


def test_the_report_says_it_and_so_does_the_terminal(study: Path) -> None:
    text = report.build(study).read_text(encoding="utf-8")
    assert "What the curves say" in text
    assert "Overfitting in all trials, 3 of the 3 best among them" in text
    store = Store.open(study, read_only=True)
    rows, trained = store.trials(), analysis.learned(store)
    store.close()
    found = analysis.summary(
        SearchSpace(learning_rate=LogUniform(1e-4, 1e-1)),
        [t.config for t in rows],
        [t.score for t in rows],
        [t.status == Status.INFEASIBLE for t in rows],
        trained=trained,
    )
    assert found["curves"]["trials"] == 8
    (line,) = lines(json.loads(json.dumps({"analysis": found})))
    assert line.startswith("finding: Overfitting in all trials")
