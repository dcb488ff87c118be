"""Supervised problems: what one trial trains is what a plain Flax and Optax loop trains."""

from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from sklearn.model_selection import GroupKFold
from supervised_harness import hparams_of, init, shared_of, trace, train, trial

from jaxopt_lab.core.errors import UserError
from jaxopt_lab.problems.general import REQUIRED
from jaxopt_lab.problems.supervised import metrics, supervised
from jaxopt_lab.problems.supervised.batches import epoch_order
from jaxopt_lab.spaces.distributions import LogUniform
from jaxopt_lab.spaces.space import SearchSpace

_RATES = [1e-2, 3e-3, 1e-3]
_cross_entropy = optax.softmax_cross_entropy_with_integer_labels


class Net(nn.Module):
    width: int = 16

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = jnp.tanh(nn.Dense(self.width)(x))
        return nn.Dense(1)(x)[..., 0]


class Normalised(nn.Module):
    """BatchNorm, and dropout at a rate that is searched."""

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> jax.Array:
        x = nn.BatchNorm(use_running_average=not train, momentum=0.9)(nn.Dense(16)(x))
        return nn.Dense(3)(jnp.tanh(x))


pytestmark = pytest.mark.usefixtures("full_precision")


def _rows(num_rows: int = 70, num_features: int = 5) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    x = random.standard_normal((num_rows, num_features)).astype(np.float32)
    return x, (x[:, 0] * x[:, 1] + 0.1 * x[:, 2]).astype(np.float32)


def _classes(num_rows: int = 70) -> tuple[np.ndarray, np.ndarray]:
    x, y = _rows(num_rows)
    return x, np.digitize(y, [-0.3, 0.3])


def _problem(**changes: Any) -> Any:
    given = {"loss": optax.squared_error, "batch_size": 16, **changes}
    return supervised(given.pop("model", Net), given.pop("data", _rows()), **given)


def _minibatches(problem: Any, unit: int, budget: int, member: int = 0) -> list[np.ndarray]:
    """The rows of each minibatch of an epoch, without what only fills up."""
    shared = shared_of(problem, unit, budget, member)
    split = member % len(problem.data.num_train)
    size, num = problem.keywords["batch_size"], int(problem.data.num_train[split])
    key = jax.random.fold_in(shared.key, 1)
    order = np.asarray(epoch_order(key, problem.data, jnp.asarray(split), size))[:num]
    return [order[i : i + size] for i in range(0, num, size)]


@pytest.mark.parametrize("member", [0, 2])
def test_equals_a_plain_flax_and_optax_loop(member: int) -> None:
    x, y = _rows()
    problem = _problem(
        splits=3, optimizer=lambda h: optax.adamw(h["learning_rate"], weight_decay=1e-2)
    )
    hparams = hparams_of(learning_rate=_RATES)
    begin = init(problem, hparams)
    state, curves = train(problem, hparams, 3, member, state=begin)

    module, optimizer = Net(), optax.adamw(_RATES[1], weight_decay=1e-2)
    params = trial(begin.params, 1)
    opt_state = optimizer.init(params)

    def loss_of(params: Any, rows: np.ndarray) -> jax.Array:
        return optax.squared_error(module.apply({"params": params}, x[rows]), y[rows]).mean()

    train_losses, num_train = [], int(problem.data.num_train[member])
    for unit in range(3):
        total = 0.0
        for rows in _minibatches(problem, unit, 3, member):
            loss, gradient = jax.value_and_grad(loss_of)(params, rows)
            updates, opt_state = optimizer.update(gradient, opt_state, params)
            params = optax.apply_updates(params, updates)
            total += float(loss) * len(rows)
        train_losses.append(total / num_train)
    valid = problem.data.valid_rows[member][: problem.data.num_valid[member]]

    jax.tree.map(
        lambda ours, plain: np.testing.assert_allclose(ours, plain, rtol=2e-4, atol=2e-6),
        trial(state.params, 1),
        params,
    )
    np.testing.assert_allclose(curves["train_loss"][1], train_losses, rtol=1e-5)
    np.testing.assert_allclose(curves["loss"][1, -1], loss_of(params, valid), rtol=1e-4)
    assert trial(state.step, 1) == 3 * -(-num_train // 16)


def test_batch_norm_is_flaxs_own_and_sees_real_rows_only() -> None:
    x, y = _classes(56)
    problem = supervised(
        Normalised, (x, y), loss=_cross_entropy, splits=None, batch_size=16,
        optimizer=lambda h: optax.sgd(h["learning_rate"]),
    )  # fmt: skip
    hparams = hparams_of(learning_rate=[0.1, 0.2])
    begin = init(problem, hparams)
    state, _ = train(problem, hparams, 1, state=begin)

    module, optimizer = Normalised(), optax.sgd(0.2)
    variables = {"params": trial(begin.params, 1), **trial(begin.collections, 1)}
    opt_state = optimizer.init(variables["params"])
    batches = _minibatches(problem, 0, 1)
    num_last = len(batches[-1])
    assert num_last == 8
    # The last minibatch is filled up with the first rows of the epoch; the loss leaves them out.
    batches[-1] = np.concatenate([batches[-1], batches[0][: 16 - num_last]])
    for i, rows in enumerate(batches):
        num_own = num_last if i == len(batches) - 1 else 16

        def loss_of(
            params: Any, others: Any = variables, rows: Any = rows, num_own: int = num_own
        ) -> Any:
            logits, moved = module.apply(
                {**others, "params": params}, x[rows], train=True, mutable=["batch_stats"]
            )
            return _cross_entropy(logits, y[rows])[:num_own].mean(), moved

        gradient, moved = jax.grad(loss_of, has_aux=True)(variables["params"])
        updates, opt_state = optimizer.update(gradient, opt_state)
        variables = {"params": optax.apply_updates(variables["params"], updates), **moved}

    ours = {"params": trial(state.params, 1), **trial(state.collections, 1)}
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6), ours, dict(variables)
    )
    kept = trial(jax.vmap(problem.build().result)(state), 1)
    module.apply(kept, x[:4], train=False)


