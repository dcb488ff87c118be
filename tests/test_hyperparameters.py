"""Limits, types, names and features of the hyperparameters."""

import math
from typing import Any

import numpy as np
import pytest

from jaxopt_lab.core.errors import UserError
from jaxopt_lab.problems.mlp import hyperparameters
from jaxopt_lab.problems.mlp.hyperparameters import (
    REGISTRY,
    check_value,
    complete,
    features_of,
    lookup,
    traced,
)

names = pytest.mark.parametrize("name", REGISTRY)


@names
def test_a_default_is_allowed_and_documented(name: str) -> None:
    spec = lookup(name)
    assert check_value(name, spec.default) == spec.default
    assert spec.doc
    assert spec.kind in ("category", "bool", "int", "float")


@names
def test_limits_are_kept(name: str) -> None:
    spec = lookup(name)
    if spec.kind in ("category", "bool"):
        return
    for end, exclusive, outside in (
        (spec.low, spec.exclusive_low, -math.inf),
        (spec.high, spec.exclusive_high, math.inf),
    ):
        if not math.isfinite(end):
            continue
        if exclusive:
            with pytest.raises(UserError, match=f"{name} = .* is outside"):
                check_value(name, end)
        else:
            assert check_value(name, end) == end
        beyond = end + math.copysign(1, outside)
        with pytest.raises(UserError, match=f"{name} = .* is outside"):
            check_value(name, beyond)


@names
@pytest.mark.parametrize("wrong", ["1e-3x", None, [1], math.nan])
def test_a_wrong_type_is_refused_by_name(name: str, wrong: Any) -> None:
    with pytest.raises(UserError, match=name):
        check_value(name, wrong)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("optimizer", "adamww", "unknown value 'adamww'. Did you mean 'adamw'. Choose from: sgd"),
        ("batch_size", 32.5, "batch_size must be a whole number, got 32.5"),
        ("batch_size", math.inf, "batch_size must be a whole number, got inf"),
        ("batch_size", math.nan, "batch_size must be a whole number, got nan"),
        ("batch_size", True, "batch_size must be a number, got True"),
        ("ema", 1, "ema must be true or false, got 1"),
        ("dropout", 1.0, r"dropout = 1 is outside \[0, 1\)"),
        ("eps", 0.0, r"eps = 0 is outside \(0, 1\]"),
    ],
)
def test_the_message_says_what_is_right(name: str, value: Any, message: str) -> None:
    with pytest.raises(UserError, match=message.replace("?", r"\?")):
        check_value(name, value)


def test_values_come_back_as_plain_python() -> None:
    assert type(check_value("batch_size", np.float64(32.0))) is int
    assert type(check_value("learning_rate", np.float32(0.5))) is float
    assert type(check_value("learning_rate", 1)) is float
    assert check_value("clip_norm", math.inf) == math.inf


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(UserError, match=r"'learning_rte'. Did you mean 'learning_rate'\? Known:"):
        lookup("learning_rte")
    with pytest.raises(UserError, match="unknown hyperparameter"):
        complete({"zzz": 1})


def test_complete_fills_in_defaults() -> None:
    full = complete({"dropout": 0.25})
    assert full["dropout"] == 0.25
    assert {k: v for k, v in full.items() if k != "dropout"} == {
        k: s.default for k, s in REGISTRY.items() if k != "dropout"
    }
    assert complete(full) == full


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, set()),
        ({"dropout": [0.0]}, set()),
        ({"dropout": [0.0, 0.5]}, {"dropout"}),
        ({"clip_norm": [math.inf], "clip_value": [1.0]}, {"clip_value"}),
        ({"l1": [1e-3], "l2": [1e-3], "weight_decay": [0.1]}, {"l1", "l2", "weight_decay"}),
        ({"schedule": ["constant"]}, set()),
        ({"schedule": ["constant", "cosine", "step"]}, {"cosine", "step"}),
        ({"warmup_fraction": [0.0, 0.1]}, {"warmup_fraction"}),
        ({"initialization": ["orthogonal"]}, {"orthogonal"}),
    ],
)
def test_features_are_those_that_some_value_switches_on(
    values: dict[str, Any], expected: set[str]
) -> None:
    assert features_of(values) == expected


def test_traced_holds_the_dynamic_values_and_shapes() -> None:
    arrays = traced(complete({"schedule": "cosine", "activation": "gelu", "hidden_size": 48}))
    for name, spec in REGISTRY.items():
        wanted = not spec.static or name in hyperparameters.TRACED_STATIC
        assert (name in arrays) == wanted
    assert all(a.dtype in (np.float32, np.int32) and a.shape == () for a in arrays.values())
    assert arrays["schedule"] == hyperparameters.SCHEDULES.index("cosine")
    assert arrays["activation"] == hyperparameters.ACTIVATIONS.index("gelu")
    assert arrays["hidden_size"] == 48


def test_a_floor_as_a_rate_stands_alone() -> None:
    """Neither does the default share of the rate lie above it, nor is a given one forgotten."""
    assert complete({})["plateau_floor"] == 0.01
    assert complete({"min_lr": 1e-6})["plateau_floor"] == 0.0
    assert complete({"min_lr": 1e-6, "plateau_floor": 0.1})["plateau_floor"] == 0.1
