"""What a module tells by `sow` is no state: not kept, not accumulated, fresh in every step."""

import warnings
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from supervised_harness import hparams_of, init, trace, train

import jaxopt_lab as lab

X = np.random.default_rng(0).normal(size=(24, 3)).astype("float32")
Y = X[:, 0] * X[:, 1]


class Experts(nn.Module):
    """A mixture whose auxiliary loss is sown as a tuple (Flax's default) or as a sum."""

    summed: bool = False

    @nn.compact
    def __call__(self, x: Any, train: bool = False) -> Any:
        gates = nn.softmax(nn.Dense(2)(x))
        balance = jnp.mean(gates, 0) ** 2
        how = {"reduce_fn": jnp.add, "init_fn": lambda: jnp.zeros(2)} if self.summed else {}
        self.sow("losses", "balance", balance, **how)
        x = nn.BatchNorm(use_running_average=not train)(nn.Dense(2)(x))
        return jnp.sum(gates * x, -1)


def balanced(summed: bool, whole: bool = False) -> Any:
    """A loss that adds what is sown, and gives back all collections or one."""

    def loss(module: Any, variables: Any, batch: Any, hparams: Any, train: bool) -> Any:
        given = (variables, batch.inputs, train)
        outputs, new = module.apply(*given, mutable=["losses", "batch_stats"])
        told = new["losses"]["balance"]
        added = hparams["balance"] * jnp.sum(told if summed else told[0])
        kept = new if whole else {"batch_stats": new["batch_stats"]}
        return (outputs - batch.targets) ** 2 + added, kept

    return loss


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize("summed", [False, True])
def test_an_auxiliary_loss_is_that_of_the_minibatch(summed: bool, whole: bool) -> None:
    problem = lab.supervised(
        Experts(summed),
        (X, Y),
        loss=balanced(summed, whole),
        optimizer=lambda h: optax.sgd(h["learning_rate"]),
        splits=None,
        batch_size=24,
    )
    hparams = hparams_of(learning_rate=[0.1], balance=[5.0])
    start = jax.tree.map(lambda leaf: leaf[0], init(problem, hparams))
    assert set(start.collections) == {"batch_stats"}
    state, _ = train(problem, hparams, num_units=3)

    params, stats = start.params, start.collections["batch_stats"]
    for _ in range(3):  # as written by hand: nothing but parameters and statistics go on

        def by_hand(params: Any, stats: Any = stats) -> Any:
            outputs, new = Experts(summed).apply(
                {"params": params, "batch_stats": stats}, X, True, mutable=["losses", "batch_stats"]
            )
            told = new["losses"]["balance"]
            added = 5.0 * jnp.sum(told if summed else told[0])
            return jnp.mean((outputs - Y) ** 2) + added, new["batch_stats"]

        gradient, stats = jax.grad(by_hand, has_aux=True)(params)
        params = jax.tree.map(lambda w, g: w - 0.1 * g, params, gradient)
    found = jax.tree.map(lambda leaf: leaf[0], state.params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, 1e-4, 1e-6), found, params)


@pytest.mark.parametrize("summed", [False, True])
def test_what_a_plain_loss_does_not_ask_for_is_left_out(summed: bool) -> None:
    problem = lab.supervised(
        Experts(summed), (X, Y), loss=lab.metrics.squared_error, batch_size=8, budget=2
    )
    study = lab.Study(problem, lab.SearchSpace(learning_rate=lab.LogUniform(1e-3, 1e-2)))
    study.optimize("random", num_trials=2)
    assert set(study.trials["status"]) == {"completed"}
    assert set(study.best.variables) == {"params", "batch_stats"}


def test_a_collection_that_a_module_does_not_have_is_refused() -> None:
    for new in ({"accuracy": jnp.zeros(())}, {"batch_stat": {"mean": jnp.zeros(())}}):

        def loss(module: Any, variables: Any, batch: Any, new: Any = new) -> Any:
            outputs = module.apply(variables, batch.inputs)
            return (outputs - batch.targets) ** 2, new

        problem = lab.supervised(Experts(), (X, Y), loss=loss)
        with pytest.raises(lab.UserError, match=f"collection {next(iter(new))!r}"):
            trace(problem, hparams_of(learning_rate=[0.1]))


class Told(nnx.Module):
    """Sows a mean activation."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.hidden, self.out = nnx.Linear(3, 4, rngs=rngs), nnx.Linear(4, 1, rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        x = jnp.tanh(self.norm(self.hidden(x)))
        with warnings.catch_warnings():  # newer Flax wants nnx.capture around it
            warnings.simplefilter("ignore", DeprecationWarning)
            self.sow(nnx.Intermediate, "activation", jnp.mean(x**2))
        return self.out(x)[..., 0]


@pytest.mark.parametrize("asked", [False, True])
def test_nnx_modules_may_sow(asked: bool) -> None:
    def loss(module: Any, batch: Any) -> Any:
        outputs = module(batch.inputs)
        assert len(module.activation.get_value()) == 1
        return (outputs - batch.targets) ** 2 + 0.1 * module.activation.get_value()[0]

    given = loss if asked else lab.metrics.squared_error
    problem = lab.supervised(lambda: Told, (X, Y), loss=given, batch_size=8)
    state, curves = train(problem, hparams_of(learning_rate=[1e-2, 1e-3]))
    assert np.isfinite(curves["train_loss"]).all()
    assert "activation" not in state.collections
