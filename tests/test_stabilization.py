"""Diagnosis end to end on a small table, and its rules one by one."""

import json
import math
import re
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_files import nobody

import jaxopt_lab as lab
from jaxopt_lab import cli, report
from jaxopt_lab.core.errors import MachineError
from jaxopt_lab.problems.mlp.data import regression
from jaxopt_lab.problems.mlp.hyperparameters import OPTIMIZERS, complete, traced
from jaxopt_lab.problems.mlp.optimizers import build
from jaxopt_lab.problems.mlp.recurrent import make_rnn
from jaxopt_lab.problems.mlp.rows import RowsTask
from jaxopt_lab.problems.mlp.trainer import Batch, TrainState
from jaxopt_lab.stabilization import diagnose, length, members, of_rows, run, two_causes
from jaxopt_lab.stabilization.compare import Remedy, compare, judge, ranked, that_learn
from jaxopt_lab.stabilization.comparison import Clock
from jaxopt_lab.stabilization.diagnose import Evidence, verdict
from jaxopt_lab.stabilization.diagnosis import Diagnosis
from jaxopt_lab.stabilization.edge import over_usual
from jaxopt_lab.stabilization.finished import FOLDER, Finished
from jaxopt_lab.stabilization.gain import or_pace
from jaxopt_lab.stabilization.intervals import Ratio, ratio_of_means, row_error
from jaxopt_lab.stabilization.members import BASE, Member
from jaxopt_lab.stabilization.population import Population
from jaxopt_lab.stabilization.probes import make_probe
from jaxopt_lab.stabilization.stages import Stages
from jaxopt_lab.stabilization.summary import Summary, summarize
from jaxopt_lab.stabilization.thresholds import HEALTHY
from jaxopt_lab.stabilization.weighing import Cause

SMALL = {"hidden_size": 8, "num_layers": 1, "batch_size": 16, "activation": "tanh"}
CAUSE = {
    "learning_rate_too_high",
    "exploding_gradients",
    "small_batch_noise",
    "second_moment_too_fast",
    "overfitting",
    "evaluation_noise",
    "rate_never_decays",
    "warm_up_missing",
    "outliers",
    "heavy_tailed_target",
    "bad_scale",
    "learns_nothing",
    "no_problem",
    "no_single_cause",
}


def around(value: float) -> Ratio:
    return Ratio(value, value * 0.95, value * 1.05)


@pytest.mark.parametrize(
    ("spread", "loss", "peak", "accepted", "why"),
    [
        (0.2, 1.0, 0.5, True, "divided by 5.0"),
        (0.2, 0.8, 0.5, True, "best loss 20.0% better"),
        (0.2, 1.03, 0.5, False, "calmer, but best loss 3.0% worse"),
        (0.2, 2.0, 0.5, False, "calmer because it stopped learning"),
        (0.2, 1.0, 1.5, False, "highest is 1.5 times"),
        (0.9, 1.0, 0.9, False, "no calmer"),
        (0.9, 1.5, 0.9, False, "no calmer, and best loss 50.0% worse"),
        (2.0, 1.0, 2.0, False, "less calm"),
    ],
)
def test_a_cure_is_judged(
    spread: float, loss: float, peak: float, accepted: bool, why: str
) -> None:
    found = judge(around(spread), around(loss), peak)
    assert found[0] == accepted
    assert why in found[1]


def test_calmer_on_some_seeds_only_is_not_accepted() -> None:
    assert judge(Ratio(0.5, 0.1, 1.2), around(1.0), 0.5) == (False, "calmer on some seeds only")


def test_where_the_base_overfits_a_lower_end_is_a_cure() -> None:
    flat = around(1.0)
    assert judge(flat, flat, 0.5, around(0.6)) == (True, "ends 40% lower")
    assert judge(flat, flat, 0.5) == (False, "no calmer")
    assert judge(flat, flat, 0.5, Ratio(0.6, 0.3, 1.1)) == (False, "no calmer")
    accepted, why = judge(flat, around(1.03), 0.5, around(0.6))
    assert not accepted
    assert why == "ends 40% lower, but best loss 3.0% worse"
    assert not judge(flat, around(1.2), 0.5, around(0.6))[0]


def test_where_the_base_overfits_the_goal_is_a_flat_end() -> None:
    calm = remedy("L2 0.01", {"l2": 0.01}, "regularisation", 0.1, 0.98)
    assert calm.reaches_goal
    assert not calm._replace(against_rise=True, rise=1.3).reaches_goal
    assert calm._replace(against_rise=True, rise=1.05).reaches_goal
    weak = calm._replace(name="L2 0.001", against_rise=True, rise=1.3, final=around(0.8))
    weaker = weak._replace(name="dropout 0.3", final=around(0.85))
    names = [r.name for r in ranked([weaker, weak], ("regularisation",))]
    assert names == ["L2 0.001", "dropout 0.3"]


def remedy(name: str, settings: dict[str, Any], family: str, spread: float, loss: float) -> Remedy:
    accepted, why = judge(around(spread), around(loss), 0.5)
    ratios = around(spread), around(loss), around(loss)
    return Remedy(name, settings, family, *ratios, 0.3 * spread, 0.01, 1.0, False, accepted, why)


def test_the_smallest_that_does_the_job_comes_first() -> None:
    pair = remedy("pair", {"clip_norm": 1.0, "learning_rate": 0.1}, "pair", 0.1, 0.94)
    weak = remedy("weak", {"b2": 0.9999}, "b2", 0.7, 1.0)
    clip = remedy("clip", {"clip_norm": 1.0}, "clip", 0.2, 0.97)
    rate = remedy("rate", {"learning_rate": 0.1}, "learning rate", 0.2, 0.95)
    harmful = remedy("harmful", {"dropout": 0.3}, "regularisation", 0.1, 1.5)
    everything = [pair, weak, clip, rate, harmful]
    assert [r.name for r in ranked(everything, ())] == ["rate", "clip", "pair", "weak"]
    assert ranked(everything, ("clip",))[0].name == "clip"
    much_better = remedy("deep", {"learning_rate": 0.01, "b2": 0.99}, "pair", 0.1, 0.5)
    assert ranked([*everything, much_better], ("clip",))[0].name == "deep"