class NnxNet(nnx.Module):
    def __init__(self, width: int = 16, *, rngs: nnx.Rngs) -> None:
        self.hidden = nnx.Linear(5, width, rngs=rngs)
        self.norm = nnx.BatchNorm(width, momentum=0.9, rngs=rngs)
        self.out = nnx.Linear(width, 3, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        return self.out(jnp.tanh(self.norm(self.hidden(x))))


def test_an_nnx_module_trains_like_the_same_linen_module() -> None:
    given = {"loss": _cross_entropy, "splits": 3, "batch_size": 16}
    linen = supervised(Normalised, _classes(), **given)
    of_nnx = supervised(lambda *, width=16: lambda rngs: NnxNet(width, rngs=rngs), _classes(),
                        **given)  # fmt: skip
    hparams = hparams_of(learning_rate=_RATES)
    theirs = init(of_nnx, hparams)
    names = {"hidden": "Dense_0", "norm": "BatchNorm_0", "out": "Dense_1"}
    params = {names[name]: layer for name, layer in theirs.params.items()}
    begin = init(linen, hparams)
    begin = begin._replace(params=params, opt_state=optax.adamw(1.0).init(params)[0])
    begin = begin._replace(opt_state=init(linen, hparams).opt_state, key=theirs.key)

    state, curves = train(of_nnx, hparams, state=theirs)
    linen_state, linen_curves = train(linen, hparams, state=begin)

    np.testing.assert_allclose(curves["loss"], linen_curves["loss"], rtol=1e-4)
    np.testing.assert_allclose(
        state.collections["norm"]["mean"],
        linen_state.collections["batch_stats"]["BatchNorm_0"]["mean"],
        rtol=1e-3,
        atol=1e-5,
    )


def test_a_trained_nnx_module_can_be_called() -> None:
    class Dropped(nnx.Module):
        def __init__(self, *, rngs: nnx.Rngs) -> None:
            self.hidden = nnx.Linear(5, 8, rngs=rngs)
            self.drop = nnx.Dropout(0.5, rngs=rngs)

        def __call__(self, x: jax.Array) -> jax.Array:
            return self.drop(self.hidden(x)).sum(-1)

    problem = _problem(model=Dropped)
    hparams = hparams_of(learning_rate=_RATES)
    state, _ = train(problem, hparams)
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(state)} <= {"float32", "int32", "uint32"}
    drawn = state.collections["drop"]["rngs"]["count"]
    np.testing.assert_array_equal(drawn, 2 * 4)  # once in each training step, never in validation

    kept = trial(jax.vmap(problem.build().result)(state), 1)
    module = problem.extras["module"]()(kept)
    x = _rows()[0]
    np.testing.assert_array_equal(module(x), module(x))  # evaluation: nothing is dropped


@pytest.mark.usefixtures("as_users_compile")
def test_trials_do_not_see_each_other() -> None:
    problem = _problem(splits=3)
    together, _ = train(problem, hparams_of(learning_rate=[1e-2, 3e-3, np.nan, np.inf]))
    alone, _ = train(problem, hparams_of(learning_rate=[1e-2, 3e-3, 1e-3, 1e-4]))
    for number in (0, 1):
        jax.tree.map(np.testing.assert_array_equal, trial(together, number), trial(alone, number))
    assert np.isnan(trial(together.params, 2)["Dense_0"]["kernel"]).all()


def _equations(jaxpr: Any) -> Any:
    for equation in jaxpr.eqns:
        yield equation
        for inner in jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")
        ):
            inner = getattr(inner, "jaxpr", inner)
            if hasattr(inner, "eqns"):
                yield from _equations(inner)


