"""The parts of the core by themselves: combinators, hyperparameters, keys, controls, objectives."""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized

from jaxopt_lab.core import keys
from jaxopt_lab.core.controls import Clock, packed
from jaxopt_lab.core.engine import Engine
from jaxopt_lab.core.errors import UserError
from jaxopt_lab.core.hparams import Hparams, altered
from jaxopt_lab.core.objective import Objective
from jaxopt_lab.core.trainable import Guarded, Shared, Trainable, guarded

ZERO = np.zeros((), np.int32)
SHARED = Shared(jax.random.key(0), ZERO, ZERO + 9, ZERO, ())


def growing() -> Trainable:
    """A number that a factor multiplies; a key rides along."""

    def init(key: Any, hparams: Any) -> Any:
        return {"x": jnp.ones(()), "key": key}

    def step(state: Any, hparams: Any, shared: Shared) -> Any:
        x = jnp.asarray(state["x"]) * hparams["factor"]
        return {**state, "x": x}, {"loss": x, "count": shared.unit}

    return Trainable(init, step)


class GuardedVariants(chex.TestCase):
    """With and without `jit`, on the host and on the device."""

    @chex.all_variants(with_pmap=False)
    def test_a_trial_freezes_at_the_first_value_that_is_not_finite(self) -> None:
        trainable = guarded(growing(), "loss")
        step = self.variant(trainable.step)
        hparams = Hparams({"factor": jnp.float32(1e20)})
        state = trainable.init(jax.random.key(1), hparams)
        seen = []
        for unit in range(4):
            state, metrics = step(state, hparams, SHARED._replace(unit=ZERO + unit))
            seen.append(float(metrics["loss"]))
        np.testing.assert_array_equal(np.isfinite(seen), [True, False, False, False])
        assert int(state.diverged_at) == 1
        assert float(state.last) == pytest.approx(1e20)
        assert float(state.inner["x"]) == pytest.approx(1e20)
        chex.assert_trees_all_equal(
            jax.random.key_data(state.inner["key"]), jax.random.key_data(jax.random.key(1))
        )
        chex.assert_tree_all_finite({"x": state.inner["x"], "last": state.last})

    @chex.all_variants(with_pmap=False)
    def test_a_finite_trial_is_the_unguarded_one(self) -> None:
        plain, trainable = growing(), guarded(growing(), "loss")
        hparams = Hparams({"factor": jnp.float32(1.5)})
        state = trainable.init(jax.random.key(1), hparams)
        alone = plain.init(jax.random.key(1), hparams)
        step = self.variant(trainable.step)
        for unit in range(3):
            shared = SHARED._replace(unit=ZERO + unit)
            state, metrics = step(state, hparams, shared)
            alone, wanted = plain.step(alone, hparams, shared)
            chex.assert_trees_all_close(dict(metrics), dict(wanted), rtol=1e-6)
        assert int(state.diverged_at) == -1
        assert isinstance(state, Guarded)


class HparamsVariants(chex.TestCase, parameterized.TestCase):
    """Hyperparameters pass any transformation."""

    @chex.all_variants(with_pmap=False)
    def test_traced_values_are_leaves_and_static_ones_stay_python(self) -> None:
        def read(hparams: Any) -> Any:
            assert hparams["width"] == [2, 3]
            assert {"rate": 0, "other": 1, **hparams}["other"] == 1
            return hparams.rate * len(hparams["width"])

        hparams = Hparams({"rate": np.float32(0.5)}, {"width": [2, 3]})
        assert float(self.variant(read)(hparams)) == 1.0
        stacked = jax.tree.map(lambda x: np.stack([x, 2 * x]), hparams)
        np.testing.assert_array_equal(jax.vmap(read)(stacked), [1.0, 2.0])


def test_hyperparameters_cannot_be_changed_and_name_what_there_is() -> None:
    hparams = Hparams({"rate": 0.5})
    with pytest.raises(TypeError, match="cannot be changed"):
        hparams.rate = 1.0
    with pytest.raises(KeyError, match="no hyperparameter 'rat' in the space; it has: rate"):
        hparams["rat"]
    with pytest.raises(AttributeError):
        _ = hparams.rat
    assert hparams.get("rat", 3) == 3


def test_a_copy_has_other_traced_values_and_the_same_static_ones() -> None:
    hparams = Hparams({"rate": 0.5, "more": 1.0}, {"width": 3})
    assert dict(altered(hparams, {"rate": 0.1, "more": None})) == {"rate": 0.1, "width": 3}
    assert dict(hparams) == {"rate": 0.5, "more": 1.0, "width": 3}


def test_static_values_tell_structures_apart() -> None:
    def structure(width: Any) -> Any:
        return jax.tree.structure(Hparams({"rate": 0.5}, {"width": width}))

    assert structure([4]) == structure([4])
    assert structure([4]) != structure([5])