QUIET = Evidence(
    fluctuation=0.2,
    noise_floor=0.02,
    num_spikes=0.0,
    train_fluctuation=0.2,
    rate_calms=1.0,
    rate_gain=1.0,
    rate_edge=1.0,
    divergence_factor=10.0,
    sharpness_ratio=0.1,
    norm_tail=3.0,
    clip_calms=1.0,
    clip_gain=1.0,
    batch_calms=1.0,
    noise_over_batch=1.0,
    b2_calms=1.0,
    b2_memory=1000.0,
    overfit_rise=1.0,
    train_fall=1.0,
)
SIGNS: dict[str, dict[str, float]] = {
    "learning_rate_too_high": {"rate_calms": 8.0, "rate_gain": 1.5, "rate_edge": 2.0},
    "exploding_gradients": {"norm_tail": 500.0, "clip_calms": 6.0},
    "small_batch_noise": {"batch_calms": 4.0, "noise_over_batch": 50.0},
    "second_moment_too_fast": {"b2_calms": 5.0, "b2_memory": 10.0},
    "overfitting": {"overfit_rise": 2.0, "train_fall": 3.0},
    "evaluation_noise": {"noise_floor": 0.2, "train_fluctuation": 0.02},
    "rate_never_decays": {"decay_calms": 20.0, "decay_gain": 1.1},
    "warm_up_missing": {"warmup_gain": 2.0},
    "outliers": {"outliers_calm": 5.0},
    "heavy_tailed_target": {"log_calms": 5.0, "tail_share": 0.05},
    "bad_scale": {"scale_helps": 5.0, "input_scale": 300.0},
    "learns_nothing": {"fluctuation": 0.01, "over_constant": 1.05},
    "no_problem": {"fluctuation": 0.01},
}


CALM = {"fluctuation": 0.01}
MADE_UP_BY_FEW = {"log_calms": 1.1, "log_tells": 8.0, "log_gain": 1.7, "tail_share": 0.1}
TOO_FEW_ROWS = {"rows_tell": 1.4, "valid_calms": 2.4, "train_fluctuation": 0.005}
TINY_BATCH = {
    **SIGNS["small_batch_noise"],
    "batch_rows": 4.0,
    "batch_rise": 1.02,
    "fluctuation": 0.03,
}
NEARLY_FAILS = {"edge_calms": 5.8, "rate_edge": 1.95, "rate_gain": 0.97}
BEYOND_PRACTICE = {"rate_calms": 2.5, "over_usual": 3.0}
FREED_ALIKE = {"rate_calms": 4.6, "rate_gain": 4.8, "clip_gain": 6.5, "norm_tail": 6.0}
SHAKES_TOO = {"rate_calms": 3.2, "rate_end": 1.3, "noise_over_batch": 16.0, "batch_calms": 1.1}


@pytest.mark.parametrize("cause", SIGNS)
def test_clear_signs_give_the_cause(cause: str) -> None:
    found = verdict(QUIET._replace(**SIGNS[cause]))
    assert found[0].name == cause
    assert found[0].confidence > 0.6
    assert all(np.isfinite(v) for v in found[0].evidence.values())


