"""A diagnosis of problems that are no tables: by roles, curves, and what cures do."""

import json
import math
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxopt_lab as lab
from jaxopt_lab import report
from jaxopt_lab.core.cohorts import Job
from jaxopt_lab.core.errors import UserError
from jaxopt_lab.core.hparams import Hparams
from jaxopt_lab.core.results import Result
from jaxopt_lab.core.trainable import Shared
from jaxopt_lab.stabilization import GeneralDiagnosis
from jaxopt_lab.stabilization.compare import Remedy
from jaxopt_lab.stabilization.finished import FOLDER
from jaxopt_lab.stabilization.general import variants
from jaxopt_lab.stabilization.general.causes import CURES_OF, Evidence, floor_share, gather, verdict
from jaxopt_lab.stabilization.general.curves import summarize
from jaxopt_lab.stabilization.general.knobs import read_knobs
from jaxopt_lab.stabilization.general.mended_rows import look_at
from jaxopt_lab.stabilization.general.noise import loss_error
from jaxopt_lab.stabilization.intervals import Ratio
from jaxopt_lab.stabilization.members import Member
from jaxopt_lab.stabilization.scale import Scale, scale_of


class MLP(nn.Module):
    """One hidden layer."""

    width: int = 8

    @nn.compact
    def __call__(self, x: Any) -> Any:
        return nn.Dense(1)(nn.tanh(nn.Dense(self.width)(x)))[:, 0]


class Columns(nn.Module):
    """An output of one column."""

    @nn.compact
    def __call__(self, x: Any) -> Any:
        return nn.Dense(1)(nn.tanh(nn.Dense(8)(x)))


def mean_error(outputs: Any, targets: Any) -> Any:
    return jnp.mean((outputs - targets) ** 2, axis=-1)


def waves(**options: Any) -> Any:
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(600, 3)).astype(np.float32)
    noise = rng.normal(0, 0.1, 600)
    targets = (np.sin(2 * inputs[:, 0]) + inputs[:, 1] + noise).astype(np.float32)
    return lab.supervised(MLP, (inputs, targets), loss=optax.squared_error, **options)


def test_a_rate_that_is_too_high_is_found_and_fixed(tmp_path: Path) -> None:
    lines: list[str] = []
    problem = waves(batch_size=32)
    hparams = {"learning_rate": 0.3}
    found = lab.stabilize(
        problem, hparams, num_epochs=32, num_seeds=3, directory=tmp_path, say=lines.append
    )
    assert found.main_cause == "learning_rate_too_high"
    assert found.chosen is not None
    assert set(found.chosen.settings) & {"learning_rate", "learning_rate_decay"}
    assert found.chosen.fluctuation.value < 0.5
    assert found.solved
    # The default optimizer's own values are known, so they are cures as well.
    assert {"b1", "b2", "weight_decay"} <= set(found.base)
    assert any(name.startswith("b2") for name in found.remedies)
    assert any("not declared" in line and "clip_norm" in line for line in lines)
    assert found.chosen.name in found.sentence
    # Printed, it is read by a person: no arrays.
    assert repr(found).startswith(f"{found.sentence}\ncause: {found.main_cause} (confidence ")
    assert "\nchange: " in repr(found)
    assert len(repr(found).splitlines()) == 3
    steps = found.walk.set_index("step")
    assert steps.loc["learning rate ÷10 (0.3 → 0.03)", "fluctuation_ratio"] < 1
    assert steps.loc["reduce on plateau (0.2, patience 5, to 1e-5)", "fluctuation_ratio"] < 1
    assert steps.loc["clip norm at 1", "outcome"] == "not tried: not declared"
    assert found.setting["idle_loss"] > float(np.mean(found.after.best))
    kept = len(list((tmp_path / FOLDER).iterdir()))
    assert kept == found.setting["num_trainings"]
    found.save(tmp_path)
    content = json.loads((tmp_path / "diagnosis.json").read_text())
    assert content["causes"][0]["name"] == "learning_rate_too_high"
    assert content["gradient_norms"] is None
    page = report.build_diagnosis(tmp_path).read_text()
    for name in ("before-after", "forest", "ladder"):
        assert f'id="plot-{name}"' in page
    assert 'id="plot-norms"' not in page
    assert "Not declared" in page