def test_rows_and_their_order_are_common_to_the_trials() -> None:
    problem = _problem(splits=3, sample_weight=np.ones(70))
    hparams = hparams_of(learning_rate=[1e-3] * 7)  # 7 is no other size
    trainable, state = problem.build(), init(problem, hparams)
    step = jax.vmap(trainable.step, (0, 0, None))
    jaxpr = jax.make_jaxpr(step)(state, hparams, shared_of(problem, 0, 1))
    found = list(_equations(jaxpr.jaxpr))
    moving = [e for e in found if e.primitive.name in ("gather", "sort", "dynamic_slice")]
    assert len([e for e in moving if e.primitive.name == "gather"]) >= 4
    for equation in moving:
        for out in equation.outvars:
            assert 7 not in out.aval.shape, equation
    loops = [e for e in found if e.primitive.name == "while"]
    assert any(len(e.invars) > 10 for e in loops), "the loop over minibatches is a loop"


def test_a_cohort_is_one_program_for_all_splits_and_seeds() -> None:
    problem = _problem(splits=3, num_seeds=2, data=_rows(71))
    assert problem.num_members == 6
    trainable, hparams = problem.build(), hparams_of(learning_rate=_RATES)
    traces = []

    @jax.jit
    def step(*args: Any) -> Any:
        traces.append(1)
        return jax.vmap(trainable.step, (0, 0, None))(*args)

    found = {}
    for member in range(6):
        state = init(problem, hparams)
        found[member] = step(state, hparams, shared_of(problem, 0, 1, member))[1]["loss"]
    assert len(traces) == 1
    np.testing.assert_array_equal(found[1], found[4])  # the same split
    assert not np.allclose(found[1], found[2])


def test_shapes_of_the_last_minibatch_do_not_matter() -> None:
    """One more row than full minibatches: its own minibatch is that row's alone."""
    x, y = _rows(33)
    problem = _problem(data=(x, y), splits=None, optimizer=lambda h: optax.sgd(h["learning_rate"]))
    hparams = hparams_of(learning_rate=[0.1])
    begin = init(problem, hparams)
    state, _ = train(problem, hparams, 1, state=begin)
    params = trial(begin.params)
    for rows in _minibatches(problem, 0, 1):
        gradient = jax.grad(
            lambda p, rows=rows: ((Net().apply({"params": p}, x[rows]) - y[rows]) ** 2).mean()
        )(params)
        params = jax.tree.map(lambda p, g: p - 0.1 * g, params, gradient)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
        trial(state.params),
        params,
    )


def test_rows_without_weight_change_nothing() -> None:
    x, y = _rows(40)
    weights = np.zeros(40)
    weights[[3, 8]] = 1.0, 3.0
    problem = _problem(
        data=(x, y), splits=None, sample_weight=weights, batch_size=1,
        optimizer=lambda h: optax.adam(h["learning_rate"]),
    )  # fmt: skip
    hparams = hparams_of(learning_rate=[1e-2, 1e-3])
    begin = init(problem, hparams)
    state, curves = train(problem, hparams, 1, state=begin)
    np.testing.assert_array_equal(state.step, 2)
    counts = [leaf for leaf in jax.tree.leaves(state.opt_state) if leaf.dtype == jnp.int32]
    np.testing.assert_array_equal(counts[0], 2)
    # The training loss is that of the two rows, by their weights.
    first = [r for b in _minibatches(problem, 0, 1) for r in b if r in (3, 8)]
    module, params = Net(), trial(begin.params)
    optimizer = optax.adam(1e-2)
    opt_state, total = optimizer.init(params), 0.0
    for row in first:
        loss, gradient = jax.value_and_grad(
            lambda p, row=row: (module.apply({"params": p}, x[[row]])[0] - y[row]) ** 2
        )(params)
        updates, opt_state = optimizer.update(gradient, opt_state)
        params, total = optax.apply_updates(params, updates), total + weights[row] * loss
    np.testing.assert_allclose(curves["train_loss"][0, 0], total / 4.0, rtol=1e-5)


def test_validation_weighs_rows_and_counts_each_once() -> None:
    x, y = _rows(50)
    weights = np.linspace(0.0, 2.0, 50)
    problem = _problem(
        data=(x, y), splits=3, sample_weight=weights, eval_batch_size=5,
        metrics={"mae": metrics.absolute_error, "rmse": metrics.root_mean_squared_error},
    )  # fmt: skip
    hparams = hparams_of(learning_rate=[1e-2])
    state, curves = train(problem, hparams, 1, member=1)
    rows = problem.data.valid_rows[1][: problem.data.num_valid[1]]
    errors = np.asarray(Net().apply({"params": trial(state.params)}, x[rows]) - y[rows])
    expected = np.average(errors**2, weights=weights[rows])
    np.testing.assert_allclose(curves["loss"][0, 0], expected, rtol=1e-5)
    np.testing.assert_allclose(curves["rmse"][0, 0], np.sqrt(expected), rtol=1e-5)
    expected = np.average(abs(errors), weights=weights[rows])
    np.testing.assert_allclose(curves["mae"][0, 0], expected, rtol=1e-5)