@pytest.mark.parametrize(
    ("signs", "more", "cause"),
    [
        # A lower rate helps, clipping helps three times as much.
        ("learning_rate_too_high", {"clip_gain": 4.0, "norm_tail": 20.0}, "exploding_gradients"),
        ("exploding_gradients", {"rate_calms": 9.0, "rate_gain": 9.0}, "learning_rate_too_high"),
        # Both free it alike, the lower rate calms as well, clipping does not.
        ("learning_rate_too_high", FREED_ALIKE, "learning_rate_too_high"),
        ("learning_rate_too_high", FREED_ALIKE | {"clip_calms": 4.0}, "exploding_gradients"),
        # A stuck network's gradient is mostly noise, its curve may be calm, its end high.
        ("small_batch_noise", {"clip_gain": 2.0, "norm_tail": 20.0}, "exploding_gradients"),
        ("no_problem", {"clip_gain": 2.0, "norm_tail": 20.0}, "exploding_gradients"),
        ("overfitting", {"clip_gain": 2.0, "norm_tail": 20.0}, "exploding_gradients"),
        # A larger batch is calmer, but what fluctuates is the noise of few validation rows.
        (
            "small_batch_noise",
            {"noise_floor": 0.2, "train_fluctuation": 0.02},
            "evaluation_noise",
        ),
        # A decaying rate calms whatever shakes: it is what is missing only if nothing else is.
        ("rate_never_decays", {"rate_calms": 3.0, "rate_gain": 1.3}, "learning_rate_too_high"),
        ("rate_never_decays", {"batch_calms": 2.0, "noise_over_batch": 50.0}, "small_batch_noise"),
        # Much noise is no fault of the batch where a larger one does not calm.
        ("rate_never_decays", {"batch_calms": 1.1, "noise_over_batch": 50.0}, "rate_never_decays"),
        # A second moment that calms a little less than a decay does is not what is missing.
        ("rate_never_decays", {"b2_calms": 1.4, "b2_memory": 10.0}, "rate_never_decays"),
        ("rate_never_decays", {"b2_calms": 5.0, "b2_memory": 10.0}, "second_moment_too_fast"),
        (
            "rate_never_decays",
            {"b2_calms": 1.4, "b2_memory": 10.0, "b2_gain": 1.09},
            "second_moment_too_fast",
        ),
        # Nor is a decay, which calms whatever shakes, where a lower rate is better.
        (
            "second_moment_too_fast",
            {"decay_calms": 99.0, "decay_gain": 1.3, "rate_gain": 1.25},
            "second_moment_too_fast",
        ),
        # With few rows to a step a lower rate does what a larger batch does.
        (
            "small_batch_noise",
            {"rate_calms": 3.0, "rate_gain": 1.2, "batch_gain": 1.2},
            "small_batch_noise",
        ),
        (
            "small_batch_noise",
            {"rate_calms": 3.0, "rate_gain": 1.4, "batch_gain": 1.1},
            "learning_rate_too_high",
        ),
        # A larger batch gains as much, but calms nothing: it is not the batch.
        (
            "learning_rate_too_high",
            {"noise_over_batch": 70.0, "batch_gain": 1.5, "clip_gain": 1.4, "norm_tail": 15.0},
            "learning_rate_too_high",
        ),
        # Clipping helps against rows that are far from all others, but it is the rows.
        ("exploding_gradients", {"outliers_calm": 7.0}, "outliers"),
        ("exploding_gradients", {"outliers_calm": 1.4}, "exploding_gradients"),
        ("exploding_gradients", {"outliers_calm": 1.0, "outliers_gain": 5.0}, "outliers"),
        ("warm_up_missing", {"clip_gain": 4.0, "norm_tail": 20.0}, "exploding_gradients"),
        # Calm because the rows let it learn little.
        ("no_problem", SIGNS["bad_scale"] | {"scale_gain": 5.0}, "bad_scale"),
        ("no_problem", SIGNS["bad_scale"], "no_problem"),
        ("no_problem", {"outliers_calm": 1.0, "outliers_gain": 1.5}, "outliers"),
        ("no_problem", {"outliers_calm": 5.0}, "no_problem"),
        # Calm by a loss that a few targets make up, or that too few validation rows cannot tell.
        ("no_problem", MADE_UP_BY_FEW, "heavy_tailed_target"),
        ("no_problem", MADE_UP_BY_FEW | {"log_gain": 1.1}, "no_problem"),
        ("no_problem", MADE_UP_BY_FEW | {"log_tells": 1.7}, "no_problem"),
        ("no_problem", TOO_FEW_ROWS, "evaluation_noise"),
        ("no_problem", TOO_FEW_ROWS | {"rows_tell": 0.3}, "no_problem"),
        ("no_problem", TOO_FEW_ROWS | {"noise_floor": 0.005}, "no_problem"),
        ("no_problem", TOO_FEW_ROWS | {"valid_calms": 1.2}, "no_problem"),
        # A rise explains no shaking, unless what undoes it calms as well.
        ("overfitting", SHAKES_TOO, "learning_rate_too_high"),
        ("overfitting", SHAKES_TOO | {"dropout_calms": 5.0}, "overfitting"),
        ("overfitting", SHAKES_TOO | {"fluctuation": 0.01}, "overfitting"),
        ("overfitting", SHAKES_TOO | {"batch_calms": 4.0, "batch_gain": 1.2}, "small_batch_noise"),
        ("overfitting", SIGNS["rate_never_decays"], "rate_never_decays"),
        ("overfitting", SIGNS["rate_never_decays"] | {"dropout_calms": 5.0}, "overfitting"),
        ("overfitting", SIGNS["rate_never_decays"] | {"fluctuation": 0.01}, "overfitting"),
        # A larger batch makes a smaller rise, whatever it was; of a tiny one that says something.
        ("overfitting", TINY_BATCH, "small_batch_noise"),
        ("overfitting", TINY_BATCH | {"batch_rise": 1.3}, "overfitting"),
        ("overfitting", TINY_BATCH | {"batch_rows": 32.0}, "overfitting"),
        # A tiny batch shakes a calm curve, too, and makes the noise that few rows would explain.
        ("no_problem", TINY_BATCH, "small_batch_noise"),
        ("no_problem", TINY_BATCH | {"fluctuation": 0.01}, "no_problem"),
        ("no_problem", TINY_BATCH | {"batch_rows": 32.0}, "no_problem"),
        ("no_problem", TINY_BATCH | {"batch_rise": np.nan}, "no_problem"),
        ("evaluation_noise", TINY_BATCH | {"noise_floor": 0.03}, "small_batch_noise"),
        (
            "evaluation_noise",
            TINY_BATCH | {"noise_floor": 0.09, "fluctuation": 0.1, "valid_calms": 4.0},
            "evaluation_noise",
        ),
        # Of what decays and lower rates calm, a rate beyond practice is the fault.
        ("rate_never_decays", BEYOND_PRACTICE, "learning_rate_too_high"),
        ("rate_never_decays", BEYOND_PRACTICE | {"over_usual": 0.5}, "rate_never_decays"),
        ("rate_never_decays", BEYOND_PRACTICE | {"rate_calms": 1.0}, "rate_never_decays"),
        ("no_problem", BEYOND_PRACTICE, "no_problem"),
        # Gradients whose tail goes with the rate explode because of the rate.
        ("exploding_gradients", FREED_ALIKE | {"clip_calms": 4.0}, "exploding_gradients"),
        (
            "exploding_gradients",
            FREED_ALIKE | {"clip_calms": 4.0, "tail_stays": 0.1},
            "learning_rate_too_high",
        ),
        ("exploding_gradients", {"tail_stays": 0.1, "clip_gain": 4.0}, "exploding_gradients"),
        # Without outliers a little better, but for certain.
        ("no_problem", {"outliers_calm": 1.0, "outliers_gain": 1.2}, "no_problem"),
        (
            "no_problem",
            {"outliers_calm": 1.0, "outliers_gain": 1.2, "outliers_surely": 1.1},
            "outliers",
        ),
        # A rate that fails at three times itself is too high, though a lower one gains nothing.
        ("rate_never_decays", NEARLY_FAILS, "learning_rate_too_high"),
        ("rate_never_decays", NEARLY_FAILS | {"edge_calms": 1.2}, "rate_never_decays"),
        ("small_batch_noise", NEARLY_FAILS | {"batch_rate": 1.3}, "learning_rate_too_high"),
        ("small_batch_noise", NEARLY_FAILS | {"batch_rate": 0.98}, "small_batch_noise"),
        # Calm because nothing is learned: what keeps it from learning says why.
        ("learns_nothing", {"over_constant": 0.9}, "no_problem"),
        ("learns_nothing", {"batch_calms": 4.0, "noise_over_batch": 50.0}, "learns_nothing"),
        ("learns_nothing", {"warmup_gain": 2.0}, "warm_up_missing"),
        ("learns_nothing", {"unit_helps": 9.0, "unit_gain": 9.0, "target_scale": 1e5}, "bad_scale"),
        ("learns_nothing", {"fluctuation": 0.2}, "learns_nothing"),
        ("learning_rate_too_high", {"over_constant": 3.0}, "learning_rate_too_high"),
        # What is calm is not helped by being calmer.
        ("overfitting", {**CALM, "norm_tail": 20.0, "clip_calms": 5.0}, "overfitting"),
    ],
)
def test_the_stronger_of_two_signs_gives_the_cause(
    signs: str, more: dict[str, float], cause: str
) -> None:
    assert verdict(QUIET._replace(**{**SIGNS[signs], **more}))[0].name == cause


def paced(**more: float) -> list[str]:
    numbers = {"fluctuation": 0.07, "gain_limit": 0.9, "undone": 1.0} | more
    found = QUIET._replace(**numbers)
    return [cause.name for cause in or_pace(verdict(found), found)]


def test_what_is_small_beside_the_gain_and_nothing_undoes_is_no_problem() -> None:
    assert paced() == ["no_problem"]
    assert paced(undone=4.0) == ["no_single_cause"]
    assert paced(undone=np.nan) == ["no_single_cause"]
    assert paced(gain_limit=0.05) == ["no_single_cause"]
    assert paced(num_spikes=2.0) == ["no_single_cause"]
    assert paced(**SIGNS["small_batch_noise"]) == ["small_batch_noise"]


def test_of_decay_and_second_moment_one_is_named() -> None:
    both = QUIET._replace(**SIGNS["rate_never_decays"], b2_calms=1.4, b2_memory=10.0)
    (found,) = verdict(both)
    assert found.name == "rate_never_decays"
    by_name = {cause.name: cause for cause in diagnose.weighed(both)}
    assert "decay_explains_less" in by_name["second_moment_too_fast"].why_not
    alone = diagnose.weighed(QUIET._replace(**SIGNS["second_moment_too_fast"]))
    assert "decay_explains_less" not in alone[0].evidence


