"""A calm curve may be so because of its rows: told on trainings that are made up."""

import time
from typing import Any

import numpy as np
import pytest

from jaxopt_lab.core.runner import Result
from jaxopt_lab.problems.mlp.data import regression
from jaxopt_lab.problems.mlp.hyperparameters import complete
from jaxopt_lab.problems.mlp.rows import RowsTask
from jaxopt_lab.stabilization.comparison import Clock
from jaxopt_lab.stabilization.diagnosis import Diagnosis
from jaxopt_lab.stabilization.length import Length
from jaxopt_lab.stabilization.members import Member
from jaxopt_lab.stabilization.population import Population
from jaxopt_lab.stabilization.stages import Stages
from tests.test_calm import NUM_POINTS, NUM_RESAMPLES, MadeUp

RNG = np.random.default_rng(5)
INPUTS = RNG.normal(size=(900, 3)).astype(np.float32)
TARGETS = RNG.normal(size=900).astype(np.float32)
HPARAMS = {"batch_size": 16, "hidden_size": 4, "num_layers": 1}


class ByRows(MadeUp):
    """Each split has a level, a jitter, and a standard error (log scale) of its validation rows."""

    by_split: dict[int, tuple[float, float, float]]

    def _result(self, member: Member, seed: int) -> Result:
        level, jitter, error = self.by_split[member.split]
        self.behaviour = lambda _: (level, jitter)
        found = super()._result(member, seed)
        rng = np.random.default_rng(1)
        whole = rng.normal(0, error, NUM_RESAMPLES)
        rows = np.exp(whole + rng.normal(0, jitter, (NUM_POINTS, NUM_RESAMPLES)))
        loss = found.curves["loss"]
        smooth = level * np.exp(np.exp(-np.arange(NUM_POINTS) / 4.0))
        curves = {"resampled_loss": loss[:, None] * rows, "train_loss": smooth}
        return found._replace(curves={**found.curves, **curves})


def diagnosed(targets: np.ndarray, num_valid: int, **by_split: Any) -> Diagnosis:
    task = RowsTask(INPUTS, targets, regression(), np.arange(num_valid))
    population = ByRows(task, complete(HPARAMS), num_epochs=NUM_POINTS, evaluations=1)
    population.by_split = {0: by_split["given"], 1: by_split["mended"]}
    length = Length(NUM_POINTS, 3, 3, 1, 1.0)
    return Stages(population, length, Clock(None, time.monotonic()), lambda text: None).run()


def test_a_calm_loss_of_too_few_validation_rows_is_not_called_right() -> None:
    found = diagnosed(TARGETS, 20, given=(0.1, 0.025, 0.5), mended=(0.1, 0.006, 0.05))
    assert found.main_cause == "evaluation_noise"
    assert found.evidence.fluctuation < found.evidence.calm_limit
    assert found.chosen is not None
    assert found.chosen.name == "more validation rows (20 → 196)"
    assert "is calm, but known to ±" in found.sentence
    # As many more rows as tell it to a quarter.
    wanted = 20 * (found.evidence.rows_tell / 0.25) ** 2
    assert found.setting["valid_rows_wanted"] == pytest.approx(wanted, abs=10)


def test_where_few_rows_tell_it_all_the_same_it_is_calm() -> None:
    found = diagnosed(TARGETS, 20, given=(0.1, 0.025, 0.02), mended=(0.1, 0.006, 0.01))
    assert found.main_cause == "no_problem"


def test_outliers_among_the_validation_rows_are_found_though_the_curve_is_calm() -> None:
    targets = TARGETS.copy()
    targets[[3, 500]] = 200.0
    # Of the given 300 rows a constant has 40,000 / 300; of the others 1.
    found = diagnosed(targets, 300, given=(120.0, 0.004, 1.0), mended=(0.3, 0.006, 0.05))
    assert found.main_cause == "outliers"
    assert found.causes[0].rows == (3, 500)
    assert found.chosen is not None
    assert found.chosen.name == "without 2 outlying rows"
    assert "of a constant prediction's loss" in found.sentence


@pytest.mark.parametrize(
    ("mended", "cause"),
    [((0.2, 0.004, 0.05), "heavy_tailed_target"), ((0.9, 0.004, 0.05), "no_problem")],
)
def test_a_calm_loss_that_a_few_targets_make_up(
    mended: tuple[float, float, float], cause: str
) -> None:
    targets = np.exp(2.0 * TARGETS)
    targets = (targets - targets.mean()) / targets.std()
    level = 0.7 * float(np.var(targets[:300]))
    found = diagnosed(targets, 300, given=(level, 0.004, 0.5), mended=mended)
    assert found.main_cause == cause
    if found.chosen is not None:
        assert found.chosen.name == "a log scale of the target"


def test_the_constant_of_each_split_is_that_of_its_own_rows() -> None:
    targets = TARGETS.copy()
    targets[[3, 500]] = 200.0
    task = RowsTask(INPUTS, targets, regression(), np.arange(300))
    population = Population(task, complete(HPARAMS), num_epochs=8)
    trained = np.delete(targets[300:], 200)
    others = np.delete(targets[:300], 3)
    expected = np.mean((others - trained.mean()) ** 2)
    assert population.constant_loss(1) == pytest.approx(float(expected), rel=1e-4)
    assert population.constant_loss() == pytest.approx(
        float(np.mean((targets[:300] - targets[300:].mean()) ** 2)), rel=1e-4
    )
