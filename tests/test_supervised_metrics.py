"""Metrics are scikit-learn's, of the same name, by rows or of all rows."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn import metrics as reference

from jaxopt_lab.core.errors import UserError
from jaxopt_lab.problems.supervised import metrics
from jaxopt_lab.problems.supervised.losses import check_labels

_random = np.random.default_rng(0)
_LABELS = _random.integers(0, 4, 60)
_LOGITS = (_random.standard_normal((60, 4)) + 1.5 * np.eye(4)[_LABELS]).astype(np.float32)
_SIDES = _random.integers(0, 2, 60)
# Rounded, so that there are ties.
_SCORES = np.round(_random.standard_normal(60) + _SIDES, 1).astype(np.float32)
_WEIGHTS = np.where(_random.random(60) < 0.3, 0.0, _random.random(60)).astype(np.float32)
_VALUES = _random.standard_normal(60).astype(np.float32)
_SOFT = np.exp(_LOGITS) / np.exp(_LOGITS).sum(1, keepdims=True)

weightings = pytest.mark.parametrize("weights", [np.ones(60, np.float32), _WEIGHTS])


@weightings
def test_metrics_of_all_rows_are_scikit_learns(weights: np.ndarray) -> None:
    most, side = _LOGITS.argmax(1), _SCORES > 0
    cases = [
        (metrics.f1, _SCORES, _SIDES, reference.f1_score(_SIDES, side, sample_weight=weights)),
        (
            metrics.f1_macro,
            _LOGITS,
            _LABELS,
            reference.f1_score(_LABELS, most, average="macro", sample_weight=weights),
        ),
        (
            metrics.balanced_accuracy,
            _LOGITS,
            _LABELS,
            reference.balanced_accuracy_score(_LABELS, most, sample_weight=weights),
        ),
        (
            metrics.auc,
            _SCORES[:, None],
            _SIDES,
            reference.roc_auc_score(_SIDES, _SCORES, sample_weight=weights),
        ),
        (
            metrics.roc_auc,
            _LOGITS,
            _LABELS,
            reference.roc_auc_score(_LABELS, _SOFT, multi_class="ovr", sample_weight=weights),
        ),
        (
            metrics.r2,
            _SCORES[:, None],
            _VALUES,
            reference.r2_score(_VALUES, _SCORES, sample_weight=weights),
        ),
        (
            metrics.root_mean_squared_error,
            _SCORES,
            _VALUES,
            reference.root_mean_squared_error(_VALUES, _SCORES, sample_weight=weights),
        ),
    ]
    for function, outputs, targets, expected in cases:
        assert metrics.is_over_all_rows(function)
        found = function(jnp.asarray(outputs), jnp.asarray(targets), jnp.asarray(weights))
        np.testing.assert_allclose(found, expected, rtol=2e-5, err_msg=function.__name__)


def test_metrics_of_rows_are_scikit_learns() -> None:
    pairs = jnp.stack([jnp.zeros(60), jnp.asarray(_SCORES)], 1)
    cases = [
        (metrics.accuracy, _LOGITS, _LABELS,
         reference.accuracy_score(_LABELS, _LOGITS.argmax(1))),
        (metrics.accuracy, _SCORES, _SIDES, reference.accuracy_score(_SIDES, _SCORES > 0)),
        (metrics.accuracy, pairs, _SIDES, reference.accuracy_score(_SIDES, _SCORES > 0)),
        (metrics.log_loss, _LOGITS, _LABELS, reference.log_loss(_LABELS, _SOFT)),
        (metrics.log_loss, _SCORES, _SIDES,
         reference.log_loss(_SIDES, 1 / (1 + np.exp(-_SCORES)))),
        (metrics.top_k_accuracy(2), _LOGITS, _LABELS,
         reference.top_k_accuracy_score(_LABELS, _LOGITS, k=2)),
        (metrics.squared_error, _SCORES[:, None], _VALUES,
         reference.mean_squared_error(_VALUES, _SCORES)),
        (metrics.absolute_error, _SCORES, _VALUES,
         reference.mean_absolute_error(_VALUES, _SCORES)),
        (metrics.squared_error, _LOGITS, _LOGITS + 2.0, 4.0),
    ]  # fmt: skip
    for function, outputs, targets, expected in cases:
        assert not metrics.is_over_all_rows(function)
        found = function(jnp.asarray(outputs), jnp.asarray(targets))
        assert found.shape == (60,)
        np.testing.assert_allclose(found.mean(), expected, rtol=1e-5, err_msg=function.__name__)


def test_not_a_number_wins_no_area() -> None:
    scores = jnp.asarray([0.1, jnp.nan, 0.9])
    labels, ones = jnp.asarray([0, 0, 1]), jnp.ones(3)
    assert jnp.isnan(metrics.auc(scores, labels, ones))
    assert metrics.auc(scores, labels, jnp.asarray([1.0, 0.0, 1.0])) == 1.0
    assert jnp.isnan(metrics.auc(scores[:1], labels[:1], ones[:1]))  # one class only


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UserError, match=r"outputs \[3, 2\] and targets \[3\] must have one shape"):
        metrics.squared_error(jnp.zeros((3, 2)), jnp.zeros(3))


def test_a_softmax_over_one_output_is_refused() -> None:
    softmax = optax.softmax_cross_entropy_with_integer_labels
    with pytest.raises(UserError, match=r"of one output is 0 whatever it is.* 2 outputs"):
        check_labels(softmax, np.zeros((4, 1)), (0, 1))
    check_labels(softmax, np.zeros((4, 2)), (0, 1))
    check_labels(metrics.accuracy, np.zeros((4, 1)), (0, 1))