def shared_of(problem: Any) -> Shared:
    data = jax.tree.map(jnp.asarray, problem.data)
    return Shared(jax.random.key(1), *map(jnp.int32, (0, 8, 0)), data)


@pytest.mark.parametrize("weighted", [False, True])
def test_the_error_that_validation_rows_leave_is_that_of_a_mean(weighted: bool) -> None:
    weights = np.random.default_rng(1).uniform(0.5, 2, 600) if weighted else None
    splits = [(np.arange(40, 600), np.arange(40))]
    problem = waves(splits=splits, sample_weight=weights, eval_batch_size=16)
    hparams = Hparams({"learning_rate": 0.01})
    state = problem.build().init(jax.random.key(0), hparams)
    setting = problem.extras["setting"]()
    found = loss_error(setting, state, hparams, shared_of(problem))
    outputs = MLP().apply({"params": state.params}, problem.data.inputs[:40])
    losses = np.square(np.asarray(outputs) - problem.data.targets[:40])
    share = np.ones(40) if weights is None else weights[:40]
    share = share / share.sum()
    mean = share @ losses
    assert found is not None
    assert float(found) == pytest.approx(np.sqrt(share**2 @ (losses - mean) ** 2) / mean, rel=1e-4)


def test_of_a_loss_of_whole_batches_nobody_knows_the_error() -> None:
    def whole(module: Any, variables: Any, batch: Any) -> Any:
        errors = module.apply(variables, batch.inputs) - batch.targets
        return jnp.sum(errors**2 * batch.mask) / jnp.maximum(jnp.sum(batch.mask), 1)

    data = waves().data
    problem = lab.supervised(MLP, (data.inputs, data.targets), loss=whole)
    hparams = Hparams({"learning_rate": 0.01})
    state = problem.build().init(jax.random.key(0), hparams)
    assert loss_error(problem.extras["setting"](), state, hparams, shared_of(problem)) is None


def test_few_validation_rows_are_said() -> None:
    problem = waves(splits=[(np.arange(12, 600), np.arange(12))], num_seeds=2)
    found = lab.stabilize(problem, {"learning_rate": 0.001}, num_epochs=16, num_seeds=2)
    assert found.evidence.rows_tell > 0.25
    told = f"its 12 validation rows tell it to ±{found.evidence.rows_tell:.0%} only"
    assert told in f"{found.sentence} {found.notes}"
    assert found.setting["num_valid"] == 12


def test_where_nothing_is_learned_for_the_unit_of_the_targets_that_is_said() -> None:
    data = waves().data

    def diagnosed(targets: np.ndarray) -> GeneralDiagnosis:
        problem = lab.supervised(MLP, (data.inputs, targets), loss=optax.squared_error)
        return lab.stabilize(problem, {"learning_rate": 0.1}, num_epochs=16, num_seeds=2)

    found = diagnosed(400 * data.targets + 1_800)
    assert found.main_cause == "bad_scale"
    assert "because the targets are not scaled. Use standardised targets" in found.sentence
    assert found.evidence.target_scale == pytest.approx(1_840, rel=0.05)
    assert found.evidence.unit_gain > 5
    assert "bad_scale" not in [cause.name for cause in diagnosed(data.targets).causes]


def test_where_nothing_is_learned_that_is_the_verdict_and_what_learns_the_cure() -> None:
    found = lab.stabilize(waves(), {"learning_rate": 5e-6}, num_epochs=20, num_seeds=2)
    assert found.main_cause == "learns_nothing"
    assert "no better than without learning" in found.sentence
    assert found.evidence.over_constant > 0.98
    assert found.chosen is not None
    # The ladder's ten times the rate is not enough.
    assert found.recommended["learning_rate"] == pytest.approx(5e-3)
    assert found.chosen.loss.value < 0.75


