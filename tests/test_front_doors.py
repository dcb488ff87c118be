"""Pure functions, steps and modules of a user's own in a study: the promises that tables have."""

import math
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pandas as pd
import pytest

import jaxopt_lab as lab
from jaxopt_lab.core.compilation import Compiler
from jaxopt_lab.core.errors import MachineError, UserError
from jaxopt_lab.core.hparams import Hparams
from jaxopt_lab.problems.general.programs import StaticProgram


def train(key: Any, hparams: Any, *, num_units: int = 32) -> dict[str, Any]:
    """Descent on a bowl from a random start."""
    start = jax.random.normal(key, (num_units,))

    def step(x: Any, _: None) -> Any:
        x = x - hparams["learning_rate"] * 2.0 * x
        return x, jnp.mean(x**2)

    end, losses = jax.lax.scan(step, start, None, length=20)
    return {"loss": losses[-1], "curve": losses, "end": end[:3]}


FUNCTION_SPACE = lab.SearchSpace(
    learning_rate=lab.LogUniform(1e-3, 1.0), num_units=lab.Choice([32, 64])
)


def function_problem() -> Any:
    return lab.from_function(train, objective="loss", num_seeds=3)


def build(*, momentum: float = 0.0) -> lab.Trainable:
    def init(key: Any, hparams: Any) -> Any:
        return {"x": jax.random.normal(key, (4,)), "v": jnp.zeros(4), "key": key}

    def step(state: Any, hparams: Any, shared: lab.Shared) -> Any:
        key, now = jax.random.split(state["key"])
        noise = jax.random.normal(now, (4,)) + 0.1 * jax.random.normal(shared.key, (4,))
        v = momentum * state["v"] - hparams.learning_rate * (2 * state["x"] + 0.1 * noise)
        return {"x": state["x"] + v, "v": v, "key": key}, {"speed": jnp.linalg.norm(v)}

    def evaluate(state: Any, hparams: Any, shared: lab.Shared) -> Any:
        return {"episode_return": -jnp.sum(state["x"] ** 2)}

    return lab.Trainable(init, step, evaluate, result=lambda state: state["x"])


STEPS_SPACE = lab.SearchSpace(
    learning_rate=lab.LogUniform(1e-3, 0.5), momentum=lab.Choice([0.0, 0.5])
)


def steps_problem() -> Any:
    return lab.from_steps(build, objective="episode_return", direction="maximize", num_seeds=2)


def model(*, features: int = 4) -> nn.Module:
    class Network(nn.Module):
        @nn.compact
        def __call__(self, x: Any, train: bool = False) -> Any:
            x = nn.BatchNorm(use_running_average=not train)(nn.Dense(features)(x))
            return nn.Dense(3)(nn.relu(x))

    return Network()


def arrays() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(90, 5)).astype(np.float32)
    return x, np.argmax(x[:, :3], axis=1).astype(np.int32)


SUPERVISED_SPACE = lab.SearchSpace(
    learning_rate=lab.LogUniform(1e-3, 1e-1),
    clip_norm=lab.LogUniform(0.1, 10.0),
    features=lab.Choice([4, 8]),
)


def supervised_problem() -> Any:
    return lab.supervised(
        model,
        arrays(),
        loss=optax.softmax_cross_entropy_with_integer_labels,
        optimizer=lambda h: optax.chain(
            optax.clip_by_global_norm(h["clip_norm"]), optax.adamw(h["learning_rate"])
        ),
        metrics={"accuracy": lab.metrics.accuracy},
        objective="accuracy",
        direction="maximize",
        splits=2,
        batch_size=16,
    )


DOORS: dict[str, tuple[Callable[[], Any], lab.SearchSpace, int]] = {
    "function": (function_problem, FUNCTION_SPACE, 1),
    "steps": (steps_problem, STEPS_SPACE, 6),
    "supervised": (supervised_problem, SUPERVISED_SPACE, 3),
}
#: The choice that makes two programs of a door's space; tests about bits do with one.
STATIC = {"function": {"num_units": 32}, "steps": {"momentum": 0.5}, "supervised": {"features": 4}}
each_door = pytest.mark.parametrize("door", DOORS)
#: Modules compile long; of them the table's own tests say the same.
each_quick_door = pytest.mark.parametrize(
    "door",
    [pytest.param(d, marks=pytest.mark.slow) if d == "supervised" else d for d in DOORS],
)