def test_a_metric_of_all_rows_sees_exactly_the_validation_rows() -> None:
    @metrics.over_all_rows
    def median_error(outputs: jax.Array, targets: jax.Array) -> jax.Array:
        return jnp.median(abs(outputs - targets))

    @metrics.over_all_rows
    def residuals(outputs: jax.Array, targets: jax.Array) -> jax.Array:
        return jnp.sort(abs(outputs - targets))[-3:]

    x, y = _rows(50)  # folds of 17, 17 and 16 rows
    problem = _problem(
        data=(x, y), splits=3, eval_batch_size=4,
        metrics={"median": median_error, "worst": residuals},
    )  # fmt: skip
    hparams = hparams_of(learning_rate=_RATES)
    for member in (0, 2):
        state, curves = train(problem, hparams, 1, member=member)
        rows = problem.data.valid_rows[member][: problem.data.num_valid[member]]
        errors = abs(Net().apply({"params": trial(state.params, 1)}, x[rows]) - y[rows])
        np.testing.assert_allclose(curves["median"][1, 0], np.median(errors), rtol=1e-5)
        np.testing.assert_allclose(curves["worst"][1, 0], np.sort(errors)[-3:], rtol=1e-5)


def test_dropout_noise_is_the_trials_own() -> None:
    class Dropped(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array, deterministic: bool) -> jax.Array:
            return nn.Dropout(0.5, deterministic=deterministic)(nn.Dense(1)(x))[..., 0]

    problem = _problem(model=Dropped, splits=None)
    hparams = hparams_of(learning_rate=[1e-3, 1e-3])
    same = jax.tree.map(lambda x: jnp.stack([x[0], x[0]]), init(problem, hparams))
    other = same._replace(key=jnp.stack([same.key[0], same.key[0] + 1]))
    curves = train(problem, hparams, state=same)[1]["loss"]
    np.testing.assert_array_equal(curves[0], curves[1])
    curves = train(problem, hparams, state=other)[1]["loss"]
    assert not np.allclose(curves[0], curves[1])


def test_hparams_reach_the_module_and_the_loss() -> None:
    class Scaled(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array, hparams: Any) -> jax.Array:
            return hparams["scale"] * nn.Dense(1, use_bias=False)(x)[..., 0]

    def tilted(outputs: jax.Array, targets: jax.Array, hparams: Any) -> jax.Array:
        errors = targets - outputs
        return jnp.maximum(hparams.quantile * errors, (hparams.quantile - 1) * errors)

    problem = _problem(model=Scaled, loss=tilted, splits=0.2)
    hparams = hparams_of(learning_rate=[0.0, 0.0], scale=[1.0, 0.0], quantile=[0.9, 0.9])
    _, curves = train(problem, hparams, 1)
    y = _rows()[1][problem.data.valid_rows[0]]
    expected = np.maximum(0.9 * y, -0.1 * y).mean()
    np.testing.assert_allclose(curves["loss"][1, 0], expected, rtol=1e-5)
    assert curves["loss"][0, 0] != curves["loss"][1, 0]


class TwoInputs(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array, z: jax.Array, is_training: bool) -> jax.Array:
        return nn.Dense(1)(x + z)[..., 0]


class AutoEncoder(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool) -> Any:
        x = nn.BatchNorm(use_running_average=not train)(x)
        mean, log_scale = jnp.split(nn.Dense(4)(x), 2, axis=-1)
        noise = jax.random.normal(self.make_rng("sample"), mean.shape)
        return nn.Dense(5)(mean + jnp.exp(log_scale) * noise), mean, log_scale


@pytest.mark.parametrize("scalar", [False, True])
def test_a_loss_of_its_own_form(scalar: bool) -> None:
    def elbo(module: Any, variables: Any, batch: Any, hparams: Any, rngs: Any, train: bool) -> Any:
        found = module.apply(
            variables, batch.inputs, train=train, rngs=rngs, mutable=["batch_stats"]
        )
        (again, mean, log_scale), moved = found
        rate = (mean**2 + jnp.exp(2 * log_scale) - 1) / 2 - log_scale
        losses = ((again - batch.inputs) ** 2).sum(-1) + hparams["beta"] * rate.sum(-1)
        if scalar:
            losses = (batch.weights * losses).sum() / batch.weights.sum()
        return losses, (moved if train else {})

    def reconstruction(outputs: Any, targets: Any) -> jax.Array:
        return outputs[1][:, 0] ** 2

    problem = supervised(
        AutoEncoder, (_rows()[0], None), loss=elbo, splits=3, batch_size=16, rngs=("sample",),
        metrics={"latent": reconstruction},
    )  # fmt: skip
    hparams = hparams_of(learning_rate=[1e-2, 1e-2, 0.0], beta=[1.0, 0.1, 1.0])
    begin = init(problem, hparams)
    state, curves = train(problem, hparams, 12, state=begin)
    assert (curves["loss"][:2, -1] < 0.8 * curves["loss"][:2, 0]).all()
    assert np.isfinite(curves["latent"]).all()
    # The statistics move in training, even at a rate of 0.
    mean = state.collections["batch_stats"]["BatchNorm_0"]["mean"]
    assert (np.abs(mean[2]) > 0).any()
    both = {}
    both[scalar] = curves["train_loss"]
    assert both[scalar].shape == (3, 12)