@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_keys_leave_a_program_as_arrays_and_come_back(impl: str) -> None:
    tree = {"key": jax.random.split(jax.random.key(3, impl=impl), 4), "x": jnp.arange(4)}
    kinds = keys.kinds_of(tree)
    data = keys.to_data(tree)
    assert {leaf.dtype.name for leaf in jax.tree.leaves(data)} <= {"uint32", "int32"}
    back = keys.from_data(data, kinds)
    assert back["key"].dtype == tree["key"].dtype
    chex.assert_trees_all_equal(keys.to_data(back), data)


def test_hyperparameters_travel_by_dtype() -> None:
    values = {
        "rate": np.asarray([0.1, 0.2], np.float32),
        "layers": np.asarray([1, 2], np.int32),
        "flag": np.asarray([True, False]),
        "decay": np.asarray([0.0, 1.0], np.float32),
    }
    found = packed(values)
    assert len(found.columns) == 3
    back = found.unpacked()
    for name, value in values.items():
        np.testing.assert_array_equal(back[name], value)
        assert back[name].dtype == value.dtype
    assert packed(found) is found


def test_no_hyperparameter_at_all_trains() -> None:
    def step(x: Any, hparams: Any, shared: Shared) -> Any:
        return 0.5 * x, {"loss": x}

    trainable = Trainable(lambda key, hparams: jax.random.normal(key), step)
    engine = Engine(trainable, (), 2, 0, jax.local_devices()[:1])
    one = np.ones(1, np.int32)
    clock = Clock(0 * one, 0 * one, 0 * one, 3 * one, 3 * one)
    state = engine.init(np.asarray([0, 1]), clock, {})
    _, curves = engine.advance(state, clock, {})
    loss = np.asarray(curves.metrics["loss"])
    np.testing.assert_allclose(loss[:, 1], 0.5 * loss[:, 0])
    assert np.isnan(loss[:, 3:]).all()


def test_a_unit_is_traced_once_however_it_is_asked_for() -> None:
    chex.clear_trace_counter()
    step = chex.assert_max_traces(growing().step, n=1)
    trainable = growing()._replace(step=step)
    engine = Engine(trainable, (), 2, 0, jax.local_devices()[:1])
    one = np.ones(1, np.int32)
    values = {"factor": np.asarray([0.5, 1.5], np.float32)}
    for units in (1, 3):
        clock = Clock(0 * one, 0 * one, 0 * one, units * one, 3 * one)
        engine.advance(engine.init(np.asarray([0, 1]), clock, values), clock, values)
    other = {"factor": np.asarray([0.7, 1.1], np.float32)}
    engine.advance(engine.init(np.asarray([5, 6]), clock, other), clock, other)


def test_states_with_keys_are_restored_and_go_on() -> None:
    """Typed keys of a state are numbers where it is stored."""

    def init(key: Any, hparams: Any) -> Any:
        return key, jnp.zeros((), jnp.bfloat16)

    def step(state: Any, hparams: Any, shared: Shared) -> Any:
        key, now = jax.random.split(state[0])
        x = state[1] + jax.random.normal(now, (), jnp.bfloat16)
        return (key, x), {"loss": x.astype(jnp.float32)}

    engine = Engine(Trainable(init, step), (), 2, 0, jax.local_devices()[:1])
    one = np.ones(1, np.int32)
    clock = Clock(0 * one, 0 * one, 0 * one, 4 * one, 4 * one)
    begun = engine.init(np.asarray([0, 1]), clock, {})
    _, whole = engine.advance(begun, clock, {})
    half, _ = engine.advance(begun, clock._replace(num_units=2 * one), {})
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(jax.device_get(half))]
    states = [[np.asarray(leaf[slot]) for leaf in leaves] for slot in range(2)]
    restored = engine.restore(states, clock, {})
    _, rest = engine.advance(restored, clock._replace(unit=2 * one, num_units=2 * one), {})
    np.testing.assert_array_equal(whole.metrics["loss"][:, 2:4], rest.metrics["loss"][:, :2])


@pytest.mark.parametrize(
    ("direction", "at", "unit"),
    [
        ("minimize", "last", 3),
        ("minimize", "best", 2),
        ("maximize", "best", 0),
    ],
)
def test_the_unit_that_counts(direction: Any, at: Any, unit: int) -> None:
    curve = np.asarray([3.0, np.nan, 1.0, 2.0])
    assert Objective("loss", direction, at).best_unit(curve) == unit


def test_an_objective_names_what_it_can_be() -> None:
    with pytest.raises(UserError, match=r"direction must be minimize or maximize, got 'maximise'"):
        Objective("loss", "maximise")