def make(door: str, directory: Path | None = None, **options: Any) -> lab.Study:
    problem, space, _ = DOORS[door]
    return lab.Study(problem(), space, directory, seed=0, **options)


def make_plain(door: str, directory: Path | None = None, **options: Any) -> lab.Study:
    """A study of one program."""
    problem, space, _ = DOORS[door]
    space = lab.SearchSpace(**{**space.parameters, **STATIC[door]})
    return lab.Study(problem(), space, directory, seed=0, **options)


def search(study: lab.Study, door: str, num_trials: int = 8, **options: Any) -> lab.Study:
    study.optimize(lab.search.random(), num_trials, budget=DOORS[door][2], **options)
    return study


@pytest.fixture(scope="module")
def searched() -> dict[str, lab.Study]:
    return {door: search(make(door), door) for door in DOORS}


@each_door
def test_a_search_ends_with_one_row_per_trial(searched: dict[str, Any], door: str) -> None:
    study = searched[door]
    frame = study.trials
    assert len(frame) == 8
    wanted = {"trial_id", "status", "score", "standard_error", *study.space.names}
    assert wanted <= set(frame.columns)
    assert set(frame["status"]) == {"completed"}
    best = frame["score"].min() if study.problem.objective.sign == 1 else frame["score"].max()
    assert study.best.score == best
    assert study.best.trial_id == frame["trial_id"][frame["score"] == best].iloc[0]


@each_door
def test_scores_are_means_over_members(searched: dict[str, Any], door: str) -> None:
    study = searched[door]
    values = study.metrics(study.problem.objective.metric)
    last = values if door == "function" else values[:, :, -1]
    count = study.problem.num_members
    assert last.shape == (8, count)
    np.testing.assert_allclose(study.trials["score"], last.mean(axis=1), rtol=1e-6)
    errors = last.std(axis=1, ddof=1) / math.sqrt(count)
    np.testing.assert_allclose(study.trials["standard_error"], errors, rtol=1e-4, atol=1e-9)


def test_arrays_are_kept_in_any_shape(searched: dict[str, Any]) -> None:
    study = searched["function"]
    assert study.metrics("curve").shape == (8, 3, 20)
    assert study.metrics("end").shape == (8, 3, 3)
    np.testing.assert_array_equal(study.metrics("curve")[:, :, -1], study.metrics("loss"))
    with pytest.raises(UserError, match=r"no metric 'curv' is stored.*Did you mean 'curve'"):
        study.metrics("curv")


def test_a_trial_is_what_its_function_gives_alone(searched: dict[str, Any]) -> None:
    """The key of (trial, replicate, member) is all that a trial gets from its study."""
    study, root = searched["function"], jax.random.key(0, impl="threefry2x32")
    row = study.trials.iloc[5]
    for member in range(3):
        key = root
        for number in (5, 0, member, 1):
            key = jax.random.fold_in(key, number)
        hparams = {"learning_rate": np.float32(row["learning_rate"])}
        alone = jax.jit(lambda k, h=hparams: train(k, h, num_units=int(row["num_units"])))(key)
        np.testing.assert_allclose(study.metrics("loss")[5, member], alone["loss"], rtol=1e-5)


@pytest.mark.usefixtures("as_users_compile")
@each_door
def test_any_company_is_bitwise_the_same(door: str) -> None:
    """Trials proposed one at a time, in cohorts of the same width, learn the same."""
    whole = search(make_plain(door, cohort_width=4), door)
    widths = whole.store.setting("widths")
    single = make_plain(door, cohort_width=4)
    search(single, door, round_size=3)
    assert single.store.setting("widths") == widths
    name = whole.problem.objective.metric
    np.testing.assert_array_equal(single.metrics(name), whole.metrics(name))


@pytest.mark.usefixtures("as_users_compile")
@each_quick_door
def test_survivors_of_rungs_are_bitwise_the_trials_that_never_stopped(door: str) -> None:
    if door == "function":
        pytest.skip("one unit has no rungs")
    whole = search(make_plain(door, cohort_width=1), door)
    halving = lab.schedulers.successive_halving(reduction=3)
    halved = search(make_plain(door, cohort_width=1), door, scheduler=halving)
    name = whole.problem.objective.metric
    done = np.flatnonzero(halved.trials["status"] == "completed")
    assert 1 <= len(done) < 8
    np.testing.assert_array_equal(halved.metrics(name)[done], whole.metrics(name)[done])