def test_of_a_rate_too_high_and_one_that_never_decays_one_is_named() -> None:
    """A lower constant rate ends better: decays do what it does."""
    both = QUIET._replace(**SIGNS["overfitting"], **SHAKES_TOO, **SIGNS["rate_never_decays"])
    assert [c.name for c in verdict(both)] == ["learning_rate_too_high", "overfitting"]


def evidence_of(population: Population, remedies: dict[str, Remedy]) -> Evidence:
    base = population.train([Member(BASE, {})], [0], probe=True)[BASE]
    return diagnose.gather(summarize(base), base, remedies, [], 3)


def test_a_few_targets_that_make_up_the_loss_are_no_lack_of_rows() -> None:
    both = QUIET._replace(**CALM, **MADE_UP_BY_FEW, **TOO_FEW_ROWS, noise_floor=0.02)
    assert [c.name for c in verdict(both)] == ["heavy_tailed_target"]
    light = verdict(both._replace(tail_share=0.0))
    assert [c.name for c in light] == ["evaluation_noise"]


def test_a_second_moment_that_calms_by_learning_less_is_no_sign(population: Population) -> None:
    """As a lower rate, or a decay, that harms is none."""
    harms = remedy("b2 0.9999", {"b2": 0.9999}, "b2", 0.2, 1.5)
    found = evidence_of(population, {harms.name: harms})
    assert found.b2_calms == 1.0
    assert found.b2_gain == pytest.approx(1 / 1.5)
    helps = remedy("b2 0.9995", {"b2": 0.9995}, "b2", 0.5, 1.0)
    both = {harms.name: harms, helps.name: helps}
    assert evidence_of(population, both).b2_calms == pytest.approx(2.0)


def test_clipping_that_calms_some_seeds_only_or_harms_is_no_sign(population: Population) -> None:
    """No cause is named for a cure that is refused."""
    some = remedy("clip norm at 1", {"clip_norm": 1.0}, "clip", 0.5, 0.96)
    some = some._replace(fluctuation=Ratio(0.5, 0.2, 1.3))
    harms = remedy("clip norm at 0.1", {"clip_norm": 0.1}, "clip", 0.3, 1.2)
    both = {some.name: some, harms.name: harms}
    assert evidence_of(population, both).clip_calms == 1.0
    helps = some._replace(fluctuation=Ratio(0.5, 0.4, 0.7))
    assert evidence_of(population, {helps.name: helps}).clip_calms == pytest.approx(2.0)


def test_a_larger_batch_that_calms_some_seeds_only_is_no_sign(population: Population) -> None:
    batch = remedy("batch ×4", {"batch_size": 64}, "batch", 0.5, 0.96)
    some = batch._replace(fluctuation=Ratio(0.5, 0.2, 1.3))
    assert evidence_of(population, {some.name: some}).batch_calms == 1.0
    assert evidence_of(population, {batch.name: batch}).batch_calms == pytest.approx(2.0)
    # A quarter of the updates may cost something; what has hardly learned is calm for that.
    dearer = batch._replace(loss=around(1.2))
    assert evidence_of(population, {dearer.name: dearer}).batch_calms == pytest.approx(2.0)
    stuck = batch._replace(loss=around(1.47))
    assert evidence_of(population, {stuck.name: stuck}).batch_calms == 1.0


def test_what_larger_batches_and_lower_rates_do_is_measured(population: Population) -> None:
    calm = remedy("batch ×4", {"batch_size": 64}, "batch", 0.5, 0.96)._replace(rise=1.05)
    both = {"batch_size": 64, "learning_rate": 0.02}
    paired = remedy("batch ×4 with rate ×2", both, "batch", 1.1, 1.2)._replace(rise=1.0)
    third = remedy("learning rate ÷3", {"learning_rate": 0.003}, "learning rate", 0.2, 1.04)
    third = third._replace(final=around(0.9))
    found = evidence_of(population, {r.name: r for r in (calm, paired, third)})
    dearer = {calm.name: calm._replace(loss=Ratio(1.04, 0.9, 1.2))}
    assert evidence_of(population, dearer).batch_rise == 1.05
    surely = {calm.name: calm._replace(loss=Ratio(1.04, 1.01, 1.07))}
    assert np.isnan(evidence_of(population, surely).batch_rise)
    # The one that rises least is no calmer.
    assert found.batch_rise == 1.05
    assert found.batch_rate == pytest.approx(1.2)
    assert found.batch_rows == 16.0
    assert found.edge_calms == pytest.approx(5.0)
    stopped = third._replace(loss=around(1.2))
    assert evidence_of(population, {stopped.name: stopped}).edge_calms == 1.0
    ends_higher = third._replace(final=around(1.1))
    assert evidence_of(population, {ends_higher.name: ends_higher}).edge_calms == 1.0


def test_a_tail_is_followed_to_the_best_lower_rate(population: Population) -> None:
    tail = evidence_of(population, {}).norm_tail
    mine = [
        remedy(f"learning rate ÷{n}", {"learning_rate": 0.03 / n}, "learning rate", 0.5, loss)
        for n, loss in ((3, 0.9), (10, 0.8), (100, 1.4))
    ]
    tails = (0.9 * tail, 0.2 * tail, 0.1 * tail)
    lower = {r.name: r._replace(tail=t) for r, t in zip(mine, tails, strict=True)}
    assert evidence_of(population, lower).tail_stays == pytest.approx(0.2)
    assert np.isnan(evidence_of(population, {}).tail_stays)


@pytest.mark.parametrize(
    ("optimizer", "rate", "over"),
    [("adam", 0.03, 3.0), ("rmsprop", 1e-3, 0.1), ("lion", 6e-3, 6.0), ("momentum", 0.3, np.nan)],
)
def test_what_rates_practice_takes(optimizer: str, rate: float, over: float) -> None:
    assert over_usual(rate, optimizer) == pytest.approx(over, nan_ok=True)


@pytest.mark.parametrize(("shares", "surely"), [("", 1 / 0.94), ("12 % of a constant's", 1.0)])
def test_how_much_better_it_is_without_outliers_for_certain(shares: str, surely: float) -> None:
    without = remedy("without 4 outlying rows", {}, "outliers", 2.0, 0.8)
    found = without._replace(loss=Ratio(0.8, 0.7, 0.94), shares=shares)
    assert of_rows.measured([found])["outliers_surely"] == pytest.approx(surely)