def test_a_loss_of_its_own_form_with_nnx() -> None:
    def loss(module: Any, batch: Any) -> jax.Array:
        return _cross_entropy(module(batch.inputs), batch.targets)

    given = {"splits": 3, "batch_size": 16}
    hparams = hparams_of(learning_rate=_RATES)
    ours = train(supervised(NnxNet, _classes(), loss=loss, **given), hparams)
    plain = train(supervised(NnxNet, _classes(), loss=_cross_entropy, **given), hparams)
    np.testing.assert_allclose(ours[1]["loss"], plain[1]["loss"], rtol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6),
        ours[0].collections,
        plain[0].collections,
    )


def test_pytrees_and_masked_sequences() -> None:
    random = np.random.default_rng(0)
    steps = random.standard_normal((45, 6, 3)).astype(np.float32)
    lengths = random.integers(1, 7, 45)
    real = np.arange(6) < lengths[:, None]
    total = (steps[..., 0] * real).sum(1)

    class Tagger(nn.Module):
        @nn.compact
        def __call__(self, inputs: Any, mask: jax.Array) -> Any:
            assert mask.shape == inputs["real"].shape[:1]
            x = nn.RNN(nn.GRUCell(8))(inputs["steps"], seq_lengths=inputs["real"].sum(-1))
            x = jnp.where(inputs["real"][..., None], x, 0.0)
            return {"sum": nn.Dense(1)(x.sum(1))[..., 0], "each": nn.Dense(1)(x)[..., 0]}

    def both(outputs: Any, targets: Any) -> jax.Array:
        return (outputs["sum"] - targets["sum"]) ** 2 + (outputs["each"] ** 2).mean(-1)

    def gap(outputs: Any, targets: Any) -> jax.Array:
        return abs(outputs["sum"] - targets["sum"])

    problem = supervised(
        Tagger, ({"steps": steps, "real": real}, {"sum": total}), loss=both,
        metrics={"gap": gap}, splits=0.25, batch_size=8,
    )  # fmt: skip
    _, curves = train(problem, hparams_of(learning_rate=[1e-2, 1e-3]), 6)
    assert curves["gap"][0, -1] < curves["gap"][0, 0]
    assert problem.data.inputs["real"].dtype == bool


def test_without_validation_the_training_loss_is_all_there_is() -> None:
    _, curves = train(_problem(splits=None), hparams_of(learning_rate=[1e-3]))
    assert set(curves) == {"loss", "train_loss"}
    np.testing.assert_array_equal(curves["loss"], curves["train_loss"])


def test_validation_rows_of_their_own() -> None:
    x, y = _rows(60)
    problem = _problem(data=(x[:40], y[:40]), validation=(x[40:], y[40:]))
    state, curves = train(problem, hparams_of(learning_rate=[1e-3]), 1)
    errors = Net().apply({"params": trial(state.params)}, x[40:]) - y[40:]
    np.testing.assert_allclose(curves["loss"][0, 0], (errors**2).mean(), rtol=1e-5)
    assert trial(state.step) == 3


def test_groups_and_keywords_and_identity() -> None:
    def model(*, width: int, depth: int = 2) -> nn.Module:
        return nn.Sequential([nn.Dense(width) for _ in range(depth)] + [nn.Dense(1), jnp.ravel])

    groups = np.repeat(np.arange(10), 7)
    problem = _problem(
        model=model, splits=GroupKFold(5), groups=groups, num_seeds=2,
        optimizer={"adam": lambda h: optax.adam(h["rate"]), "sgd": lambda h: optax.sgd(h["rate"])},
        roles={"learning_rate": "rate"},
    )  # fmt: skip
    assert problem.keywords == {
        "width": REQUIRED, "depth": 2, "batch_size": 16, "optimizer": "adam"
    }  # fmt: skip
    assert problem.num_members == 10
    assert problem.roles["learning_rate"] == "rate"
    assert problem.roles["batch_size"] == "batch_size"
    for split in range(5):
        valid = problem.data.valid_rows[split][: problem.data.num_valid[split]]
        train_rows = problem.data.train_rows[split][: problem.data.num_train[split]]
        assert not set(groups[valid]) & set(groups[train_rows])
    found = {}
    for optimizer, size in (("adam", 16), ("sgd", 16), ("sgd", 1000)):
        state, curves = train(
            problem, hparams_of(rate=[1e-2]), width=4, optimizer=optimizer, batch_size=size
        )
        found[optimizer, size] = curves["loss"][0, -1]
    assert len(set(found.values())) == 3
    assert trial(state.step) == 2  # a minibatch has all rows at most
    again = _problem(model=model, splits=GroupKFold(5), groups=groups)
    assert again.identity["data"] == problem.identity["data"]
    x, y = _rows()
    other = _problem(data=(x, y + 1e-3), model=model, splits=GroupKFold(5), groups=groups)
    assert other.identity["data"] != problem.identity["data"]
    assert _problem().identity["model"] == "Net( # attributes width = 16 )"