def spoilt(fault: str) -> tuple[Any, Any, Any]:
    """Inputs, targets, splits."""
    data = waves().data
    inputs, targets = np.array(data.inputs), np.array(data.targets)
    splits: Any = 0.2
    if fault == "outliers":
        targets[[5, 77, 300]] = 300.0
    elif fault == "heavy_tailed_target":
        targets = np.exp(2.5 * targets / targets.std())
        targets = (targets - targets.mean()) / targets.std()
    else:
        inputs = 400 * inputs
    return inputs, targets[:, None], splits


@pytest.mark.parametrize("fault", ["outliers", "heavy_tailed_target", "bad_scale"])
def test_faults_of_rows_are_found_at_the_front_door(fault: str) -> None:
    """A target of one column is one number each."""
    inputs, targets, splits = spoilt(fault)
    problem = lab.supervised(Columns, (inputs, targets), loss=mean_error, splits=splits)
    found = lab.stabilize(problem, {"learning_rate": 0.003}, num_epochs=20, num_seeds=2)
    assert found.main_cause == fault
    assert found.rejected or len(found.causes) > 1
    if fault == "outliers":
        assert found.causes[0].rows == (5, 77, 300)
        assert "5, 77, 300" in found.sentence


def test_mended_rows_stand_behind_the_given_ones() -> None:
    """Each split has its own, and a member of a trial goes with its seed."""
    inputs, targets, _ = spoilt("outliers")
    weights = np.arange(1.0, 1.0 + len(inputs))
    problem = lab.supervised(
        Columns,
        (400 * inputs, targets),
        loss=mean_error,
        splits=2,
        num_seeds=2,
        sample_weight=weights,
    )
    rows = look_at(problem, "loss")
    names = [member.name for member in rows.members]
    assert names == ["without 3 outlying rows", "standardised inputs"]
    # Without outliers of the target among them losses are of other validation rows.
    assert [member.comparable for member in rows.members] == [False, True]
    data, number = rows.problem.data, len(inputs)
    assert rows.num_splits == 2
    assert data.num_train.shape == (6,)
    assert len(data.inputs) == 2 * number
    np.testing.assert_array_equal(data.weights, np.tile(weights, 2))
    for split in range(2):
        given = set(problem.data.train_rows[split][: problem.data.num_train[split]].tolist())
        few, unit = (set(data.train_rows[2 * m + split].tolist()) for m in (1, 2))
        assert few == given - {5, 77, 300}
        assert unit == {row + number for row in given}
    columns = data.inputs[data.train_rows[4]]
    np.testing.assert_allclose(columns.std(axis=0), 1, rtol=1e-4)
    scaled = rows.members[1]
    assert [rows.fold(n, Member("base", {})) for n in range(4)] == [0, 1, 6, 7]
    assert [rows.fold(n, scaled) for n in range(4)] == [4, 5, 10, 11]
    setting = rows.problem.extras["setting"]()
    assert setting.num_splits == 6
    assert setting.num_valid == tuple(data.num_valid)


def test_few_validation_rows_are_the_cause_where_more_of_them_are_calm() -> None:
    few = QUIET._replace(valid_calms=4.0, train_fluctuation=0.05, batch_calms=2.0)
    few = few._replace(noise_over_batch=20.0)
    # What the rows make up does not speak for the batch.
    assert [c.name for c in verdict(few)] == ["evaluation_noise"]
    assert floor_share(few) == pytest.approx(math.sqrt(1 - 1 / 16))
    shakes = few._replace(train_fluctuation=0.2)
    assert "evaluation_noise" not in [c.name for c in verdict(shakes)]
    # Of a calm loss less must be seen, if its rows cannot tell it.
    calm = QUIET._replace(fluctuation=0.02, valid_calms=2.0, train_fluctuation=0.005)
    assert verdict(calm)[0].name == "no_problem"
    assert verdict(calm._replace(rows_tell=0.6))[0].name == "evaluation_noise"


NOISY = {"lr": 0.8, "momentun": 0.9}


