"""When a curve of any problem is calm, and when its rate never decays."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxopt_lab as lab
from jaxopt_lab.core.errors import UserError
from jaxopt_lab.core.hparams import Hparams
from jaxopt_lab.core.results import Result
from jaxopt_lab.core.trainable import Shared
from jaxopt_lab.stabilization.comparison import Clock
from jaxopt_lab.stabilization.general import GeneralDiagnosis, decay
from jaxopt_lab.stabilization.general.constant import constant_loss
from jaxopt_lab.stabilization.general.knobs import read_knobs
from jaxopt_lab.stabilization.general.run import _Comparison
from jaxopt_lab.stabilization.general.side_by_side import Variants
from jaxopt_lab.stabilization.members import Member
from jaxopt_lab.stabilization.thresholds import HEALTHY, LEAST_SHARE

RATE, NUM_POINTS = 0.03, 60
ROLES = {"learning_rate": "lr"}
#: Level and jitter of one variant's late curve, in the unit of the curve.
Behaviour = Callable[[Member], tuple[float, float]]


def nothing() -> lab.Trainable:
    def step(x: Any, hparams: Any, shared: Any) -> Any:
        x = x - hparams["lr"] * x
        return x, {"loss": x**2, "reward": -(x**2)}

    return lab.Trainable(lambda key, hparams: jnp.ones(()), step)


class MadeUp(Variants):
    """Trains nothing: each member has the level and the jitter that it is said to have."""

    behaviour: Behaviour
    start: float

    def train(
        self, members: Sequence[Member], replicates: Sequence[int], *_: Any, **__: Any
    ) -> dict[str, list[Result]]:
        return {m.name: [self._result(m, seed) for seed in replicates] for m in members}

    def _result(self, member: Member, seed: int) -> Result:
        level, jitter = self.behaviour(member)
        if member.settings.get("lr") == 0:
            level, jitter = self.start, 0.0
        rng = np.random.default_rng([seed, len(member.name)])
        falls = (self.start - level) * np.exp(-np.arange(NUM_POINTS) / 4.0)
        values = level + falls + rng.normal(0, jitter, NUM_POINTS)
        return Result(self.job(0, member, seed), {"loss": values, "reward": values}, {}, dict, {})


def diagnosed(behaviour: Behaviour, start: float, metric: str = "loss") -> GeneralDiagnosis:
    """A curve that starts from `start`, where nothing is learned."""
    direction = "minimize" if metric == "loss" else "maximize"
    problem = lab.from_steps(nothing, objective=metric, direction=direction, roles=ROLES)
    trainer = MadeUp(read_knobs(problem, {"lr": RATE}), NUM_POINTS, 0)
    trainer.behaviour, trainer.start = behaviour, start
    clock = Clock(None, time.monotonic())
    return _Comparison(trainer, metric, 3, clock, lambda text: None).run()


def decays(member: Member) -> bool:
    return decay.NAME in member.settings


def lowers(member: Member) -> bool:
    return bool(member.settings.get("lr", RATE) < RATE)


def test_calm_is_told_from_what_training_gains() -> None:
    """3 % of a loss that falls from 1.5 to 1.1 only is much, of one that falls to 0.4 it is not."""
    shakes = diagnosed(lambda member: (1.1, 0.036), 1.5)
    assert shakes.evidence.calm_limit == pytest.approx(HEALTHY * 0.38, rel=0.1)
    assert shakes.main_cause != "no_problem"
    assert "calm" not in shakes.sentence
    rests = diagnosed(lambda member: (0.4, 0.012), 1.5)
    assert rests.evidence.calm_limit == HEALTHY
    assert rests.sentence.startswith("Nothing is wrong")
    assert f"below {HEALTHY:g}" in rests.to_dict()["recommended"]["goal"]


def test_where_next_to_nothing_is_gained_the_limit_has_a_least() -> None:
    found = diagnosed(lambda member: (1.0, 0.001), 1.01)
    assert found.calm_limit == pytest.approx(LEAST_SHARE * HEALTHY)


@pytest.mark.parametrize("shakes_less", [decays, lowers])
@pytest.mark.parametrize("metric", ["loss", "reward"])
def test_a_calm_curve_whose_shaking_costs_something_is_not_calm(
    metric: str, shakes_less: Callable[[Member], bool]
) -> None:
    """A reward from -500 to -100 shakes by 3 % of the 400 that it gains, a loss by 3 % of itself;
    without that it ends 4 % better.
    """
    level, better, jitter, start = (0.4, 0.384, 0.012, 1.5)
    if metric == "reward":
        level, better, jitter, start = (-100.0, -84.0, 12.0, -500.0)

    def behaviour(member: Member) -> tuple[float, float]:
        return (better, jitter / 10) if shakes_less(member) else (level, jitter)

    found = diagnosed(behaviour, start, metric)
    assert found.evidence.fluctuation <= found.calm_limit == HEALTHY
    assert 1.02 < found.evidence.shaking_costs < 1.1
    assert found.main_cause != "no_problem"
    assert found.chosen is not None
    assert shakes_less(Member("", found.chosen.settings))
    assert "is calm, but worse than it need be" in found.sentence


def test_where_only_a_decay_helps_the_rate_never_decays() -> None:
    def behaviour(member: Member) -> tuple[float, float]:
        if decays(member):
            return 0.37, 0.002
        return (0.48 if lowers(member) else 0.4), 0.04

    found = diagnosed(behaviour, 1.5)
    assert found.main_cause == "rate_never_decays"
    assert found.chosen is not None
    assert decays(Member("", found.chosen.settings))
    assert found.recommended["lr"] == RATE
    assert any("no hyperparameter of yours" in note for note in found.notes)
    steps = found.walk.set_index("step")
    assert steps.loc["reduce on plateau (0.2, patience 5, to 1e-5)", "loss_ratio"] < 1


@pytest.mark.parametrize("gain", [0.95, 0.97, 1.0])
@pytest.mark.parametrize("calms", [1.0, 0.1])
def test_verdict_and_cures_do_not_contradict_each_other(gain: float, calms: float) -> None:
    def shaken(member: Member) -> tuple[float, float]:
        less = decays(member) or lowers(member)
        return (0.4 * gain, 0.01 * calms) if less else (0.4, 0.01)

    found = diagnosed(shaken, 1.5)
    if found.sentence.startswith("Nothing is wrong"):
        assert found.chosen is None
        assert found.better is None
    if found.main_cause == "no_problem":
        accepted = [r for n, r in found.remedies.items() if found.members[n].is_cure and r.accepted]
        assert not [r for r in accepted if r.loss.value < 0.98 and r.loss.high < 1]


def ill_conditioned() -> lab.Trainable:
    """Noise in steep directions, and flat ones that take a high rate to go down."""
    steep = jnp.concatenate([jnp.ones(10), jnp.full(10, 0.02)])
    noisy = jnp.concatenate([jnp.full(10, 0.3), jnp.zeros(10)])

    def init(key: Any, hparams: Any) -> Any:
        return jnp.concatenate([jnp.ones(10), jnp.full(10, 3.0)])

    def step(x: Any, hparams: Any, shared: Any) -> Any:
        def body(x: Any, key: Any) -> Any:
            return x - hparams["lr"] * (steep * x + noisy * jax.random.normal(key, x.shape)), None

        x, _ = jax.lax.scan(body, x, jax.random.split(shared.key, 4))
        return x, {}

    def evaluate(x: Any, hparams: Any, shared: Any) -> Any:
        return {"loss": 0.05 + jnp.mean(steep * x**2)}

    return lab.Trainable(init, step, evaluate)


def test_a_constant_rate_that_is_needed_early_and_shakes_late() -> None:
    problem = lab.from_steps(ill_conditioned, roles=ROLES)
    found = lab.stabilize(problem, {"lr": 0.4}, num_epochs=100, num_seeds=3)
    assert found.main_cause == "rate_never_decays"
    assert found.solved
    again = read_knobs(problem, found.recommended)
    assert not again.can_decay
    assert "nothing" not in " ".join(again.notes)


def after(
    made: lab.Trainable, num_units: int, rate: float = 0.5, value: str = decay.CONSTANT
) -> list[float]:
    """Losses of units in turn."""
    kind = jnp.int32(decay.VALUES.index(value))
    hparams = Hparams({"lr": jnp.float32(rate), decay.NAME: kind})
    state, losses = made.init(jax.random.key(0), hparams), []
    for unit in range(num_units):
        shared = Shared(jax.random.key(1), *map(jnp.int32, (unit, num_units, 0)), ())
        state, metrics = made.step(state, hparams, shared)
        losses.append(float(metrics["loss"]))
    return losses


def test_a_decay_lowers_the_rate_from_unit_to_unit() -> None:
    made = decay.decaying(lab.from_steps(nothing, roles=ROLES)).build()
    factors = (1 + np.cos(np.pi * np.arange(4) / 4)) / 2
    wanted = np.cumprod(1 - 0.5 * factors) ** 2
    np.testing.assert_allclose(after(made, 4, value=decay.COSINE), wanted, rtol=1e-5)
    np.testing.assert_array_equal(after(made, 4), after(nothing(), 4))
    # Above a rate of 2 every unit is worse than the last: after five of them the rate is a fifth.
    plateau = after(made, 8, rate=2.5, value=decay.PLATEAU)
    steps = np.sqrt(np.asarray(plateau[1:]) / np.asarray(plateau[:-1]))
    np.testing.assert_allclose(steps[:5], 1.5, rtol=1e-5)
    np.testing.assert_allclose(steps[5:], 0.5, rtol=1e-5)
    with pytest.raises(UserError, match="one of constant, cosine"):
        decay.index({decay.NAME: "linear"})


def test_what_cannot_decay_is_left_as_it_is() -> None:
    assert decay.can_decay(lab.from_steps(nothing, roles=ROLES))
    whole = lab.from_function(lambda key, hparams: {"loss": hparams["lr"]}, roles=ROLES)
    assert not decay.can_decay(whole)
    assert not decay.can_decay(lab.from_steps(lambda *, lr=0.1: nothing(), roles=ROLES))


def classes(outputs: int, loss: Any, targets: Any) -> Any:
    inputs = np.random.default_rng(0).normal(size=(100, 3)).astype(np.float32)
    return lab.supervised(nn.Dense(outputs), (inputs, targets), loss=loss, splits=0.2)


def test_the_loss_of_a_constant_prediction() -> None:
    base = {"learning_rate": 0.1, "batch_size": 32}
    labels = np.arange(100) % 4
    cross_entropy = optax.softmax_cross_entropy_with_integer_labels
    found = constant_loss(classes(4, cross_entropy, labels), base)
    assert found == pytest.approx(np.log(4), rel=0.01)
    targets = np.linspace(-1, 3, 100, dtype=np.float32)[:, None]

    def squared(outputs: Any, targets: Any) -> Any:
        return jnp.mean((outputs - targets) ** 2, axis=-1)

    found = constant_loss(classes(1, squared, targets), base)
    assert found == pytest.approx(targets.var(), rel=0.5)
    odds = np.asarray(np.arange(100)[:, None] % 4 == 0, np.float32)

    def binary(outputs: Any, targets: Any) -> Any:
        return optax.sigmoid_binary_cross_entropy(outputs, targets)[:, 0]

    entropy = -0.25 * np.log(0.25) - 0.75 * np.log(0.75)
    assert constant_loss(classes(1, binary, odds), base) == pytest.approx(entropy, rel=0.2)
    # Outputs of another form than targets, or no targets at all: nobody knows.
    assert constant_loss(classes(2, lambda o, t: o[:, 0] - t[:, 0], targets), base) is None
    assert constant_loss(lab.from_steps(nothing), base) is None