def test_few_validation_rows_are_the_cause_where_more_of_them_are_calm() -> None:
    most = QUIET._replace(noise_floor=0.15, train_fluctuation=0.02)
    assert verdict(most)[0].name == "no_single_cause"
    assert verdict(most._replace(valid_calms=6.0))[0].name == "evaluation_noise"
    assert verdict(most._replace(valid_calms=1.5))[0].name == "no_single_cause"
    # Of few rows the noise is not known for certain either.
    assert verdict(most._replace(floor_error=0.24))[0].name == "evaluation_noise"
    # A training that shakes by itself is not calmer for more rows.
    shakes = most._replace(valid_calms=6.0, train_fluctuation=0.2)
    assert verdict(shakes)[0].name == "no_single_cause"


def test_without_signs_no_cause_is_named() -> None:
    (found,) = verdict(QUIET)
    assert found.name == "no_single_cause"
    # Not even the likeliest: overfitting's confidence cannot fall below 0.33.
    assert 0.5 < found.confidence < 0.67
    assert set(found.evidence) == {"fluctuation", "overfit_rise"}


def test_a_rejected_cause_says_which_number_is_short_of_what() -> None:
    found = diagnose.weighed(QUIET._replace(**SIGNS["learning_rate_too_high"]))
    assert found[0].name == "learning_rate_too_high"
    assert found[0].failed == {}
    by_name = {cause.name: cause for cause in found}
    assert by_name["small_batch_noise"].why_not.startswith("batch_calms 1, at least 1.5 needed")
    # What was not tried is neither held nor rejected.
    assert "outliers" not in by_name


def test_a_constant_rate_without_averages_does_not_settle(population: Population) -> None:
    def settles(**settings: Any) -> bool:
        return diagnose.settles(population.job(0, Member("other", settings), 0).config)

    assert not settles()
    assert settles(schedule="cosine")
    assert settles(ema=True, ema_decay=0.99)


def undone(name: str, spread: float, loss: float) -> Remedy:
    return remedy(name, {name: 1.0}, "", spread, loss)


def test_two_causes_hide_each_other() -> None:
    known = {
        "learning rate ÷10": Member("learning rate ÷10", {"learning_rate": 0.1}),
        "batch ×4": Member("batch ×4", {"batch_size": 64}),
        "clip norm at 1": Member("clip norm at 1", {"clip_norm": 1.0}),
    }
    tried = two_causes.pairs(known)
    assert len(tried) == 3
    alone = {name: undone(name, 0.8, 0.95) for name in known}
    both = {pair.both.name: undone(pair.both.name, 0.7, 0.94) for pair in tried}
    assert two_causes.found(tried, {**alone, **both}) == []
    together = "learning rate ÷10 and batch ×4"
    found = two_causes.found(tried, {**alone, **both, together: undone(together, 0.1, 0.7)})
    assert {c.name for c in found} == {"learning_rate_too_high", "small_batch_noise"}
    assert all(c.confidence > 0.5 and not c.failed for c in found)
    # Calm that is bought with the loss proves nothing.
    assert not two_causes.found(tried, {**alone, **both, together: undone(together, 0.1, 1.3)})


def test_nothing_is_called_calm_while_a_lower_rate_is_calmer_and_better() -> None:
    jitters = QUIET._replace(fluctuation=0.033, rate_calms=3.0, rate_gain=1.064)
    assert verdict(jitters)[0].name == "learning_rate_too_high"
    # Better alone, or calmer alone, is no sign of a rate that is too high.
    assert verdict(jitters._replace(rate_calms=1.0))[0].name == "no_problem"
    assert verdict(jitters._replace(rate_gain=0.99))[0].name == "no_problem"


def test_what_few_validation_rows_cannot_tell_is_no_harm_of_an_average() -> None:
    worse = Ratio(1.15, 0.9, 1.4)
    assert not judge(around(0.2), worse, 0.5, error=0.01, averages=True)[0]
    accepted, why = judge(around(0.2), worse, 0.5, error=0.15, averages=True)
    assert accepted
    assert "too few to tell a loss of +15%" in why
    assert not judge(around(0.2), around(2.0), 0.5, error=0.15, averages=True)[0]
    accepted, why = judge(around(0.2), worse, 0.5, error=0.15)
    assert not accepted
    assert why == "calmer, but the validation rows are too few to tell a loss of +15%"


def summary(spread: float, loss: float, rise: float = 1.0) -> Summary:
    """Four seeds that are alike, whose training loss falls."""
    same = {name: np.ones(4) for name in Summary._fields}
    return Summary(**same)._replace(
        fluctuation=np.full(4, spread),
        num_spikes=np.zeros(4),
        rise=np.full(4, np.log(rise)),
        train_drift=np.full(4, -1.0),
        best=np.full(4, loss),
        best_rows=np.full((4, 1), loss),
    )


def test_a_calmer_cure_that_is_worse_is_said_to_overfit_or_to_have_stopped() -> None:
    cure, base = Member("b2 0.999", {"b2": 0.999}, "b2"), summary(0.5, 1.0)
    assert "stopped learning" in compare(cure, summary(0.01, 2.0), base).why
    overfits = compare(cure, summary(0.01, 2.0, rise=3.0), base)
    assert not overfits.accepted
    assert overfits.why == (
        "calmer, but it overfits then: ends 200% above its lowest, best loss +100.0%"
    )


@pytest.mark.parametrize(("rise", "kept"), [(1.5, ["calm"]), (1.0, [])])
def test_of_an_overfitting_base_that_learns_nothing_what_is_as_good_is_kept(
    rise: float, kept: list[str]
) -> None:
    calm, worse = remedy("calm", {}, "batch", 0.3, 0.99), remedy("worse", {}, "batch", 0.3, 1.1)
    cures = {r.name: r for r in (calm, worse)}
    assert list(that_learn(cures, summary(0.2, 1.06, rise), 1.0)) == kept
    assert list(that_learn(cures, summary(0.2, 0.5, rise), 1.0)) == ["calm", "worse"]


def test_no_average_is_recommended_that_few_rows_see_much_worse() -> None:
    rng = np.random.default_rng(0)
    average = Member("averaged weights 0.99", {"ema": True, "ema_decay": 0.99}, "average")
    noisy = np.exp(rng.normal(0, 0.5, (4, 32)))
    base = summary(0.5, 1.0)._replace(best_rows=np.ones((4, 32)))

    def worse(factor: float) -> Summary:
        return summary(0.1, factor)._replace(best_rows=factor * noisy / noisy.mean())

    assert compare(average, worse(1.2), base).accepted
    assert not compare(average, worse(2.0), base).accepted


def test_an_interval_over_rows_is_wider_than_one_over_seeds() -> None:
    rng = np.random.default_rng(0)
    before = np.exp(rng.normal(0, 0.01, (4, 1)) + rng.normal(0, 0.2, (1, 32)))
    after = before * np.exp(rng.normal(0, 0.1, (1, 32)))
    seeds = ratio_of_means(after.mean(1), before.mean(1))
    rows = ratio_of_means(after, before)
    assert rows.value == pytest.approx(seeds.value)
    assert rows.high - rows.low > 5 * (seeds.high - seeds.low)
    assert 0.07 < row_error(after, before) < 0.14
    assert row_error(after[:, :1], before[:, :1]) == 0