def descend(x: Any, key: Any, rate: Any, spread: float) -> tuple[Any, Any]:
    """One noisy step on a quadratic, and the loss, which has a floor of 1."""
    noise = spread * jax.random.normal(key, x.shape)
    x = x - rate * (2 * x + noise)
    return x, 1.0 + jnp.mean(x**2)


def noisy(*, batch_size: int = 4) -> lab.Trainable:
    def init(key: Any, hparams: Any) -> Any:
        return 3.0 + jax.random.normal(key, (20,))

    def step(x: Any, hparams: Any, shared: Any) -> Any:
        x, loss = descend(x, shared.key, hparams["lr"], 2.0 / batch_size**0.5)
        return x, {"loss": loss, "reward": -100.0 * loss}

    return lab.Trainable(init, step)


ROLES = {"learning_rate": "lr"}


def test_steps_with_noise_are_diagnosed_by_their_roles() -> None:
    lines: list[str] = []
    problem = lab.from_steps(noisy, roles=ROLES, budget=40)
    found = lab.stabilize(problem, NOISY, num_seeds=2, say=lines.append)
    assert isinstance(found, GeneralDiagnosis)
    assert found.main_cause == "learning_rate_too_high"
    assert found.chosen is not None
    assert found.recommended["lr"] < 0.8 or found.recommended["batch_size"] > 4
    assert found.setting["relative"]
    # The static batch size is another program with the same seeds.
    assert found.remedies["batch ×4"].settings == {"batch_size": 16}
    assert found.remedies["batch ×4"].fluctuation.value < 1
    assert any("reads momentun" in line for line in lines)
    assert any("not declared" in line and "b1" in line for line in lines)
    assert any("gradients are not known" in line for line in lines)
    assert tuple(line for line in lines if line in found.notes) == found.notes


def test_a_reward_below_zero_is_measured_by_what_training_gains(tmp_path: Path) -> None:
    problem = lab.from_steps(
        noisy(batch_size=16), objective="reward", direction="maximize", roles=ROLES
    )
    low = lab.stabilize(problem, {"lr": 0.01}, num_epochs=300, num_seeds=2)
    assert not low.setting["relative"]
    assert low.main_cause == "no_problem"
    assert low.chosen is None
    # From a mean square of about 10, times 100, to near 0.
    assert 700 < low.setting["gain"] < 1300
    low.save(tmp_path)
    page = report.build_diagnosis(tmp_path).read_text()
    assert "reward is calm" in page


def test_a_function_is_measured_on_the_curve_that_it_returns() -> None:
    def train(key: Any, hparams: Any) -> dict[str, Any]:
        start, steps = jax.random.split(key)

        def body(x: Any, key: Any) -> tuple[Any, Any]:
            return descend(x, key, hparams["lr"], 1.0)

        x = 3.0 + jax.random.normal(start, (20,))
        _, losses = jax.lax.scan(body, x, jax.random.split(steps, 48))
        return {"loss": losses[-1], "losses": losses, "last": losses[-4:]}

    found = lab.stabilize(lab.from_function(train, roles=ROLES), {"lr": 0.8}, num_seeds=2)
    assert found.setting["curve"] == "losses"
    assert found.curves["base"].shape == (2, 48)
    assert found.main_cause == "learning_rate_too_high"
    assert found.solved


def one_number(key: Any, hparams: Any) -> dict[str, Any]:
    return {"loss": hparams["lr"] ** 2}


