"""Analysis and refinement on made-up trials whose truth is known."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxopt_lab.analysis import (
    anova,
    best_of_k,
    boundary_findings,
    importance,
    infeasible_by_region,
    isolation,
    refine,
    summary,
)
from jaxopt_lab.analysis.refinement import PADDING
from jaxopt_lab.problems.mlp.hyperparameters import check_value
from jaxopt_lab.spaces.distributions import Choice, IntUniform, LogIntUniform, LogUniform, Uniform
from jaxopt_lab.spaces.space import SearchSpace

SPACE = SearchSpace(
    learning_rate=LogUniform(1e-4, 1.0),
    batch_size=Choice([32, 64, 128]),
    num_layers=IntUniform(2, 4),
    hidden_size=LogIntUniform(16, 256),
    dropout=Uniform(0.0, 0.5),
    optimizer=Choice(["adamw", "momentum"]),
    momentum=Uniform(0.5, 0.99).when(optimizer="momentum"),
    schedule="cosine",
)


def trials(num: int, score, diverges=lambda c: False, seed: int = 0, space: SearchSpace = SPACE):
    """Random configurations with the scores of a function."""
    rng = np.random.default_rng(seed)
    configs = space.from_unit(rng.random((num, space.num_dims)))
    infeasible = np.array([diverges(c) for c in configs], bool)
    scores = np.array([score(c) for c in configs]) + 0.01 * rng.normal(size=num)
    return configs, np.where(infeasible, np.nan, scores), infeasible


def log_rate(config) -> float:
    return math.log10(config["learning_rate"])


def test_importance_finds_what_matters() -> None:
    data = trials(120, lambda c: (log_rate(c) + 2) ** 2 + 0.4 * c["dropout"])
    found = anova(SPACE, *data)
    assert next(iter(found.shares)) == "learning_rate"
    assert found.shares["learning_rate"] > 0.8
    assert sum(found.shares.values()) + found.interactions == pytest.approx(1)
    assert found.fit > 0.7
    assert found == anova(SPACE, *data)


def test_importance_counts_divergence_and_conditions() -> None:
    data = trials(
        150,
        lambda c: 1 - c.get("momentum", 0.5) if c["optimizer"] == "momentum" else 0.3,
        lambda c: c["num_layers"] == 4,
    )
    shares = importance(SPACE, *data)
    assert next(iter(shares)) == "num_layers"
    assert set(list(shares)[1:3]) == {"momentum", "optimizer"}


def test_importance_sees_interactions() -> None:
    space = SearchSpace(dropout=Uniform(0, 1), b1=Uniform(0, 0.9))
    data = trials(300, lambda c: float((c["dropout"] > 0.5) != (c["b1"] > 0.45)), space=space)
    assert anova(space, *data).interactions > 0.6


@pytest.mark.parametrize("num", [0, 1, 3])
def test_few_trials_claim_nothing(num: int) -> None:
    data = trials(num, log_rate)
    assert set(importance(SPACE, *data).values()) == {0.0}
    assert [f for f in boundary_findings(SPACE, *data) if f.kind == "narrow"] == []
    json.dumps(summary(SPACE, *data), allow_nan=False)


def test_a_narrow_range_is_to_be_widened() -> None:
    findings = boundary_findings(SPACE, *trials(60, lambda c: -log_rate(c)))
    assert [(f.name, f.side, f.kind) for f in findings] == [("learning_rate", "high", "narrow")]
    assert findings[0].suggested == 10.0
    assert "too narrow" in findings[0].text


def test_a_diverging_region_is_not_to_be_widened() -> None:
    data = trials(60, lambda c: -log_rate(c), lambda c: c["learning_rate"] > 0.1)
    (finding,) = [f for f in boundary_findings(SPACE, *data) if f.name == "learning_rate"]
    assert (finding.side, finding.kind, finding.suggested) == ("high", "diverging", None)
    assert "infeasible" in finding.text


def test_a_hard_limit_cannot_be_widened() -> None:
    findings = boundary_findings(SPACE, *trials(80, lambda c: c["dropout"]))
    assert [(f.name, f.side, f.kind) for f in findings] == [("dropout", "low", "limit")]


def test_choices_continue_their_ratio() -> None:
    findings = boundary_findings(SPACE, *trials(80, lambda c: c["batch_size"]))
    assert [(f.name, f.suggested) for f in findings] == [("batch_size", 16)]


def test_no_finding_where_the_best_lie_inside() -> None:
    assert boundary_findings(SPACE, *trials(100, lambda c: (log_rate(c) + 2) ** 2)) == []


def test_infeasible_by_region_counts_every_active_trial() -> None:
    configs, _, infeasible = trials(90, log_rate, lambda c: c["learning_rate"] > 0.1)
    buckets = infeasible_by_region(SPACE, configs, infeasible)
    rates = [b for b in buckets if b.name == "learning_rate"]
    assert sum(b.num_trials for b in rates) == 90
    assert [b.num_infeasible for b in rates][:3] == [0, 0, 0]
    assert rates[3].share == 1
    momentum = [b for b in buckets if b.name == "momentum"]
    assert sum(b.num_trials for b in momentum) == sum("momentum" in c for c in configs)


def test_isolation_names_the_best_of_each_value() -> None:
    configs, scores, infeasible = trials(40, lambda c: c["batch_size"] / 100)
    found = isolation(SPACE, configs, scores, infeasible)["batch_size"]
    assert [i.bucket.label for i in found] == ["32", "64", "128"]
    for isolated in found:
        value = int(isolated.bucket.label)
        mine = [s for c, s in zip(configs, scores, strict=True) if c["batch_size"] == value]
        assert isolated.score == min(mine)


def test_best_of_k_falls_and_judges() -> None:
    rng = np.random.default_rng(0)
    easy = best_of_k(1 + 0.001 * rng.normal(size=64), np.zeros(64, bool))
    assert (np.diff(easy.median) <= 0).all()
    assert (easy.low <= easy.median).all()
    assert (easy.median <= easy.high).all()
    assert "enough" in easy.verdict
    hard = best_of_k(np.exp(rng.normal(size=12)), np.zeros(12, bool))
    assert "still improving" in hard.verdict
    assert "diverge" in best_of_k([1.0, *[math.nan] * 9], [False, *[True] * 9]).verdict
    assert "No trial" in best_of_k([None], [True]).verdict


def test_refine_goes_to_the_best() -> None:
    data = trials(80, lambda c: (log_rate(c) + 2) ** 2 + 20 * (c["batch_size"] > 32))
    found = refine(SPACE, *data)
    rates = found.parameters["learning_rate"]
    assert rates.low < 1e-2 < rates.high
    assert rates.high / rates.low < 1e3
    assert found.fixed == {"batch_size": 32, "schedule": "cosine"}
    assert found.parameters["momentum"].condition == SPACE.parameters["momentum"].condition


def test_refine_drops_what_can_no_longer_be_active() -> None:
    data = trials(80, lambda c: float(c["optimizer"] == "momentum"))
    found = refine(SPACE, *data)
    assert found.fixed["optimizer"] == "adamw"
    assert "momentum" not in found.names


def test_refine_widens_only_when_asked() -> None:
    data = trials(60, lambda c: -log_rate(c))
    assert refine(SPACE, *data).parameters["learning_rate"].high == 1.0
    assert refine(SPACE, *data, widen=True).parameters["learning_rate"].high == 10.0
    assert refine(SPACE, *data, widen=["learning_rate"]).parameters["learning_rate"].high == 10.0
    assert refine(SPACE, *data, widen=["dropout"]).parameters["learning_rate"].high == 1.0


def test_padding_leaves_the_old_range_only_when_asked() -> None:
    data = trials(12, lambda c: abs(log_rate(c) + 0.1) - c["dropout"] / 100)
    assert not [f for f in boundary_findings(SPACE, *data) if f.name == "learning_rate"]
    assert refine(SPACE, *data).parameters["learning_rate"].high == 1.0
    found = refine(SPACE, *data, widen=["learning_rate", "dropout"])
    assert 1.5 < found.parameters["learning_rate"].high <= 10 ** (4 * PADDING) + 0.1
    assert found.parameters["dropout"].low >= 0.0
    assert refine(SPACE, *data, widen=["dropout"]).parameters["learning_rate"].high == 1.0


def test_refine_stops_before_the_diverging_region() -> None:
    data = trials(100, lambda c: -log_rate(c), lambda c: c["learning_rate"] > 0.1)
    assert refine(SPACE, *data).parameters["learning_rate"].high < 0.3


@settings(max_examples=25)
@given(
    num=st.sampled_from([0, 1, 3, 10, 60]),
    weights=st.tuples(*[st.floats(-2, 2)] * 4),
    limit=st.floats(-4, 0.5),
    widen=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_refined_spaces_hold(num: int, weights, limit: float, widen: bool, seed: int) -> None:
    def score(c) -> float:
        values = (log_rate(c), c["num_layers"], c["dropout"] * 4, c["hidden_size"] / 64)
        return float(np.dot(weights, values))

    configs, scores, infeasible = trials(num, score, lambda c: log_rate(c) > limit, seed)
    found = refine(SPACE, configs, scores, infeasible, widen=widen)
    assert found == refine(SPACE, configs, scores, infeasible, widen=widen)
    drawn = found.from_unit(np.random.default_rng(seed).random((30, found.num_dims)))
    for config in drawn:
        for name, value in config.items():
            check_value(name, value)
            if not widen and name in SPACE.parameters:
                assert SPACE.parameters[name].contains(value)
    assert SearchSpace.from_dict(found.to_dict()) == found
    if np.isfinite(scores).any() and not widen:
        best = configs[int(np.nanargmin(scores))]
        assert all(d.contains(best[n]) for n, d in found.parameters.items() if n in best)


def test_a_thousand_trials_still_narrow() -> None:
    found = refine(SPACE, *trials(1_000, lambda c: (log_rate(c) + 2) ** 2))
    rates = found.parameters["learning_rate"]
    assert math.log10(rates.high / rates.low) < 2.1


def test_lengths_must_agree() -> None:
    configs, scores, infeasible = trials(5, log_rate)
    with pytest.raises(ValueError, match="per trial"):
        refine(SPACE, configs, scores[:-1], infeasible)