def test_every_cause_has_its_cures() -> None:
    assert set(diagnose.CURES_OF) == CAUSE


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "lion"])
def test_every_member_changes_something_and_is_valid(optimizer: str) -> None:
    base = complete({"optimizer": optimizer, "batch_size": 32, "b2": 0.999})
    everyone = [*members.ladder(base, 1000, 100), *members.cures(base, 1000, (0.5, 2.0))]
    names = [m.name for m in everyone]
    assert len(set(names)) == len(names)
    for member in everyone:
        complete(member.settings)
        changes = any(base[k] != v for k, v in member.settings.items())
        assert changes == (member.name != BASE)
        assert member.config(base).keys() == base.keys()
    assert any(m.family == "b2" for m in everyone) == (optimizer != "sgd")
    sizes = [m.settings["batch_size"] for m in everyone if m.family == "batch"]
    assert sizes == [128, 128]


def waves(num: int = 160) -> RowsTask:
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(num, 3)).astype(np.float32)
    targets = (np.sin(2 * inputs[:, 0]) + inputs[:, 1]).astype(np.float32)
    return RowsTask(inputs, targets, regression(), np.arange(num // 4))


@pytest.fixture(scope="module")
def population() -> Population:
    base = complete({**SMALL, "learning_rate": 0.01})
    return Population(waves(), base, num_epochs=4, evaluations=3)


def test_members_share_seeds_and_minibatches(population: Population) -> None:
    base = Member(BASE, {})
    twin, slow = Member("twin", {}), Member("slow", {"learning_rate": 0.001})
    known = population.num_trained
    found = population.train([base, twin, slow], [0, 1])
    again = population.train([base], [1])
    for name in ("loss", "train_loss", "resampled_loss"):
        first = [r.curves[name] for r in found[BASE]]
        np.testing.assert_array_equal(first[0], found["twin"][0].curves[name])
        np.testing.assert_array_equal(first[1], again[BASE][0].curves[name])
        assert not np.array_equal(first[0], first[1])
        assert not np.array_equal(first[0], found["slow"][0].curves[name])
    assert first[0].shape == (12, 32)
    assert population.num_trained == known + 7


def test_one_program_serves_every_cure(population: Population) -> None:
    everyone = members.cures(population.base, 120, (0.5, 2.0))
    before = population.train(everyone[:2], [0])
    compiled = population.compile_seconds
    found = population.train(everyone, [0])
    assert population.compile_seconds == compiled
    assert found.keys() == {m.name for m in everyone}
    assert all(np.isfinite(r[0].curves["loss"]).all() for r in found.values())
    name = everyone[0].name
    np.testing.assert_array_equal(before[name][0].curves["loss"], found[name][0].curves["loss"])


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_is_probed_in_a_population(optimizer: str) -> None:
    config = {**SMALL, "hidden_size": 16, "num_layers": 2, "learning_rate": 0.01}
    config["optimizer"] = optimizer
    population = Population(waves(48), complete(config), 1, evaluations=1)
    signature, rng = population.signature(population.base), np.random.default_rng(0)
    hparams = {k: jnp.asarray(v) for k, v in traced(population.base).items()}
    hparams["total_steps"] = jnp.asarray(10.0)
    inputs = jnp.asarray(rng.normal(size=(48, 3)), jnp.float32)
    batch = Batch(inputs, inputs.sum(1), jnp.ones(48, bool), jnp.asarray(2))
    model = population.make_model(signature, 1)

    def probed(key: jax.Array) -> dict[str, jax.Array]:
        params = model.init(key, batch.inputs, hparams, None, batch.depth)["params"]
        state = build([optimizer], hparams, signature.features, 1.0).init(params)
        trial = TrainState(params, state, jnp.asarray(3), *[()] * 7)
        return make_probe(signature, population.task.criterion, model)(trial, hparams, batch)

    found = jax.jit(jax.vmap(probed))(jax.random.split(jax.random.key(0), 2))
    assert np.isfinite(found["sharpness"]).all()
    assert found["sharpness"][0] != found["sharpness"][1]
    assert np.isfinite(found["threshold"]).all() == (optimizer != "lion")


def test_averages_that_are_the_same_are_one_cure() -> None:
    base = complete({**SMALL, "batch_size": 32})

    def averages(num_rows: int, num_epochs: int) -> list[str]:
        everyone = members.ladder(base, num_rows, num_epochs)
        return [m.name for m in everyone if m.family == "average"]

    epoch = "weights averaged over an epoch"
    # After 50 updates no decay is above 0.85, after 500 none above 0.983.
    assert averages(320, 10) == averages(3200, 10) == [epoch]
    assert averages(320, 100) == [epoch, "averaged weights 0.99"]
    assert averages(320, 1000) == [epoch, "averaged weights 0.99", "averaged weights 0.999"]


def test_no_warning_of_a_training_that_diverged(population: Population) -> None:
    (result,) = population.train([Member(BASE, {})], [0])[BASE]
    curves = dict(result.curves)
    for name in ("loss", "train_loss", "resampled_loss", "update_ratio"):
        curves[name] = np.where(np.arange(len(curves[name])) > 3, curves[name].T, np.inf).T
    found = summarize([result._replace(curves=curves)])
    assert found.best[0] > 0


def test_no_average_is_the_weights_themselves(population: Population) -> None:
    found = population.train([Member(BASE, {}), Member("zero", {"learning_rate": 0.0})], [0])
    loss = found["zero"][0].curves["loss"]
    np.testing.assert_array_equal(loss, loss[0])
    average = population.train([Member("average", {"ema": True, "ema_decay": 0.99})], [0])
    assert not np.array_equal(average["average"][0].curves["loss"], found[BASE][0].curves["loss"])
    np.testing.assert_array_equal(
        average["average"][0].curves["train_loss"], found[BASE][0].curves["train_loss"]
    )


def test_a_folder_that_cannot_be_written_is_refused_before_anything_is_trained(
    tmp_path: Path,
) -> None:
    with nobody(tmp_path), pytest.raises(MachineError, match="cannot write"):
        Finished(tmp_path / "stabilize-0", [], {})
    (tmp_path / "taken").write_bytes(b"a file")
    with pytest.raises(MachineError, match="cannot write"):
        Finished(tmp_path / "taken", [], {})
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


@pytest.mark.slow
def test_what_was_trained_before_a_stop_is_not_trained_again(
    population: Population, tmp_path: Path
) -> None:
    wanted = [Member(BASE, {}), Member("slow", {"learning_rate": 0.001})]

    def begin(path: Path | None) -> Population:
        one = jax.local_devices()[:1]
        return Population(
            waves(), dict(population.base), 4, evaluations=3, devices=one, directory=path
        )

    whole = begin(None).train(wanted, [0, 1], probe=True)
    stopped, waves_left = begin(tmp_path), [1]
    stopped.train(
        wanted, [0, 1], probe=True, go_on=lambda num: bool(waves_left and waves_left.pop())
    )
    first = stopped.num_trained
    assert 0 < len(list((tmp_path / FOLDER).iterdir())) < 4
    (tmp_path / FOLDER / "strange.safetensors").write_bytes(b"no tensors")
    again = begin(tmp_path)
    found = again.train(wanted, [0, 1], probe=True)
    assert again.num_trained == 4
    assert again.num_kept == first
    for name, results in whole.items():
        for mine, other in zip(found[name], results, strict=True):
            for kind in ("curves", "probed"):
                before, after = getattr(other, kind), getattr(mine, kind)
                assert before.keys() == after.keys()
                for key in before:
                    np.testing.assert_array_equal(before[key], after[key])
    other = Member("other", {"l2": 0.5})
    again.train([other, *wanted], [0], probe=True)
    assert again.num_trained - again.num_kept == 4 - first + 1


@pytest.mark.slow
def test_another_network_on_the_same_rows_is_another_training(tmp_path: Path) -> None:
    inputs, targets = lab.datasets.adding_problem(40, 6, seed=0)
    base = complete({"hidden_size": 4, "num_layers": 1, "batch_size": 10})
    for cell in ("vanilla", "gru", "vanilla"):
        task = RowsTask(inputs, targets, regression(), np.arange(10), make_rnn(cell))
        population = Population(task, base, 2, evaluations=4, directory=tmp_path)
        population.train([Member(BASE, {})], [0])
        first = not (tmp_path / "seen").exists()
        assert population.num_kept == (0 if cell == "gru" or first else 1)
        (tmp_path / "seen").touch()


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the command line leaves of a rate that is far too high."""
    folder = tmp_path_factory.mktemp("stabilize")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(240, 3))
    y = np.sin(2 * x[:, 0]) + x[:, 1] + rng.normal(0, 0.05, 240)
    rows = "\n".join(",".join(f"{v:.5f}" for v in (*r, t)) for r, t in zip(x, y, strict=True))
    (folder / "made.csv").write_text(f"a,b,c,y\n{rows}\n")
    lines = [f"{k} = {json.dumps(v)}" for k, v in {**SMALL, "learning_rate": 0.3}.items()]
    (folder / "base.toml").write_text("[hyperparameters]\n" + "\n".join(lines) + "\n")
    arguments = [str(folder / "made.csv"), "--target", "y", "--config", str(folder / "base.toml")]
    more = ["--epochs", "24", "--seeds", "3", "--out", str(folder / "out")]
    assert cli.run(["stabilize", *arguments, *more]) == 0
    return folder / "out"


def test_the_command_diagnoses_and_fixes(directory: Path) -> None:
    content = json.loads((directory / "diagnosis.json").read_text())
    assert content["schema"] == 1
    names = [c["name"] for c in content["causes"]]
    assert set(names) <= CAUSE
    assert "learning_rate_too_high" in names
    spread, best = content["fluctuation"], content["best_validation"]
    assert spread["after"] < spread["before"] / 3 or spread["after"] <= HEALTHY
    first = content["causes"][0]
    assert set(first["thresholds"]) == set(first["evidence"])
    assert {c["name"] for c in content["rejected"]}.isdisjoint(names)
    assert all("needed" in c["why"] for c in content["rejected"])
    assert spread["interval"][0] <= spread["interval"][1]
    assert best["after"] <= 1.02 * best["before"]
    by_name = {r["name"]: r for r in content["remedies"]}
    assert not by_name["learning rate ×0"]["accepted"]
    assert "stopped learning" in by_name["learning rate ×0"]["why"]
    for row in content["remedies"]:
        assert row["fluctuation_interval"][0] <= row["fluctuation_ratio"] * 1.0001
        assert row["fluctuation_ratio"] <= row["fluctuation_interval"][1] * 1.0001
    recommended = content["recommended"]
    assert recommended["changes"]
    assert recommended["hyperparameters"]["hidden_size"] == SMALL["hidden_size"]
    assert content["optax"].startswith("optax.chain(")
    assert recommended["name"] in content["sentence"]
    taken = {row["step"]: row for row in content["walk"] if row["loss_ratio"] is not None}
    assert len(taken) == 11  # a batch of 64 is more than a quarter of the rows
    assert taken["all of them together"]["change"].count("=") == 11
    slow = taken["learning rate ÷10 (0.3 → 0.03)"]
    assert slow["fluctuation_ratio"] == by_name["learning rate ÷10"]["fluctuation_ratio"]
    assert not any("all of them" in r["name"] for r in (recommended, recommended["confirmed"]))
    setting = content["setting"]
    assert 0 < setting["train_seconds"] < setting["seconds"]
    assert setting["idle_loss"] > best["after"]
    assert content["setting"]["num_trainings"] >= 3 * len(content["remedies"])
    assert not (directory / FOLDER).exists()


def test_the_page_shows_every_figure(directory: Path) -> None:
    page = (directory / "report.html").read_text()
    figures = json.loads(
        re.search(r'<script id="figures" type="application/json">(.*?)</script>', page, re.S)[1]
    )
    assert "The usual walk" in page
    assert "Why not another" in page
    assert set(figures) == {"before-after", "forest", "ladder", "norms"}
    for name in figures:
        assert f'id="plot-{name}"' in page
    assert cli.run(["report", str(directory)]) == 0
    assert (directory / "report.html").read_text() == page


def test_where_time_ends_what_was_trained_is_compared_on_fewer_seeds(
    population: Population,
) -> None:
    one = jax.local_devices()[:1]
    mine = Population(waves(), dict(population.base), 4, evaluations=3, devices=one)
    wanted = [Member(BASE, {}), Member("slow", {"learning_rate": 0.001})]
    for least, taken in ((2, {2}), (3, set()), (None, set())):
        waves_left = [1, 1]
        found = mine.train(
            wanted,
            [0, 1, 2],
            go_on=lambda num, left=waves_left: bool(left and left.pop()),
            least=least,
        )
        assert {len(results) for results in found.values()} == taken
    assert mine.wave_seconds > 0


def shortened(
    monkeypatch: pytest.MonkeyPatch, task: RowsTask, observed_first: bool = True, **options: Any
) -> tuple[Diagnosis, list[str]]:
    """Diagnosed on a machine on which half of the whole comparison fits."""
    monkeypatch.setattr(run, "OBSERVED_BY_ITSELF", 1 if observed_first else 4)
    base = {**SMALL, "learning_rate": 0.3, **options}
    whole = length.whole(Population(task, complete(base), num_epochs=20), None)
    monkeypatch.setattr(length, "USUAL_SECONDS", 0.5 * whole.seconds)
    monkeypatch.setattr(length, "MIN_UPDATES", 40)
    lines: list[str] = []
    return lab.stabilize(task, base, num_epochs=20, shorten=True, say=lines.append), lines


@pytest.mark.slow
def test_a_long_comparison_is_shortened(monkeypatch: pytest.MonkeyPatch) -> None:
    found, lines = shortened(monkeypatch, waves(400))
    assert found.setting["num_seeds"] == 2
    assert found.setting["num_epochs"] < 20
    assert found.setting["observed"]["num_epochs"] == 20
    assert found.main_cause != "no_problem"
    assert found.chosen is not None
    assert len(found.before.fluctuation) == length.NUM_SEEDS
    assert "would take about" in lines[1]
    assert json.dumps(found.to_dict(), allow_nan=False)


@pytest.mark.slow
def test_what_is_not_much_shorter_is_compared_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    found, lines = shortened(monkeypatch, waves(400), observed_first=False)
    assert 5 <= found.setting["num_epochs"] < 20
    assert found.setting["observed"] is None
    assert "to end in time" in lines[0]
    assert found.chosen is not None


@pytest.mark.slow
def test_a_long_comparison_is_spared_where_the_base_is_calm(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found, lines = shortened(monkeypatch, waves(400), learning_rate=1e-4)
    assert found.main_cause == "no_problem"
    assert found.setting["num_trainings"] == 2
    assert len(lines) == 1
    found.save(tmp_path)
    page = report.build_diagnosis(tmp_path).read_text()
    assert 'id="plot-norms"' in page
    assert 'id="plot-ladder"' not in page


@pytest.mark.slow
def test_what_shortened_trainings_do_not_show_is_compared_in_whole_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def shows(stages: Stages, seen: Diagnosis, calm: bool) -> bool:
        return stages.population.num_epochs == seen.setting["num_epochs"]

    monkeypatch.setattr(Stages, "_shows", shows)
    found, lines = shortened(monkeypatch, waves())
    assert any("does not show" in line for line in lines)
    assert found.setting["num_epochs"] == 20
    assert found.setting["num_seeds"] == length.NUM_SEEDS
    assert found.chosen is not None


def test_a_number_just_below_its_threshold_is_told_from_it() -> None:
    close = Cause("rate_never_decays", 0.49, {"decay_gain": 1.0196}, {"decay_gain": 1.02})
    assert close.why_not == "decay_gain 1.0196, at least 1.02 needed"
    far = Cause("overfitting", 0.3, {"overfit_rise": 1.0512}, {"overfit_rise": 1.12})
    assert far.why_not == "overfit_rise 1.05, at least 1.12 needed"


def test_the_length_follows_from_shapes_alone() -> None:
    small = Population(waves(), complete(SMALL), num_epochs=60)
    assert length.fitting(small, None, None) == length.whole(small, None)
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(20000, 300)).astype(np.float32)
    big_task = RowsTask(inputs, inputs[:, 0], regression(), np.arange(4000))
    big_base = complete({"hidden_size": 256, "num_layers": 4, "batch_size": 64})
    big = Population(big_task, big_base, num_epochs=30)
    found = length.fitting(big, None, None)
    assert found == length.fitting(big, None, None)
    assert 2 <= found.num_epochs < 30
    assert found.num_epochs * math.ceil(big.num_rows / 64) >= length.MIN_UPDATES
    assert found.seconds < length.whole(big, None).seconds / 4
    assert length.fitting(big, None, 3600.0).num_epochs > found.num_epochs
    assert length.fitting(big, 6, None).num_seeds == 6
    steps = inputs[:, :40].reshape(-1, 20, 2)  # the last number says which steps are real
    series = RowsTask(steps, inputs[:, 0], regression(), np.arange(4000), make_rnn("vanilla"))
    recurrent = Population(series, big_base, num_epochs=30)
    assert length.fitting(recurrent, None, None).num_epochs == 30


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "missing DATA, --target, --config"),
        (["{data}", "--target", "y"], "missing --config"),
        (["{data}", "--study", "x", "--trial", "0"], "exclude each other"),
        (["--study", "x"], "give the trial to stabilise: --trial ID"),
        (["--trial", "1"], "give --study DIR too"),
        (["{data}", "--target", "y", "--config", "none.toml"], "none.toml"),
        (["{data}", "--target", "y", "--config", "{bad}"], "Did you mean 'learning_rate'?"),
        (["{data}", "--target", "y", "--config", "{bad}", "--sedes", "2"], "'--seeds'"),
        (["{data}", "--seeds", "1"], "at least 2"),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    data, bad = tmp_path / "made.csv", tmp_path / "bad.toml"
    data.write_text("a,y\n" + "\n".join(f"{i},{i * 0.5}" for i in range(50)) + "\n")
    bad.write_text("[hyperparameters]\nlearning_rat = 0.1\n")
    given = [a.format(data=data, bad=bad) for a in arguments]
    assert cli.run(["stabilize", *given]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.slow
def test_a_recurrent_network_is_diagnosed_in_python() -> None:
    inputs, targets = lab.datasets.adding_problem(120, 6, seed=0)
    task = RowsTask(inputs, targets, regression(), np.arange(30), make_rnn("vanilla"))
    hparams = {"hidden_size": 6, "num_layers": 1, "learning_rate": 1e-3, "batch_size": 30}
    lines: list[str] = []
    found = lab.stabilize(task, hparams, num_epochs=8, num_seeds=2, say=lines.append)
    assert found.main_cause in CAUSE
    assert found.curves["base"].shape[0] == 2
    assert json.dumps(found.to_dict(), allow_nan=False)
    assert lines[0].startswith("observing")


def test_a_time_limit_after_the_base_leaves_what_it_shows() -> None:
    population = Population(waves(400), complete({**SMALL, "learning_rate": 0.3}), num_epochs=6)
    short = length.whole(population, 2)
    lines: list[str] = []
    seen = Stages(population, short, Clock(None, 0.0), lines.append).observe()
    over = Clock(1e-9, 0.0)
    found = Stages(population, short, over, lines.append, seen).run()
    assert (found.causes, found.before) == (seen.causes, seen.before)
    assert "the time limit left no cure confirmed" in found.sentence
    assert lines[-1] == "the time limit leaves what the configuration shows by itself"
    with pytest.raises(MachineError, match="give it longer"):
        Stages(population, short, over, lines.append).run()