@pytest.mark.parametrize(
    ("problem", "hparams", "options", "message"),
    [
        (lambda: lab.from_function(one_number), {"lr": 0.1}, {}, "no curve"),
        (lambda: lab.from_steps(noisy), {"lr": 0.1}, {}, "num_epochs"),
        (lambda: lab.from_steps(noisy), {"lr": 0.1}, {"num_epochs": 9}, "at least 16 points"),
        (lambda: lab.from_steps(noisy), {"lr": 0.1}, {"curve": "los"}, "Did you mean 'loss'"),
        (lambda: lab.from_steps(noisy), {"rate": 0.1}, {"num_epochs": 20}, "'lr'"),
        (lambda: lab.from_steps(noisy), {"lr": lab.LogUniform(0.1, 1)}, {}, "is a range"),
        (lambda: lab.from_steps(noisy), {"lr": 0.1}, {"shorten": True}, "for tables"),
        (lambda: lab.from_steps(noisy), {"lr": 0.1}, {"num_seeds": 1}, "at least 2"),
        (lambda: "houses.csv", {"lr": 0.1}, {}, "takes a table"),
    ],
)
def test_mistakes_are_one_line(
    problem: Any, hparams: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message) as caught:
        lab.stabilize(problem(), hparams, **options)
    assert "\n" not in str(caught.value)


QUIET = Evidence(
    fluctuation=0.2,
    num_spikes=0.0,
    rate_calms=1.0,
    rate_gain=1.0,
    rate_edge=1.0,
    divergence_factor=np.inf,
    clip_calms=1.0,
    clip_gain=1.0,
    batch_calms=1.0,
    noise_over_batch=1.0,
    b2_calms=1.0,
    b2_memory=1000.0,
    warmup_calms=1.0,
    warmup_gain=1.0,
    overfit_rise=1.0,
    train_fall=1.0,
)
SIGNS: dict[str, dict[str, float]] = {
    "learning_rate_too_high": {"rate_calms": 5.0, "rate_gain": 1.5},
    "exploding_gradients": {"clip_calms": 4.0, "clip_gain": 2.0},
    "small_batch_noise": {"batch_calms": 3.0, "noise_over_batch": 20.0},
    "rate_never_decays": {"decay_calms": 9.0, "decay_gain": 1.1},
    "second_moment_too_fast": {"b2_calms": 4.0, "b2_memory": 10.0},
    "warm_up_missing": {"warmup_calms": 3.0, "warmup_gain": 2.0},
    "overfitting": {"overfit_rise": 1.5, "train_fall": 1.3},
    "evaluation_noise": {"valid_calms": 6.0, "train_fluctuation": 0.02},
    "outliers": {"outliers_calm": 5.0},
    "heavy_tailed_target": {"log_calms": 5.0, "tail_share": 0.05},
    "bad_scale": {"scale_helps": 5.0, "input_scale": 300.0},
    "learns_nothing": {"fluctuation": 0.01, "over_constant": 1.0},
    "no_problem": {"fluctuation": 0.01},
    "no_single_cause": {},
}
NAN = float("nan")


@pytest.mark.parametrize("cause", SIGNS)
def test_clear_signs_give_the_cause(cause: str) -> None:
    found = verdict(QUIET._replace(**SIGNS[cause]))
    assert found[0].name == cause
    assert all(np.isfinite(v) for v in found[0].evidence.values())
    assert set(SIGNS) == set(CURES_OF)


@pytest.mark.parametrize(
    "cause", ["small_batch_noise", "learning_rate_too_high", "no_single_cause"]
)
def test_what_is_not_known_is_no_evidence(cause: str) -> None:
    unknown = dict.fromkeys(("noise_over_batch", "train_fall", "b2_calms", "clip_gain"), NAN)
    unknown |= dict.fromkeys(("clip_calms", "warmup_calms", "warmup_gain", "b2_memory"), NAN)
    signs = {k: v for k, v in SIGNS[cause].items() if k not in unknown}
    found = verdict(QUIET._replace(**unknown, **signs))
    assert [c.name for c in found] == [cause]
    # A rise is no overfitting where nobody has seen the training fall.
    rises = verdict(QUIET._replace(**unknown, overfit_rise=2.0))
    assert "overfitting" not in [c.name for c in rises]


@pytest.mark.parametrize(
    ("more", "cause"),
    [
        ({}, "small_batch_noise"),
        ({"batch_rows": 32.0}, "no_problem"),
        ({"fluctuation": 0.01}, "no_problem"),
        ({"batch_rise": NAN}, "no_problem"),
    ],
)
def test_a_tiny_batch_is_at_fault_though_the_curve_is_calm(
    more: dict[str, float], cause: str
) -> None:
    tiny = {"fluctuation": 0.03, "batch_rows": 4.0, "batch_rise": 1.0}
    found = QUIET._replace(**SIGNS["small_batch_noise"] | tiny | more)
    assert verdict(found)[0].name == cause