@pytest.mark.usefixtures("as_users_compile")
@each_quick_door
def test_a_stored_study_goes_on(door: str, tmp_path: Path) -> None:
    # The first search fixes the cohort width, which is part of what makes results bitwise the same.
    whole = search(make_plain(door, tmp_path / "whole", cohort_width=1), door, round_size=4)
    with make_plain(door, tmp_path / "cut", cohort_width=1) as cut:
        search(cut, door, num_trials=4)
    again = search(make_plain(door, tmp_path / "cut", cohort_width=1), door, round_size=4)
    assert again.trials.equals(whole.trials)
    name = whole.problem.objective.metric
    np.testing.assert_array_equal(again.metrics(name), whole.metrics(name))


def sequential_problem() -> Any:
    def squash(x: Any) -> Any:  # a function of its own each time, as in each process
        return nn.relu(x)

    return lab.supervised(
        nn.Sequential([nn.Dense(4), squash, nn.Dense(3)]),
        arrays(),
        loss=optax.softmax_cross_entropy_with_integer_labels,
        optimizer=lambda h: optax.adam(h["learning_rate"]),
    )


def partial_problem() -> Any:
    def scaled(scale: float, key: Any, hparams: Any) -> dict[str, Any]:
        return {"loss": scale * hparams["learning_rate"]}

    return lab.from_function(partial(scaled, 2.0))


def partial_steps_problem() -> Any:
    def scaled(scale: float) -> lab.Trainable:
        return build(momentum=scale)

    return lab.from_steps(partial(scaled, 0.5), objective="episode_return")


@pytest.mark.parametrize(
    "problem",
    [sequential_problem, partial_problem, partial_steps_problem],
    ids=lambda p: p.__name__,
)
def test_a_study_is_known_again_in_another_process(
    problem: Callable[[], Any], tmp_path: Path
) -> None:
    # The `repr` of a module or a partial has addresses of functions, which differ by process.
    space = lab.SearchSpace(learning_rate=lab.LogUniform(1e-3, 1e-1))
    problems = [problem(), problem()]
    for one in problems:
        with lab.Study(one, space, tmp_path):
            pass
    # As versions before stored it.
    with lab.Study(problems[0], space, tmp_path) as study:
        study.store.set("task", problems[0].describe())
    with lab.Study(problems[1], space, tmp_path) as study:
        assert study.store.setting("task")["kind"] == problems[1].kind


def test_another_module_is_another_study(tmp_path: Path) -> None:
    space = lab.SearchSpace(learning_rate=lab.LogUniform(1e-3, 1e-1))
    with lab.Study(sequential_problem(), space, tmp_path):
        pass
    other = lab.supervised(
        nn.Sequential([nn.Dense(5), nn.relu, nn.Dense(3)]),
        arrays(),
        loss=optax.softmax_cross_entropy_with_integer_labels,
        optimizer=lambda h: optax.adam(h["learning_rate"]),
    )
    with pytest.raises(UserError, match=r"features = 4.* there, .*features = 5.* now"):
        lab.Study(other, space, tmp_path)


def test_the_best_module_predicts(searched: dict[str, Any]) -> None:
    best, (x, _) = searched["supervised"].best, arrays()
    outputs = best.module.apply(best.variables, x)
    assert outputs.shape == (90, 3)
    assert best.params["Dense_0"]["kernel"].shape == (5, best.hyperparameters["features"])
    assert best.curves[0]["accuracy"].shape == (3,)


def test_a_population_is_one_pytree(searched: dict[str, Any]) -> None:
    study = searched["steps"]
    found = study.population()
    assert found.result.shape == (16, 4)
    assert found.trial_ids.tolist() == [i for i in range(8) for _ in range(2)]
    with pytest.raises(UserError, match="of 2 shapes"):
        searched["supervised"].population()
    narrow = searched["supervised"].population(features=4)
    assert narrow.result["params"]["Dense_0"]["kernel"].shape[1:] == (5, 4)


