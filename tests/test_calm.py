"""When a curve is calm: told from what can still be gained, on trainings that are made up."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from jaxopt_lab.core.results import Result
from jaxopt_lab.problems.mlp.data import classification
from jaxopt_lab.problems.mlp.hyperparameters import complete
from jaxopt_lab.problems.mlp.observation import NUM_BINS
from jaxopt_lab.problems.mlp.rows import RowsTask
from jaxopt_lab.stabilization.comparison import Clock
from jaxopt_lab.stabilization.diagnosis import Diagnosis
from jaxopt_lab.stabilization.gain import calm_limit, gain_limit
from jaxopt_lab.stabilization.length import Length
from jaxopt_lab.stabilization.members import Member
from jaxopt_lab.stabilization.population import Population
from jaxopt_lab.stabilization.stages import Stages
from jaxopt_lab.stabilization.thresholds import HEALTHY, LEAST_SHARE

RATE = 0.03
NUM_POINTS, NUM_RESAMPLES = 60, 16
#: Level and jitter (log scale) of one variant's late curve.
Behaviour = Callable[[Member], tuple[float, float]]


class MadeUp(Population):
    """Trains nothing: each member has the level and the jitter that it is said to have."""

    behaviour: Behaviour
    #: Noise of the validation rows, log scale, the same for every member; it does not average out.
    row_noise = 0.001

    def train(
        self, members: Sequence[Member], replicates: Sequence[int], *_: Any, **__: Any
    ) -> dict[str, list[Result]]:
        return {m.name: [self._result(m, seed) for seed in replicates] for m in members}

    def _result(self, member: Member, seed: int) -> Result:
        level, jitter = self.behaviour(member)
        # Of the members of a seed some noise is shared, as their minibatches are.
        rng = np.random.default_rng([seed, len(member.name)])
        shared = np.random.default_rng(seed).normal(0, 0.003)
        rows = np.random.default_rng(1).normal(0, self.row_noise, (NUM_POINTS, NUM_RESAMPLES))
        falls = np.exp(-np.arange(NUM_POINTS) / 4.0)
        loss = level * np.exp(shared + falls + rng.normal(0, jitter, NUM_POINTS))
        ones = np.ones(NUM_POINTS)
        curves = {
            "loss": loss,
            "resampled_loss": loss[:, None] * np.exp(rows),
            "train_loss": 0.8 * loss,
            "num_updates": ones,
            "norm_counts": np.tile(np.arange(NUM_BINS) == 48, (NUM_POINTS, 1)).astype(float),
            "update_ratio": ones,
            "clipped": 0.0 * ones,
        }
        measured = {"sharpness": 1.0, "threshold": 10.0, "noise_scale": 32.0}
        probed = {k: np.asarray(v) for k, v in measured.items()}
        return Result(self.job(0, member, seed), curves, {}, dict, probed)


def diagnosed(behaviour: Behaviour, row_noise: float = 0.001, batch_size: int = 16) -> Diagnosis:
    """Four classes of equal shares: a constant prediction has a loss of log 4 = 1.39."""
    inputs = np.random.default_rng(0).normal(size=(160, 3)).astype(np.float32)
    task = RowsTask(inputs, np.arange(160) % 4, classification(4), np.arange(40))
    hparams = {"learning_rate": RATE, "batch_size": batch_size, "hidden_size": 4, "num_layers": 1}
    base = complete(hparams)
    population = MadeUp(task, base, num_epochs=NUM_POINTS, evaluations=1)
    population.behaviour, population.row_noise = behaviour, row_noise
    length = Length(NUM_POINTS, 3, 3, 1, 1.0)
    return Stages(population, length, Clock(None, time.monotonic()), lambda text: None).run()


def lowers(member: Member) -> float:
    """By how much a member's rate is below the base's."""
    return RATE / max(member.settings.get("learning_rate", RATE), 1e-9)


def averages(member: Member) -> bool:
    return bool(member.settings.get("ema"))


def test_a_jitter_that_a_lower_rate_takes_away_with_a_better_loss_is_not_calm() -> None:
    def high_floor(member: Member) -> tuple[float, float]:
        if 5 < lowers(member) < 20:
            return 0.46 * 0.9, 0.010
        return (0.46 if lowers(member) > 0.5 else 0.9), 0.033

    found = diagnosed(high_floor)
    assert found.main_cause == "learning_rate_too_high"
    # The best checkpoint of a curve that jitters is a lucky one: 10 % lower is 5 % better.
    assert 1.02 < found.evidence.shaking_costs < 1.1
    assert found.evidence.fluctuation <= found.evidence.calm_limit == HEALTHY
    assert found.chosen is not None
    assert found.chosen.settings["learning_rate"] == pytest.approx(0.1 * RATE)
    assert found.solved


def healthy_twin(member: Member) -> tuple[float, float]:
    """What shakes less learns less, or is no better."""
    if averages(member):
        return 0.46 * 0.995, 0.0015
    if lowers(member) > 1 or "schedule" in member.settings:
        return 0.46 * 1.1, 0.0015
    return 0.46, 0.0046


def test_its_healthy_twin_is_calm() -> None:
    found = diagnosed(healthy_twin)
    assert found.main_cause == "no_problem"
    assert found.better is None
    assert found.sentence.startswith("Nothing is wrong")
    assert found.evidence.decay_calms > 2  # averages are calmer, and gain nothing


def test_noise_of_the_validation_rows_is_calm_where_nothing_is_better() -> None:
    found = diagnosed(lambda member: (0.46, 0.02), row_noise=0.02)
    assert found.main_cause == "no_problem"


def test_a_jitter_that_averages_take_away_with_a_better_loss_is_not_calm() -> None:
    def never_decays(member: Member) -> tuple[float, float]:
        if averages(member) and lowers(member) <= 1:
            return 0.46 * 0.93, 0.002
        if lowers(member) > 1:
            return 0.46 * 1.2, 0.004
        return 0.46, 0.017

    found = diagnosed(never_decays)
    assert found.main_cause == "rate_never_decays"
    assert found.chosen is not None
    assert averages(Member("", found.chosen.settings))
    assert "calm, but higher than it need be" in found.sentence


def test_what_is_small_beside_the_loss_may_be_large_beside_what_training_gains() -> None:
    shakes = diagnosed(lambda member: (1.1, 0.036), row_noise=0.0)
    assert shakes.evidence.calm_limit == pytest.approx(HEALTHY * 0.38, abs=0.002)
    assert shakes.main_cause != "no_problem"
    assert diagnosed(lambda member: (0.4, 0.03), row_noise=0.0).main_cause == "no_problem"


def of_small_batches(member: Member) -> tuple[float, float]:
    # The best checkpoint of a curve that jitters is a lucky one: the same level is no loss.
    return (0.445, 0.008) if member.settings.get("batch_size", 1) > 4 else (0.46, 0.025)


@pytest.mark.parametrize(
    ("batch_size", "behaviour", "cause"),
    [
        (4, of_small_batches, "small_batch_noise"),
        (16, of_small_batches, "no_problem"),
        (4, lambda member: (0.46, 0.025), "no_problem"),
    ],
)
def test_a_tiny_batch_is_looked_at_though_the_curve_is_calm(
    batch_size: int, behaviour: Behaviour, cause: str
) -> None:
    found = diagnosed(behaviour, batch_size=batch_size)
    assert found.evidence.fluctuation < found.evidence.calm_limit == HEALTHY
    assert found.main_cause == cause
    tried = {name for name, member in found.members.items() if member.family == "batch"}
    assert bool(tried) == (batch_size == 4)
    if cause == "small_batch_noise":
        assert "is calm (2.2% off its trend), but shakes more than need be" in found.sentence
        assert found.chosen is not None
        assert found.chosen.settings == {"batch_size": 16}


@pytest.mark.parametrize(("slower", "cause"), [(1.3, "no_problem"), (0.9, "no_single_cause")])
def test_a_loss_near_zero_may_move_by_much_of_itself(slower: float, cause: str) -> None:
    """It is 4 % of a constant's; what calms it learns less, or does not."""

    def still_falls(member: Member) -> tuple[float, float]:
        calmer = member.settings.get("schedule") == "cosine"
        return (0.06 * slower, 0.02) if calmer else (0.06, 0.07)

    found = diagnosed(still_falls, row_noise=0.0)
    assert found.evidence.calm_limit < found.evidence.fluctuation < found.evidence.gain_limit
    assert found.main_cause == cause
    if cause == "no_problem":
        assert found.chosen is None
        assert "Nothing is wrong: the validation loss stands 6." in found.sentence
        assert "% of what training gains, and nothing that was tried calms it" in found.sentence
    else:
        assert found.chosen is not None