def test_a_rise_explains_no_shaking() -> None:
    both = QUIET._replace(**SIGNS["overfitting"], rate_calms=4.0, rate_gain=1.0, rate_end=1.3)
    assert [c.name for c in verdict(both)] == ["learning_rate_too_high", "overfitting"]
    # What undoes the rise calms, too; or there is nothing that shakes.
    for without in ({"dropout_calms": 5.0}, {"fluctuation": 0.01}):
        assert [c.name for c in verdict(both._replace(**without))] == ["overfitting"]


def test_a_rise_does_not_speak_against_a_decay_that_is_missing() -> None:
    both = QUIET._replace(**SIGNS["overfitting"], **SIGNS["rate_never_decays"])
    assert [c.name for c in verdict(both)] == ["rate_never_decays", "overfitting"]
    calms = both._replace(dropout_calms=5.0)
    assert [c.name for c in verdict(calms)] == ["overfitting"]
    lower = both._replace(rate_calms=4.0, rate_end=1.3)
    assert [c.name for c in verdict(lower)] == ["learning_rate_too_high", "overfitting"]


def test_a_rate_that_nearly_fails_is_too_high() -> None:
    """Though its best loss is no worse: the decay does what a lower rate does."""
    never = QUIET._replace(**SIGNS["rate_never_decays"])
    near = never._replace(edge_calms=5.8, rate_edge=1.95)
    assert [c.name for c in verdict(near)] == ["learning_rate_too_high"]
    assert [c.name for c in verdict(near._replace(rate_edge=1.1))] == ["rate_never_decays"]
    assert [c.name for c in verdict(near._replace(edge_calms=1.5))] == ["rate_never_decays"]
    failed = near._replace(rate_edge=NAN, divergence_factor=3.0)
    assert verdict(failed)[0].name == "learning_rate_too_high"
    # Noise that a larger batch takes away, at the rate that goes with it, is the batch's.
    noisy = QUIET._replace(**SIGNS["small_batch_noise"], edge_calms=5.8, rate_edge=1.95)
    assert [c.name for c in verdict(noisy._replace(batch_rate=0.98))] == ["small_batch_noise"]
    assert [c.name for c in verdict(noisy._replace(batch_rate=1.3))] == ["learning_rate_too_high"]


def test_a_rise_that_a_larger_batch_undoes_is_a_small_batchs() -> None:
    both = QUIET._replace(**SIGNS["overfitting"], **SIGNS["small_batch_noise"], fluctuation=0.02)
    small = both._replace(batch_rows=4.0, batch_rise=1.02, batch_calms=1.6)
    assert [c.name for c in verdict(small)] == ["small_batch_noise", "overfitting"]
    for other in ({"batch_rows": 32.0}, {"batch_rise": 1.3}, {"batch_rise": NAN}):
        assert verdict(small._replace(**other))[0].name == "overfitting"


def test_clipping_or_batches_that_calm_some_seeds_only_are_no_sign() -> None:
    knobs = read_knobs(lab.from_steps(noisy, roles=ROLES, budget=8), {"lr": 0.1})
    curve = np.exp(np.random.default_rng(0).normal(0, 0.1, 40))
    job = Job(0, 0, 0, {}, knobs.program(knobs.base), 40, 40)
    results = [Result(job, {"loss": curve}, {}, dict, {})]
    base = summarize(results, "loss", Scale(True, 1, 0.0, 1.0), "last", None)

    def calms(name: str, family: str, low: float, high: float) -> float:
        ratio, same = Ratio(0.5, low, high), Ratio(1.0, 1.0, 1.0)
        one = Remedy(name, {}, family, ratio, same, same, 0.1, 0.0, 1.0, False, True, "")
        found = gather(base, results, {name: one}, [], knobs)
        return float({"clip": found.clip_calms, "batch": found.batch_calms}[family])

    for name, family in (("clip norm at 1", "clip"), ("batch ×4", "batch")):
        assert calms(name, family, 0.2, 1.3) == 1.0
        assert calms(name, family, 0.4, 0.7) == pytest.approx(2.0)