def test_how_many_results_are_kept_is_the_users_to_say() -> None:
    study = search(make("steps", keep=3), "steps")
    assert len(set(study.population().trial_ids.tolist())) == 3


def test_tables_of_members_and_curves(searched: dict[str, Any]) -> None:
    study = searched["steps"]
    assert len(study.members) == 16
    assert {"trial_id", "fold", "score", "num_units"} <= set(study.members.columns)
    curves = study.curves()
    assert len(curves) == 16 * 6
    assert {"trial_id", "fold", "unit", "speed", "episode_return"} <= set(curves.columns)


def test_trials_trained_elsewhere_live_in_the_same_study() -> None:
    study = make("steps")
    asked = study.ask(3)
    assert [trial.trial_id for trial in asked] == [0, 1, 2]
    assert study.tell(asked[:2], [-1.0, None]) == [0, 1]
    mine = {"learning_rate": 0.1, "momentum": 0.5}
    assert study.tell([mine], [-0.5]) == [3]
    frame = study.trials
    assert frame["status"].tolist() == ["completed", "infeasible", "pending", "completed"]
    assert study.best.trial_id == 3
    assert study.best.score == -0.5
    with pytest.raises(UserError, match=r"momentum = 0\.7"):
        study.tell([{"learning_rate": 0.1, "momentum": 0.7}], [1.0])
    with pytest.raises(UserError, match="trial 0 is not one that was asked for"):
        study.tell([asked[0]], [1.0])
    with pytest.raises(UserError, match=r"a value must be a number, .* got 'good'"):
        study.tell([mine], ["good"])
    with pytest.raises(UserError, match="tell takes a list of trials and a list of values"):
        study.tell([mine], 1.0)
    study.optimize(lab.search.bayesian(), 4, budget=2)
    assert len(study.trials) == 8


def test_a_diverging_trial_is_infeasible_and_harms_nobody() -> None:
    def init(key: Any, hparams: Any) -> Any:
        return jnp.ones(())

    def step(x: Any, hparams: Any, shared: lab.Shared) -> Any:
        x = x * hparams["factor"]
        return x, {"loss": x}

    problem = lab.from_steps(lambda: lab.Trainable(init, step))
    space = lab.SearchSpace(factor=lab.Choice([0.5, 1e30]))
    study = lab.Study(problem, space, seed=0)
    study.optimize(lab.search.grid(), 2, budget=4)
    frame = study.trials
    assert frame["status"].tolist() == ["completed", "infeasible"]
    assert "loss was not finite after step 2" in frame["reason"][1]
    assert "last finite value 1e+30" in frame["reason"][1]
    assert study.best.hyperparameters == {"factor": 0.5}
    assert np.isnan(study.metrics("loss")[1, 0, 1:]).all()


def drops(key: Any, hparams: Any) -> Any:
    layer = nn.Dropout(hparams["x"], deterministic=False)
    return {"loss": layer.apply({}, jnp.ones(3), rngs={"dropout": key}).sum()}


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (drops, "on x .*or use lab.models.Dropout, whose rate may be traced"),
        (lambda hparams: {"loss": 1.0}, r"is called with \(key, hparams\), but is written with"),
        (lambda key, hparams: {"loss": 1.0, "tag": "a"}, r"metrics\['tag'\] is the text 'a'"),
        (
            lambda key, hparams: {"loss": 1.0, "all": {"a": 1}},
            "'all' must be one array, got a dict",
        ),
        (lambda key, hparams: {"loss": 1.0, "none": None}, "'none' must be one array, got None"),
        (lambda key, hparams: hparams.__setitem__("x", 1.0), "hyperparameters cannot be changed"),
        (
            lambda key, x: {"loss": x**2},
            r"takes x where .*\(key, hparams, .* hparams\['x'\]",
        ),
        (
            lambda key, *, x: {"loss": x**2},
            r"\(key, \*, x\).*hparams holds all traced hyper",
        ),
    ],
)
def test_a_wrong_function_is_one_line(function: Any, message: str) -> None:
    with pytest.raises(UserError, match=message) as refused:
        lab.Study(lab.from_function(function), lab.SearchSpace(x=lab.Uniform(0.0, 1.0)), seed=0)
    assert "\n" not in str(refused.value)


