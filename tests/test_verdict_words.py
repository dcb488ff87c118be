"""Verdicts, cures and the page say the same thing; the usual walk; nothing is trained here."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from jaxopt_lab.cli import stabilize as command
from jaxopt_lab.cli.console import make_console
from jaxopt_lab.problems.mlp.data import classification, regression
from jaxopt_lab.problems.mlp.hyperparameters import complete
from jaxopt_lab.problems.mlp.rows import RowsTask
from jaxopt_lab.stabilization import GeneralDiagnosis, members, walk
from jaxopt_lab.stabilization.compare import Idle, Remedy, compare
from jaxopt_lab.stabilization.diagnose import Evidence, verdict
from jaxopt_lab.stabilization.diagnosis import Diagnosis
from jaxopt_lab.stabilization.general import causes
from jaxopt_lab.stabilization.members import BASE, Member
from jaxopt_lab.stabilization.population import Population
from jaxopt_lab.stabilization.summary import Summary
from jaxopt_lab.stabilization.thresholds import HEALTHY

BASE_CONFIG = complete({"learning_rate": 1e-3, "batch_size": 32})
SEEDS = 3


def trained(spread: float, best: float, **more: float) -> Summary:
    """Three seeds that come to the same."""
    values = dict.fromkeys(Summary._fields, 0.0) | {"fluctuation": spread, "best": best}
    values |= {"final": best, "peak": spread, "noise_floor": 0.001, "norm_tail": 2.0} | more
    jitter = 1.0 + 0.001 * np.arange(SEEDS)
    columns = {name: value * jitter for name, value in values.items()}
    return Summary(**columns | {"best_rows": best * jitter[:, None]})


def evidence(**signs: float) -> Evidence:
    """Nothing is wrong but for the signs."""
    ones = dict.fromkeys(Evidence._fields, 1.0)
    quiet = {"fluctuation": 0.2, "noise_floor": 0.01, "num_spikes": 0.0, "b2_memory": 1000.0}
    quiet |= {"calm_limit": HEALTHY, "over_constant": 0.5, "batch_rows": 32.0}
    return Evidence(**ones | quiet | signs)


def diagnosis(
    found: Evidence, cures: Mapping[str, Summary], base: Summary, idle: float | None = None
) -> Diagnosis:
    """What `stabilize` would make of it, without a confirmed fix."""
    known = {m.name: m for m in members.ladder(BASE_CONFIG, 1000, 20)}
    mine = {name: known[name] for name in cures}
    setting = {"num_epochs": 20, "num_seeds": SEEDS, "num_trainings": 9, "num_kept": 0}
    setting |= {"seconds": 43.0, "compile_seconds": 30.0, "train_seconds": 10.0, "evaluations": 1}
    setting |= {"idle_loss": idle, "num_rows": 1000, "num_valid": 200}
    steps = walk.steps(walk.of_table(BASE_CONFIG, 1000))
    return Diagnosis(
        causes=verdict(found),
        evidence=found,
        base=BASE_CONFIG,
        summaries={BASE: base, **cures},
        members={BASE: known[BASE], **mine},
        remedies={n: compare(m, cures[n], base) for n, m in mine.items()},
        chosen=None,
        before=base,
        after=None,
        optax="",
        curves={"base": np.ones((SEEDS, 20)), "base_train": np.ones((SEEDS, 20))},
        norm_counts=np.zeros(64),
        walked=tuple(walk.walked(steps, known.values())),
        setting=setting,
    )


def printed(found: Diagnosis, capsys: pytest.CaptureFixture[str]) -> str:
    command._print(make_console(), found.to_dict())
    return capsys.readouterr().out


def test_nothing_wrong_never_stands_beside_a_better_cure(
    capsys: pytest.CaptureFixture[str],
) -> None:
    calm, cures = trained(0.033, 0.50), {"learning rate ÷10": trained(0.011, 0.482)}
    signs = {"fluctuation": 0.033, "rate_calms": 3.0, "rate_gain": 0.50 / 0.482}
    found = diagnosis(evidence(**signs), cures, calm)
    # 3.7 % are less than what names a cause, and more than nothing.
    assert found.main_cause == "no_problem"
    text = printed(found, capsys)
    assert "othing is wrong" not in text
    assert "learning rate ÷10 is 3.6% lower" in text
    assert "cure:" not in text
    # 6.4 % better and three times calmer is a rate that is too high.
    named = evidence(**signs | {"rate_gain": 1.064})
    assert verdict(named)[0].name == "learning_rate_too_high"
    # A cure that only calms what is calm is not offered either.
    same = diagnosis(evidence(**signs), {"learning rate ÷10": trained(0.011, 0.499)}, calm)
    text = printed(same, capsys)
    assert "Nothing is wrong" in text
    assert "cure:" not in text


def test_without_a_cause_none_is_named_and_no_end_is_0_percent_above() -> None:
    # padded-vowels of the suite: a shaking network, nothing at its threshold.
    signs = {"fluctuation": 0.119, "rate_gain": 0.68, "clip_gain": 1.0, "train_fall": 1.71}
    found = diagnosis(evidence(**signs), {}, trained(0.119, 1.0))
    assert found.main_cause == "no_single_cause"
    assert "12% off its trend; no single cause was found" in found.sentence
    assert "lowest" not in found.sentence
    assert "most likely" not in found.sentence


def test_a_named_cause_is_at_its_thresholds() -> None:
    found = diagnosis(evidence(overfit_rise=1.3, train_fall=1.2), {}, trained(0.2, 1.0))
    assert found.main_cause == "overfitting"
    assert "ends 30% above its lowest because" in found.sentence


RATE = {"rate_calms": 5.0, "rate_gain": 1.5}


def of_curves(**signs: float) -> GeneralDiagnosis:
    """A diagnosis of a problem that is no table, of the same."""
    ones = dict.fromkeys(causes.Evidence._fields, 1.0) | {"num_spikes": 0.0, "calm_limit": HEALTHY}
    found, table = causes.Evidence(**ones | signs), vars(diagnosis(evidence(), {}, trained(0.2, 1)))
    setting = {**table["setting"], "curve": "loss", "relative": True}
    mine = {"causes": causes.verdict(found), "evidence": found, "setting": setting}
    return GeneralDiagnosis(**table | mine)


def test_a_calm_curve_with_spikes_is_said_to_spike() -> None:
    spiked = {**RATE, "fluctuation": 0.011, "num_spikes": 2.3}
    words = "spikes (2 times in its later half, else 1.1% off its trend) because the learning rate"
    base = trained(0.011, 1.0)
    for found in (diagnosis(evidence(**spiked), {}, base), of_curves(**spiked)):
        assert words in found.sentence
    once = diagnosis(evidence(**spiked | {"num_spikes": 1.0}), {}, base)
    assert "spikes (1 time in its later half" in once.sentence
    # What shakes all the time is said to shake.
    shaken = diagnosis(evidence(**spiked | {"fluctuation": 0.2}), {}, base)
    assert "stands 20% off its trend" in shaken.sentence
    assert "spikes" not in shaken.sentence


def fixed(settings: Mapping[str, Any], spread: float) -> Diagnosis:
    """Of a rate that is too high, with a fix that leaves such a fluctuation of 0.2."""
    cures = {"learning rate ÷10": trained(0.05, 0.9)}
    found = diagnosis(evidence(**RATE), cures, trained(0.2, 1.0))
    after = trained(spread, 0.9)
    chosen = compare(Member("the fix", settings), after, found.before)
    return replace(found, chosen=chosen, after=after)


def test_a_fix_that_falls_short_is_said_to() -> None:
    words = "it helps, but nothing that was tried does more without harm"
    # Divided by 2, where by 3 is asked for.
    short, enough = fixed({"b1": 0.95}, 0.1), fixed({"b1": 0.95}, 0.05)
    assert not short.solved
    assert "Use the fix" in short.sentence
    assert words in short.sentence
    assert enough.solved
    assert words not in enough.sentence
    general = replace(of_curves(**RATE), chosen=short.chosen, after=short.after)
    assert words in general.sentence


def test_of_a_fix_that_ends_high_that_is_said() -> None:
    """What learns more may overfit, where the base learned too little for that."""
    words = "it ends 95% above its lowest then"
    calm = fixed({"b1": 0.95}, 0.05)
    assert calm.chosen is not None
    high = replace(calm, chosen=calm.chosen._replace(rise=1.95))
    assert words in high.sentence
    assert "above its lowest" not in calm.sentence
    assert words in replace(of_curves(**RATE), chosen=high.chosen, after=high.after).sentence
    rose = trained(0.2, 1.0, rise=np.log(1.95))
    assert words not in replace(high, before=rose).sentence


def test_an_average_hides_a_rate_unless_the_fix_lowers_it() -> None:
    words = "Averaging hides a rate that is too high: learning rate ÷10 has a best loss 10.0% lower"
    average = {"ema": True, "ema_decay": 0.99}
    assert words in fixed(average, 0.05).sentence
    lower = fixed({**average, "learning_rate": 1e-4}, 0.05)
    assert "hides" not in lower.sentence


def test_a_calm_loss_on_few_validation_rows_is_said_to_be_uncertain() -> None:
    rng = np.random.default_rng(0)

    def told(error: float) -> str:
        rows = np.exp(rng.normal(0, error, (1, 32))) * np.ones((SEEDS, 1))
        base = trained(0.02, 1.0)._replace(best_rows=rows)
        return diagnosis(evidence(fluctuation=0.02), {}, base).sentence

    found = told(0.25)
    assert found.startswith("Nothing is wrong")
    assert "; its 200 validation rows tell it to ±" in found
    share = float(found.split("±")[1].split("%")[0])
    # 1.96 standard errors of 25 %, as 32 resamples know them.
    assert 35 < share < 65
    assert "validation rows" not in told(0.02)


def test_a_cure_that_learns_nothing_is_none() -> None:
    base, flat = trained(0.5, 35.0), trained(0.01, 1.19)
    slow = Member("learning rate ÷100", {"learning_rate": 1e-5}, "learning rate")
    assert compare(slow, flat, base).accepted
    remedy = compare(slow, flat, base, Idle(1.2, "a constant prediction"))
    assert not remedy.accepted
    assert remedy.why == "learns nothing: best loss 1.19, a constant prediction has 1.2"
    assert compare(slow, trained(0.01, 0.9), base, Idle(1.2, "a constant")).accepted


def test_a_loss_of_other_units_is_not_held_against_a_constant() -> None:
    base = trained(0.4, 0.068)
    logs = Member("a log scale of the target", {}, "target", split=1, comparable=False)
    remedy = compare(logs, trained(0.06, 0.187), base, Idle(0.133, "a constant prediction"))
    assert remedy.accepted
    assert "learns nothing" not in remedy.why
    tail = evidence(fluctuation=0.4, log_calms=6.5, tail_share=0.08)
    found = diagnosis(tail, {}, base)
    known = {**found.members, logs.name: logs}
    found = replace(found, members=known, chosen=remedy, after=trained(0.06, 0.187))
    assert found.main_cause == "heavy_tailed_target"
    assert "Use a log scale of the target: on fresh seeds the fluctuation falls" in found.sentence
    assert "not compared" in found.sentence
    assert "the same" not in found.sentence


def test_a_loss_without_outliers_is_compared_as_a_share_of_a_constants() -> None:
    # One of the validation rows makes up the loss, and hides what all others tell.
    rng = np.random.default_rng(0)
    rows = 10.0 * np.exp(rng.normal(0, 1.0, (1, 32))) * np.ones((SEEDS, 1))
    base = trained(0.004, 10.0)._replace(best_rows=rows)
    few = 0.3 * np.exp(rng.normal(0, 0.1, (1, 32))) * np.ones((SEEDS, 1))
    clean = trained(0.010, 0.3)._replace(best_rows=few)
    member = Member("without 2 outlying rows", {}, "outliers", split=1, comparable=False)
    assert not compare(member, clean, base).accepted  # it is no calmer
    remedy = compare(member, clean, base, constants=(1.0, 13.0))
    assert remedy.accepted
    assert remedy.loss.value == pytest.approx(few.mean() / (rows.mean() / 13.0), rel=0.01)
    assert remedy.why.startswith("is calm, and it leaves 30% of a constant prediction's loss")
    # No better than a constant, however calm.
    idle = trained(0.001, 0.99)._replace(best_rows=np.full((SEEDS, 32), 0.99))
    worse = compare(member, idle, base, constants=(1.0, 13.0))
    assert not worse.accepted
    assert worse.why.startswith("calmer, but it leaves 99%")
    found = diagnosis(evidence(fluctuation=0.01, outliers_gain=2.5, outliers_calm=0.4), {}, base)
    known = {**found.members, member.name: member}
    found = replace(found, members=known, chosen=remedy, after=clean)
    assert found.main_cause == "outliers"
    assert "Train without 2 outlying rows: on fresh seeds the curve is calm" in found.sentence
    assert found.sentence.count("of a constant prediction's loss") == 1
    shook = replace(found, before=trained(0.02, 10.0)).sentence
    assert "falls from 2.0% to 1.0%; it leaves 30% of a constant prediction's loss" in shook


def test_a_curve_that_shakes_and_rises_is_said_to_do_both() -> None:
    signs = {"overfit_rise": 1.5, "train_fall": 1.5, "rate_calms": 4.0, "rate_end": 1.4}
    found = diagnosis(evidence(**signs), {}, trained(0.2, 1.0))
    assert [cause.name for cause in found.causes[:2]] == ["learning_rate_too_high", "overfitting"]
    assert "stands 20% off its trend and ends 50% above its lowest because" in found.sentence
    calm = diagnosis(evidence(**signs | {"fluctuation": 0.01}), {}, trained(0.01, 1.0))
    assert calm.main_cause == "overfitting"
    assert calm.sentence.startswith("The validation loss ends 50% above its lowest because")


def test_what_frees_a_dead_network_need_not_be_calmer() -> None:
    dead = trained(1e-6, 1.0)
    scaled = Member("standardised inputs", {}, "scale", split=1)
    assert compare(scaled, trained(0.01, 0.1), dead).accepted
    assert compare(scaled, trained(0.01, 0.1), dead).reaches_goal
    assert not compare(scaled, trained(0.01, 0.9), dead).accepted
    assert not compare(scaled, trained(0.3, 0.1), dead).accepted
    # Together with another cure it keeps its rows.
    assert members.combined(scaled, Member("b2", {"b2": 0.9999})).split == 1


def test_a_base_that_learned_nothing_is_told_so() -> None:
    calm, sign = trained(0.01, 1.0), evidence(fluctuation=0.01)
    nothing = diagnosis(sign._replace(over_constant=1 / 1.01), {}, calm, idle=1.01)
    assert nothing.main_cause == "learns_nothing"
    assert not nothing.solved
    assert "it learns nothing: its best loss is 1, and a constant prediction has 1.01" in (
        nothing.sentence
    )
    assert "othing is wrong" not in nothing.sentence
    assert "learns nothing" not in diagnosis(sign, {}, calm, idle=2.0).sentence
    assert diagnosis(sign, {}, calm).sentence.startswith("Nothing is wrong")


def task(targets: np.ndarray, criterion: Any) -> Population:
    inputs = np.zeros((len(targets), 2), np.float32)
    config = complete({"hidden_size": 4, "num_layers": 1, "batch_size": 8})
    return Population(RowsTask(inputs, targets, criterion, np.arange(10)), config, 1)


def test_the_constant_prediction_is_that_of_the_training_rows() -> None:
    targets = np.random.default_rng(0).normal(3.0, 2.0, 40).astype(np.float32)
    expected = np.mean((targets[:10] - targets[10:].mean()) ** 2)
    assert task(targets, regression()).constant_loss() == pytest.approx(expected, rel=1e-5)
    labels = np.asarray([0, 1, 1, 2] * 10, np.int32)
    shares = np.bincount(labels[10:], minlength=4) / 30
    expected = -np.log(shares[labels[:10]]).mean()
    # A class that nobody has seen changes nothing but its own, tiny share.
    found = task(labels, classification(4)).constant_loss()
    assert found == pytest.approx(expected, abs=0.02)


def test_the_walk_is_the_usual_one_in_order() -> None:
    steps = walk.steps(walk.of_table(BASE_CONFIG | {"b2": 0.999}, 1000))
    settings = [step.settings for step in steps]
    assert settings[0]["learning_rate"] == pytest.approx(1e-4)
    assert settings[1]["learning_rate"] == pytest.approx(1e-5)
    plateau = {"plateau_factor": 0.2, "plateau_patience": 5, "plateau_floor": pytest.approx(0.01)}
    assert settings[2] == {"schedule": "reduce_on_plateau", **plateau}
    assert settings[3:6] == [{"b2": 0.9995}, {"clip_value": 1.0}, {"clip_norm": 1.0}]
    assert settings[6:8] == [{"batch_size": 64}, {"batch_size": 128}]
    # Keras adds 0.01 * sum w^2, whose gradient is 0.02 w: weight decay 0.02 in torch's sense.
    assert settings[8:10] == [{"dropout": 0.3}, {"l2": 0.02}]
    assert settings[10]["plateau_floor"] == pytest.approx(0.1)
    assert settings[10]["learning_rate"] == pytest.approx(1e-4)
    whole = settings[11]
    assert {k: whole[k] for k in settings[10]} == settings[10]
    rest = {"b2": 0.9995, "clip_value": 1.0, "clip_norm": 1.0, "batch_size": 128}
    assert whole == {**settings[10], **rest, "dropout": 0.3, "l2": 0.02}


def test_steps_that_the_base_has_taken_are_left_out_with_why() -> None:
    base = BASE_CONFIG | {"optimizer": "sgd", "clip_norm": 0.5, "dropout": 0.4, "batch_size": 200}
    left = {s.title: s.why for s in walk.steps(walk.of_table(base, 1000)) if not s.settings}
    assert left == {
        "b2 0.9995": "the optimizer has none",
        "clip norm at 1": "it is 0.5 already",
        "batch ×2 (200 → 400)": "more than a quarter of the 1,000 rows",
        "batch ×4 (200 → 800)": "more than a quarter of the 1,000 rows",
        "dropout 0.3": "it is 0.4 already",
    }


def test_a_step_is_trained_once_and_only_cures_are_recommended() -> None:
    base = complete({"learning_rate": 1e-3, "batch_size": 32, "b2": 0.999})
    known = [*members.ladder(base, 1000, 20), *members.cures(base, 1000, (0.5, 2.0))]
    rows = walk.walked(walk.steps(walk.of_table(base, 1000)), known)
    own = walk.missing(rows)
    assert len(own) == 4
    assert not any(member.is_cure for member in own)
    assert not any(member.settings == other.settings for member in own for other in known)
    assert all(row.member is not None for row in rows)


def test_the_walk_is_a_table_with_what_each_step_did() -> None:
    cures = {"learning rate ÷10": trained(0.05, 0.9)}
    found = diagnosis(evidence(rate_calms=4.0, rate_gain=1.1), cures, trained(0.2, 1.0))
    table = found.walk
    assert len(table) == 12
    first = table.iloc[0]
    assert first["step"] == "learning rate ÷10 (0.001 → 0.0001)"
    assert first["fluctuation_ratio"] == pytest.approx(0.25, rel=0.01)
    assert first["loss_low"] <= first["loss_ratio"] == pytest.approx(0.9, rel=0.01)
    assert first["outcome"] == found.remedies["learning rate ÷10"].why
    assert table.iloc[1]["outcome"] == "not tried: no time was left"
    assert np.isnan(table.iloc[1]["loss_ratio"])
    assert isinstance(found.remedies["learning rate ÷10"], Remedy)