@pytest.mark.parametrize("platform", ["cuda", "tpu"])
def test_lowers_for_accelerators(platform: str) -> None:
    problem = _problem(splits=3, metrics={"r2": metrics.r2})
    hparams = hparams_of(learning_rate=_RATES)
    step = jax.jit(jax.vmap(problem.build().step, (0, 0, None)))
    args = (init(problem, hparams), hparams, shared_of(problem, 0, 1))
    assert step.trace(*args).lower(lowering_platforms=(platform,)).as_text()


def test_a_loss_that_is_not_finite_stays_with_its_trial() -> None:
    def logarithm(outputs: jax.Array, targets: jax.Array, hparams: Any) -> jax.Array:
        return jnp.log(hparams["shift"] + (outputs - targets) ** 2)

    hparams = hparams_of(learning_rate=[1e-3, 1e-3], shift=[1.0, -1e6])
    _, curves = train(_problem(loss=logarithm), hparams)
    assert np.isfinite(curves["loss"][0]).all()
    assert not np.isfinite(curves["loss"][1]).any()


def _fails(message: str, **changes: Any) -> None:
    with pytest.raises(UserError) as found:
        trace(_problem(**changes), hparams_of(learning_rate=[1e-3]))
    assert "\n" not in str(found.value)
    assert message in str(found.value)