def test_what_is_no_problem_space_sampler_or_scheduler_is_told_by_its_mend() -> None:
    with pytest.raises(UserError, match=r"a study takes a problem, from lab\.from_function"):
        lab.Study(train, FUNCTION_SPACE)
    with pytest.raises(UserError, match=r"got a dict; give lab\.SearchSpace\(\*\*space\)"):
        lab.Study(function_problem(), {"learning_rate": lab.Uniform(0.0, 1.0)})
    study = make("steps")
    with pytest.raises(UserError, match=r"sampler must be .*; call it: bayesian\(\)"):
        study.optimize(lab.search.bayesian, 2, budget=2)
    with pytest.raises(UserError, match=r"scheduler must be .*; call it: hyperband\(\)"):
        study.optimize("random", 2, budget=2, scheduler=lab.schedulers.hyperband)


@pytest.mark.parametrize("data", [{"names": ["a"]}, np.array(["a"]), pd.DataFrame({"a": [1.0]})])
def test_data_of_steps_that_are_no_arrays_of_numbers_are_refused(data: Any) -> None:
    with pytest.raises(UserError, match="data must be arrays of numbers"):
        lab.from_steps(build, data=data)
    assert lab.from_steps(build, data=({"scale": 0.5}, np.ones(3))).kind == "steps"


def test_data_that_are_no_numbers_are_named_where_everything_diverged() -> None:
    x, y = np.ones((20, 2), "float32"), np.ones(20, "float32")
    x[4, 1] = np.nan
    problem = lab.supervised(
        lambda: nn.Dense(1), (x, y[:, None]),
        loss=lambda outputs, targets: (outputs - targets)[:, 0] ** 2,
        optimizer=lambda h: optax.sgd(h["rate"]), splits=2, batch_size=8,
    )  # fmt: skip
    study = lab.Study(problem, lab.SearchSpace(rate=lab.Uniform(0.0, 0.1)), seed=0)
    study.optimize("random", 1, budget=1)
    with pytest.raises(MachineError, match=r"inputs hold NaN or infinity, in row 4 first"):
        _ = study.best


def test_everything_diverged_says_so() -> None:
    problem = lab.from_function(lambda key, hparams: {"loss": jnp.nan * hparams["x"]})
    study = lab.Study(problem, lab.SearchSpace(x=lab.Uniform(0.0, 1.0)), seed=0)
    study.optimize("random", 3)
    with pytest.raises(MachineError, match="every trial diverged"):
        _ = study.best


def test_a_plan_says_which_executor_and_why() -> None:
    text = str(make("supervised").plan(8, budget=3))
    assert "features=4; vmap: " in text
    assert "2 programs" in text


@pytest.mark.parametrize("executor", ["vmap", "map"])
def test_an_executor_can_be_insisted_on(executor: str) -> None:
    problem = lab.from_steps(build, objective="episode_return", executor=executor)
    study = lab.Study(problem, STEPS_SPACE, seed=0)
    study.optimize("random", 4, budget=2)
    assert f"{executor}: " in str(study.plan(4, budget=2))
    vmapped = lab.Study(lab.from_steps(build, objective="episode_return"), STEPS_SPACE, seed=0)
    vmapped.optimize("random", 4, budget=2)
    np.testing.assert_allclose(
        study.metrics("episode_return"), vmapped.metrics("episode_return"), rtol=1e-5
    )


def test_static_choices_reach_hparams_as_python_values() -> None:
    seen = []

    def train(key: Any, hparams: Any) -> dict[str, Any]:
        config = {"other": 1, **hparams}
        seen.append(config["width"])
        return {"loss": jnp.sum(jnp.ones(config["width"])) * hparams.scale}

    space = lab.SearchSpace(width=lab.Choice([4, 16], static=True), scale=lab.Uniform(0.1, 1.0))
    study = lab.Study(lab.from_function(train), space, seed=0)
    study.optimize("random", 6)
    assert set(seen) == {4, 16}
    assert all(type(width) is int for width in seen)
    np.testing.assert_allclose(
        study.trials["score"], study.trials["width"] * study.trials["scale"], rtol=1e-5
    )