def test_of_decay_and_second_moment_one_is_named() -> None:
    both = QUIET._replace(
        decay_calms=20.0, decay_gain=1.1, b2_calms=1.4, b2_gain=1.0, b2_memory=9.0
    )
    assert [c.name for c in verdict(both)] == ["rate_never_decays"]
    assert verdict(both._replace(b2_calms=6.0))[0].name == "second_moment_too_fast"


def test_nothing_is_calm_while_a_lower_rate_ends_better() -> None:
    calm = QUIET._replace(fluctuation=0.01, rate_gain=1.4)
    assert verdict(calm)[0].name == "learning_rate_too_high"


def test_costs_do_not_depend_on_unit_and_sign() -> None:
    rng = np.random.default_rng(0)
    rewards = 1 - np.exp(-np.arange(40) / 5) + rng.normal(0, 0.02, (2, 40))
    one = scale_of(rewards, [rewards], -1)
    other = scale_of(-50 * rewards + 7, [-50 * rewards + 7], 1)
    assert not one.relative
    assert not other.relative
    np.testing.assert_allclose(one.costs(rewards), other.costs(-50 * rewards + 7), rtol=1e-6)
    losses = 2.0 - rewards
    assert scale_of(losses, [losses], 1).relative
    np.testing.assert_array_equal(scale_of(losses, [losses], 1).costs(losses), losses)
    assert not scale_of(losses, [losses, losses - 5], 1).relative


def test_shaking_does_not_lower_the_last_tenth_of_a_loss() -> None:
    def final(losses: Any, scale: Scale) -> float:
        job = Job(0, 0, 0, {}, None, 40, 40)
        result = Result(job, {"loss": np.asarray(losses)}, {}, dict, {})
        return float(summarize([result], "loss", scale, "last", None).final[0])

    shakes = np.tile([1.0, 9.0], 20)
    # The geometric mean would be 3.
    assert final(shakes, Scale(True, 1, 0.0, 1.0)) == pytest.approx(5.0)
    # Costs of a reward are exponentials: the mean of the reward itself is what counts.
    reward = Scale(False, -1, 0.0, 10.0)
    assert final(shakes, reward) == pytest.approx(np.exp(-0.5))


def test_a_larger_batch_is_tried_with_the_rate_that_goes_with_it() -> None:
    knobs = read_knobs(waves(), {"learning_rate": 3e-4, "batch_size": 16})
    batches = {m.name: m.settings for m in variants.cures(knobs) if m.family == "batch"}
    # 16 times as many rows would be more than a quarter of those that are trained on.
    assert batches == {
        "batch ×4": {"batch_size": 64},
        "batch ×4 with rate ×2": {"batch_size": 64, "learning_rate": 6e-4},
    }
    small = read_knobs(waves(), {"learning_rate": 3e-4, "batch_size": 4})
    most = {m.name: m.settings for m in variants.cures(small)}
    assert most["batch ×16 with rate ×4"] == {"batch_size": 64, "learning_rate": 1.2e-3}
    # Without a rate there is none to raise.
    alone = read_knobs(lab.from_steps(noisy, budget=40), {"lr": 0.8, "batch_size": 4})
    assert [m.name for m in variants.cures(alone) if m.family == "batch"] == ["batch ×4"]


def test_flat_and_infinite_curves_have_a_scale() -> None:
    flat = np.zeros((2, 20))
    assert scale_of(flat, [flat], -1).gain > 0
    broken = np.full((2, 20), np.nan)
    found = scale_of(broken, [broken, flat - 1], 1)
    assert np.isfinite([found.level, found.gain]).all()
    assert np.isnan(found.costs(broken)).all()