@pytest.mark.parametrize(
    ("best", "idle", "limit"),
    [
        (0.1, 1.0, HEALTHY),
        (0.8, 1.2, 0.5 * HEALTHY),
        (1.0, 1.01, LEAST_SHARE * HEALTHY),
        (1.0, 0.9, LEAST_SHARE * HEALTHY),
        (1.0, None, HEALTHY),
    ],
)
def test_the_limit_of_calm(best: float, idle: float | None, limit: float) -> None:
    assert calm_limit(best, idle) == pytest.approx(limit)
    assert gain_limit(best, idle) >= calm_limit(best, idle)
    assert gain_limit(0.1, 1.0) == pytest.approx(9 * HEALTHY)


@pytest.mark.parametrize("gain", [0.95, 0.97, 1.0])
@pytest.mark.parametrize("calms", [1.0, 0.5, 0.1])
def test_verdict_and_cures_do_not_contradict_each_other(gain: float, calms: float) -> None:
    """Where nothing is said to be wrong, nothing that only shakes less is better for certain."""

    def shaken(member: Member) -> tuple[float, float]:
        less = averages(member) or lowers(member) > 1
        return (0.46 * gain, 0.02 * calms) if less else (0.46, 0.02)

    found = diagnosed(shaken)
    better = [
        r
        for n, r in found.remedies.items()
        if found.members[n].is_cure and r.accepted and r.loss.value < 0.98 and r.loss.high < 1
    ]
    if found.sentence.startswith("Nothing is wrong"):
        assert found.chosen is None
        assert not better
    if found.main_cause == "no_problem":
        assert not better
    else:
        assert found.chosen is None or found.chosen.accepted