def test_a_real_range_with_whole_ends_trains_its_real_values() -> None:
    def train(key: Any, hparams: Any) -> dict[str, Any]:
        return {"loss": hparams.share * 1.0, "rate": hparams.rate * 1.0, "n": hparams.n * 1.0}

    space = lab.SearchSpace(
        share=lab.Uniform(0, 1), rate=lab.LogUniform(1, 10), n=lab.IntUniform(1, 9)
    )
    study = lab.Study(lab.from_function(train), space, seed=0)
    study.optimize("random", 4)
    found = study.trials
    np.testing.assert_allclose(found["score"], found["share"], rtol=1e-6)
    np.testing.assert_allclose(study.metrics("rate")[:, 0], found["rate"], rtol=1e-6)
    assert list(study.metrics("n")[:, 0]) == list(found["n"])


@each_door
def test_programs_lower_for_accelerators(door: str) -> None:
    """Traced and lowered on a CPU, as they would be for an accelerator."""
    problem, space, budget = DOORS[door]
    training = problem().training(space, None, 0)
    config = training.complete(space.from_unit(np.full((1, space.num_dims), 0.5))[0])
    program = training.declared
    static = {k: config[k] for k in program.static}
    trainable = training.trainable(StaticProgram(static), on_cpu=False)
    key = jax.random.key(0)
    traced = {name: np.zeros((), kind) for name, kind in program.dtypes.items()}
    hparams = Hparams(traced, static)
    state = jax.eval_shape(trainable.init, key, hparams)
    zero = np.zeros((), np.int32)
    shared = lab.Shared(key, zero, zero + budget, zero, training.data)
    population = jax.tree.map(lambda x: jax.ShapeDtypeStruct((3, *x.shape), x.dtype), state)
    stacked = jax.tree.map(lambda x: np.stack([x] * 3), hparams)
    step = jax.jit(jax.vmap(trainable.step, in_axes=(0, 0, None)))
    traced = step.trace(population, stacked, shared)
    for platform in ("cuda", "tpu"):
        lowered = traced.lower(lowering_platforms=(platform,))
        assert "func.func public @main" in lowered.as_text()


def test_a_target_is_reached_from_below_where_the_objective_is_maximised() -> None:
    study = make("steps")
    rule = lab.stopping.target(-1e6)
    study.optimize("random", 8, budget=2, stopping=rule, round_size=2)
    assert len(study.trials) == 2
    other = make("steps")
    other.optimize("random", 8, budget=2, stopping=lab.stopping.target(1.0), round_size=2)
    assert len(other.trials) == 8


@pytest.mark.parametrize("where", ["the wait", "the compilation"])
def test_an_interruption_while_compiling_leaves_a_study_that_goes_on(
    monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Whatever was begun in the background is waited for again, or compiled anew."""
    study = make("steps")
    owner, name = (Future, "result") if where == "the wait" else (Compiler, "compile_lowered")
    original, raised = getattr(owner, name), []

    def interrupted(self: Any, *args: Any) -> Any:
        if not raised:
            raised.append(True)
            raise KeyboardInterrupt
        return original(self, *args)

    monkeypatch.setattr(owner, name, interrupted)
    with pytest.raises(KeyboardInterrupt):
        search(study, "steps")
    assert raised
    whole = search(make("steps"), "steps")
    search(study, "steps")
    np.testing.assert_array_equal(study.metrics("episode_return"), whole.metrics("episode_return"))


@pytest.mark.parametrize("sampler", ["random", "bayesian"])
def test_lists_and_none_are_choices(sampler: str) -> None:
    """Text, lists and None are static: the builder or `hparams` get Python values."""

    def train(key: Any, hparams: Any, *, widths: Any = (4,)) -> dict[str, Any]:
        scale = 1.0 if hparams["clip"] is None else hparams["clip"]
        return {"loss": jnp.sum(jnp.ones(sum(widths))) * scale * hparams["rate"]}

    space = lab.SearchSpace(
        widths=lab.Choice([[4], [4, 8]]),
        clip=lab.Choice([None, 0.5]),
        rate=lab.Uniform(0.5, 1.0),
    )
    study = lab.Study(lab.from_function(train), space, seed=0)
    study.optimize(sampler, 8, round_size=4)
    frame = study.trials
    assert set(frame["status"]) == {"completed"}
    assert set(frame["widths"]) <= {(4,), (4, 8)}
    assert study.best.hyperparameters["widths"] == (4,)