def _nothing(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    return jnp.zeros(())


class TwoColumns(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return nn.Dense(2)(x)


class AlwaysMoving(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return nn.BatchNorm(use_running_average=False)(nn.Dense(1)(x))[..., 0]


def test_rows_that_are_no_numbers_are_told_of_where_all_diverged() -> None:
    x, y = _rows()
    assert _problem().doubt() == ""
    said = _problem(data=(x, np.where(np.arange(70) == 3, np.nan, y))).doubt()
    assert said.startswith("targets hold NaN or infinity, in row 3 first (1 such rows)")


def test_mistakes_get_one_line() -> None:
    x, y = _rows()
    labels = np.arange(70) % 3
    _fails("squared_error must return one number for each of 16 rows, [16]; it returned [16, 2]",
           model=TwoColumns, data=(x, np.stack([y, y], 1)))  # fmt: skip
    _fails("Let the module return x[..., 0]", model=lambda: nn.Dense(1))
    _fails("were broadcast against each other. Let the module return x[..., 0]",
           model=lambda: nn.Dense(1), loss=lambda o, t: (o - t) ** 2)  # fmt: skip
    _fails("Do not average over the rows", loss=lambda o, t: ((o - t) ** 2).mean())
    _fails("_nothing must return one number for each of", metrics={"m": _nothing})
    _fails("mark it with lab.metrics.over_all_rows", metrics={"m": _nothing})
    _fails("got labels from 0 to 2, but the module has 2 outputs", model=TwoColumns,
           data=(x, labels), loss=_cross_entropy)  # fmt: skip
    _fails("for labels from 0 to 1; number the classes from 0", model=TwoColumns,
           data=(x, labels - 1), loss=_cross_entropy)  # fmt: skip
    for wrong, mend in (
        (np.float32(labels % 2), "give targets.astype('int32')"),
        (labels % 2 == 1, "got bool [16]; give targets.astype('int32')"),
        ((labels % 2)[:, None], "got int32 [16, 1]; give targets[..., 0]"),
        (np.eye(2, dtype="float32")[labels % 2], "targets.argmax(-1), or the loss optax.softmax"),
    ):
        _fails(mend, model=TwoColumns, data=(x, wrong), loss=_cross_entropy)
    _fails("accuracy takes one array of targets, got a dict", model=TwoColumns,
           data=(x, {"a": labels % 2}), loss=lambda o, t: _cross_entropy(o, t["a"]),
           metrics={"accuracy": metrics.accuracy})  # fmt: skip
    _fails("use_running_average=not train", model=AlwaysMoving)
    _fails("there is no metric 'acuracy' to optimise", objective="acuracy",
           metrics={"accuracy": metrics.accuracy})  # fmt: skip
    _fails("Did you mean 'accuracy'?", objective="acuracy", metrics={"accuracy": metrics.accuracy})
    _fails("inputs and targets must have as many rows, got 70 and 69", data=(x, y[1:]))
    _fails("inputs['a'] is a str, not an array", data=({"a": "text"}, y))
    _fails("is an array of <U1, not of numbers", data=(np.full((70, 2), "a"), y))
    _fails("metrics are of validation rows", splits=None, metrics={"m": metrics.squared_error})
    _fails("num_seeds must be a whole number of at least 1, got 0", num_seeds=0)
    _fails("batch_size must be a whole number of at least 1, got -2", batch_size=-2)
    _fails("model is an NNX module that exists already", model=NnxNet(rngs=nnx.Rngs(0)))
    _fails("must return a Flax module, or a function of rngs", model=lambda: 3)
    _fails("has no parameters to train", model=lambda: nn.Dropout(0.1, deterministic=True))
    _fails("loss must be a function", loss="mse")
    _fails("takes 'temperature', which nothing gives; a loss of the module may take module",
           loss=lambda module, variables, temperature: 0.0)  # fmt: skip
    _fails("takes 'step', which nothing gives: a loss is a function of (outputs, targets)",
           loss=lambda outputs, targets, hparams, step: (outputs - targets) ** 2)  # fmt: skip
    _fails("the metric 'm' takes 'h', which nothing gives",
           metrics={"m": lambda outputs, targets, h: (outputs - targets) ** 2})  # fmt: skip
    _fails("TwoInputs.__call__ takes 'z', which nothing gives: it gets the inputs, several as one "
           "tuple or dict, and what it names of train,", model=TwoInputs)  # fmt: skip
    _fails("targets [16, 1]: Shape mismatch: got (16,) and (16, 1). Give targets[..., 0]",
           data=(x, y[:, None]))  # fmt: skip
    _fails("optimizer must be a function of the hyperparameters", optimizer="adam")
    _fails("must return an Optax transformation, it returned float", optimizer=lambda h: 1.0)
    _fails("there is no role 'rate'", roles={"rate": "learning_rate"})
    _fails("takes 'size', which has no default and no range", model=lambda *, size: Net(size))
    _fails("sample_weight must be finite and not negative", sample_weight=-np.ones(70))
    _fails("have a sample weight of 0", sample_weight=np.zeros(70))
    _fails("validation inputs must be like those of data", validation=(x[:, 1:], y))
    _fails("splits= would not be read", validation=(x, y), splits=3)
    _fails("groups= would not be read", validation=(x, y), groups=np.arange(70))
    _fails("inputs is a masked array", data=(np.ma.masked_less(x, 0.0), y))
    _fails("inputs[3] has 4 and 66 more. If each is one row, such as a sequence, pad them",
           data=([np.zeros(1 + i % 5) for i in range(70)], y))  # fmt: skip


def test_networks_of_other_libraries_are_sent_to_another_door() -> None:
    # Equinox is no dependency of the tests: an object that is called like its modules.
    elsewhere = type("MLP", (), {"__module__": "equinox.nn._mlp", "__call__": lambda self, x: x})
    _fails("got MLP; networks of other libraries are trained by lab.from_steps", model=elsewhere)


def test_an_unknown_optimizer_is_named() -> None:
    problem = _problem(optimizer={"adam": lambda h: optax.adam(1e-3)})
    with pytest.raises(UserError, match=r"there is no optimizer 'adm'.*Did you mean 'adam'"):
        problem.build(optimizer="adm")


def test_schedule_free_is_evaluated_and_kept_at_its_own_parameters() -> None:
    x, y = _rows()
    problem = _problem(
        validation=(x[:9], y[:9]),
        optimizer=lambda h: optax.chain(
            optax.clip(1.0), optax.contrib.schedule_free_sgd(h["learning_rate"])
        ),
    )
    state, curves = train(problem, hparams_of(learning_rate=[0.1, 0.03]), 2)
    one = trial(state)
    expected = optax.contrib.schedule_free_eval_params(one.opt_state[1], one.params)
    kept = trial(jax.vmap(problem.build().result)(state))
    errors = (Net().apply(kept, x[:9]) - y[:9]) ** 2
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        kept["params"],
        expected,
    )
    np.testing.assert_allclose(curves["loss"][0, -1], errors.mean(), rtol=1e-4)


@pytest.mark.parametrize("opaque", [True, False])
def test_an_optimizer_that_takes_gradients_beside_the_weights(opaque: bool) -> None:
    x, y = _rows()

    def optimizer(hparams: Any) -> optax.GradientTransformation:
        beside = optax.chain(optax.contrib.normalize(), optax.sgd(0.05))
        sgd = optax.sgd(hparams["learning_rate"])
        return optax.contrib.sam(sgd, beside, sync_period=2, opaque_mode=opaque)

    problem = _problem(splits=None, batch_size=len(x), optimizer=optimizer)
    begin = trial(init(problem, hparams_of(learning_rate=[0.1]))).params
    # Two calls of the transparent form make one step.
    state, _ = train(problem, hparams_of(learning_rate=[0.1]), 1 if opaque else 2)

    def loss_of(params: Any) -> jax.Array:
        return ((Net().apply({"params": params}, x) - y) ** 2).mean()

    gradient = jax.grad(loss_of)(begin)
    norm = optax.tree.norm(gradient)
    worse = jax.tree.map(lambda p, g: p + 0.05 * g / norm, begin, gradient)
    wanted = jax.tree.map(lambda p, g: p - 0.1 * g, begin, jax.grad(loss_of)(worse))
    chex.assert_trees_all_close(trial(state).params, wanted, rtol=1e-4, atol=1e-6)


def test_a_line_search_is_given_the_loss_of_the_minibatch() -> None:
    x, y = _rows()
    chain = optax.lbfgs(memory_size=3)
    problem = _problem(splits=None, batch_size=len(x), optimizer=lambda h: optax.lbfgs(None, 3))
    state = init(problem, hparams_of(unused=[0.0]))
    params = trial(state).params

    def loss_of(params: Any) -> jax.Array:
        return ((Net().apply({"params": params}, x) - y) ** 2).mean()

    kept = chain.init(params)
    for _ in range(2):
        value, gradient = jax.value_and_grad(loss_of)(params)
        updates, kept = chain.update(
            gradient, kept, params, value=value, grad=gradient, value_fn=loss_of
        )
        params = optax.apply_updates(params, updates)
    found, _ = train(problem, hparams_of(unused=[0.0]), 2, state=state)
    chex.assert_trees_all_close(trial(found).params, params, rtol=1e-3, atol=1e-5)


def test_what_stands_for_hparams_and_total_steps_may_have_any_name() -> None:
    def ours(hparams: Any, total_steps: jax.Array) -> optax.GradientTransformation:
        return optax.sgd(lambda step: hparams["rate"] * (1 - step / total_steps))

    def theirs(h: Any, number: jax.Array) -> optax.GradientTransformation:
        return ours(h, number)

    losses = (
        lambda outputs, targets, hparams: hparams.scale * (outputs - targets) ** 2,
        lambda o, t, h: h.scale * (o - t) ** 2,
    )
    hparams = hparams_of(rate=[0.1, 0.02], scale=[1.0, 3.0])
    found = [
        train(_problem(loss=loss, optimizer=optimizer), hparams)[0].params
        for loss, optimizer in zip(losses, (ours, theirs), strict=True)
    ]
    chex.assert_trees_all_equal(*found)


def test_a_schedule_spans_the_budget() -> None:
    def optimizer(hparams: Any, total_steps: jax.Array) -> optax.GradientTransformation:
        return optax.sgd(lambda step: jnp.where(step < total_steps - 1, 0.0, hparams["rate"]))

    problem = _problem(splits=None, optimizer=optimizer)
    hparams = hparams_of(rate=[0.1])
    begin = init(problem, hparams)
    step = jax.jit(jax.vmap(problem.build().step, (0, 0, None)))
    first, _ = step(begin, hparams, shared_of(problem, 0, 2))
    second, _ = step(first, hparams, shared_of(problem, 1, 2))
    jax.tree.map(np.testing.assert_array_equal, first.params, begin.params)
    assert not np.allclose(second.params["Dense_0"]["kernel"], begin.params["Dense_0"]["kernel"])


STILL = {
    "compared": lambda outputs, targets: ((outputs > 0) != targets).astype(jnp.float32),
    "labels only": lambda outputs, targets: jnp.asarray(targets, jnp.float32) ** 2,
    "stopped": lambda outputs, targets: (jax.lax.stop_gradient(outputs) - targets) ** 2,
    "rounded": lambda outputs, targets: jnp.abs(jnp.round(outputs) - targets),
}


@pytest.mark.parametrize("kind", STILL)
def test_a_loss_that_moves_no_weight_is_refused(kind: str) -> None:
    loss = STILL[kind]
    loss.__name__ = loss.__qualname__ = "wrong_loss"
    space = SearchSpace(learning_rate=LogUniform(1e-3, 1.0))
    problem = supervised(Net, _classes(), loss=loss, metrics={"accuracy": metrics.accuracy})
    with pytest.raises(UserError, match="gradient of wrong_loss is zero for all weights of Net"):
        problem.check(space)


@pytest.mark.parametrize("factory", [optax.adam, optax.sgd])
def test_a_factory_of_chains_is_no_chain(factory: Any) -> None:
    with pytest.raises(UserError, match=rf"give lambda h: optax.{factory.__name__}\(h\['learning"):
        supervised(Net, _classes(), loss=STILL["stopped"], optimizer=factory)


def test_a_loss_that_is_linear_in_the_weights_moves_them() -> None:
    def weight_of(module: Any, variables: Any, batch: Any, hparams: Any) -> Any:
        return sum(leaf.sum() for leaf in jax.tree.leaves(variables["params"]))

    problem = supervised(Net, _classes(), loss=weight_of)
    problem.check(SearchSpace(learning_rate=LogUniform(1e-3, 1.0)))


def test_complex_weights_go_down() -> None:
    class Constant(nn.Module):
        @nn.compact
        def __call__(self, x: Any) -> Any:
            return x[:, 0] * 0 + self.param("z", lambda key: jnp.full((), 0.5 + 0.5j, "complex64"))

    problem = supervised(
        Constant,
        (_rows()[0], np.full(len(_rows()[0]), 2 - 3j, "complex64")),
        loss=lambda outputs, targets: jnp.abs(outputs - targets) ** 2,
        optimizer=lambda h: optax.sgd(h["learning_rate"]),
        batch_size=16,
    )
    state, curves = train(problem, hparams_of(learning_rate=[0.1, 0.2]), num_units=6)
    np.testing.assert_allclose(state.params["z"], [2 - 3j] * 2, atol=0.05)
    assert (np.diff(curves["loss"]) < 0).all()
