"""What users get wrong in their own functions: one line with function, name and mend."""

import builtins
import random
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxopt_lab.core.errors import UserError
from jaxopt_lab.core.objective import Objective
from jaxopt_lab.core.tracing.arguments import check_arguments, check_keywords, keywords_of
from jaxopt_lab.core.tracing.check import check_trainable, refuse_unread
from jaxopt_lab.core.trainable import Trainable

TRACED = {"learning_rate": np.float32(0.1), "num_layers": np.int32(3)}
STATIC = {"activation": "relu", "schedule": None}
LEAKED: list[Any] = []
CALLS = [0]


def init(key: Any, hparams: Any) -> Any:
    """A state of two leaves."""
    return {"w": jax.random.normal(key, (3,)), "t": 0}


def step(state: Any, hparams: Any, shared: Any) -> Any:
    """Gradient descent on a sum of squares."""
    w = state["w"] * (1 - hparams["learning_rate"])
    return {"w": w, "t": state["t"] + 1}, {"loss": jnp.sum(w**2)}


def branch(state: Any, hparams: Any, shared: Any) -> Any:
    if hparams["num_layers"] > 2:
        return step(state, hparams, shared)
    return state, {"loss": 0.0}


def branch_on_two(state: Any, hparams: Any, shared: Any) -> Any:
    if hparams.num_layers * hparams.learning_rate > 2:
        return step(state, hparams, shared)
    return state, {"loss": 0.0}


@jax.jit
def halve(rate: Any) -> Any:
    return rate / 2 if rate > 1 else rate


def branch_inside_jit(state: Any, hparams: Any, shared: Any) -> Any:
    return state, {"loss": state["w"].sum() * halve(hparams.learning_rate)}


def branch_in_optax(state: Any, hparams: Any, shared: Any) -> Any:
    sgd = optax.sgd(0.1, 0.9, nesterov=hparams["num_layers"])
    updates, _ = sgd.update(state["w"], sgd.init(state["w"]))
    return state, {"loss": updates.sum()}


def schedule_of_optax(state: Any, hparams: Any, shared: Any) -> Any:
    schedule = optax.cosine_decay_schedule(0.1, hparams["num_layers"])
    return state, {"loss": state["w"].sum() * schedule(state["t"])}


def branch_on_state(state: Any, hparams: Any, shared: Any) -> Any:
    while state["w"].sum() > 1:
        state = {**state, "w": state["w"] / 2}
    return state, {"loss": state["w"].sum()}


def shape(state: Any, hparams: Any, shared: Any) -> Any:
    return state, {"loss": jnp.ones((hparams["num_layers"], 3)).sum()}


def count(state: Any, hparams: Any, shared: Any) -> Any:
    return state, {"loss": sum(state["w"][0] for _ in range(hparams["num_layers"]))}


def index(state: Any, hparams: Any, shared: Any) -> Any:
    return state, {"loss": state["w"].sum() * [1.0, 2.0][hparams["num_layers"]]}


def as_float(state: Any, hparams: Any, shared: Any) -> Any:
    return state, {"loss": state["w"].sum() * float(hparams["learning_rate"])}


def as_int(state: Any, hparams: Any, shared: Any) -> Any:
    return state, {"loss": state["w"].sum() * hparams["num_layers"].item()}


def length(state: Any, hparams: Any, shared: Any) -> Any:
    return state, {"loss": jnp.arange(hparams["num_layers"]).sum() * 1.0}


def as_numpy(state: Any, hparams: Any, shared: Any) -> Any:
    return state, {"loss": state["w"].sum() * np.exp(np.asarray(hparams["learning_rate"]))}


def look_up(state: Any, hparams: Any, shared: Any) -> Any:
    return state, {"loss": state["w"].sum() * {2: 0.1, 3: 0.2}[hparams["num_layers"]]}


def select(state: Any, hparams: Any, shared: Any) -> Any:
    return state, {"loss": state["w"][jnp.arange(3) < hparams["num_layers"]].sum()}


def multiply_text(state: Any, hparams: Any, shared: Any) -> Any:
    return state, {"loss": state["w"].sum() * (hparams["activation"] * 2.0)}


def add_none(state: Any, hparams: Any, shared: Any) -> Any:
    return state, {"loss": state["w"].sum() * (hparams["schedule"] + 1)}


def misspelt(state: Any, hparams: Any, shared: Any) -> Any:
    return state, {"loss": state["w"].sum() * hparams["learnin_rate"]}


def misspelt_attribute(state: Any, hparams: Any, shared: Any) -> Any:
    return state, {"loss": state["w"].sum() * hparams.learnin_rate}


def misspelt_in_a_copy(state: Any, hparams: Any, shared: Any) -> Any:
    config = {"width": 3, **hparams}
    return state, {"loss": state["w"].sum() * config["learnin_rate"]}


def no_pair(state: Any, hparams: Any, shared: Any) -> Any:
    return state


def three(state: Any, hparams: Any, shared: Any) -> Any:
    return state, {"loss": 0.0}, {}


def no_mapping(state: Any, hparams: Any, shared: Any) -> Any:
    return state, state["w"].sum()


def nested(state: Any, hparams: Any, shared: Any) -> Any:
    return state, {"loss": {"train": 0.0}}


def text_metric(state: Any, hparams: Any, shared: Any) -> Any:
    return state, {"loss": 0.0, "optimizer": "adam"}


def key_metric(state: Any, hparams: Any, shared: Any) -> Any:
    return state, {"loss": 0.0, "noise": shared.key}


def numbered(state: Any, hparams: Any, shared: Any) -> Any:
    return state, {0: 0.0}


def vector(state: Any, hparams: Any, shared: Any) -> Any:
    return state, {"loss": state["w"]}


def whole_number(state: Any, hparams: Any, shared: Any) -> Any:
    return state, {"loss": state["t"]}


def other_name(state: Any, hparams: Any, shared: Any) -> Any:
    return state, {"train_loss": 0.0, "lose": 0.0}


def lost_leaf(state: Any, hparams: Any, shared: Any) -> Any:
    return {"w": state["w"]}, {"loss": 0.0}


def new_leaf(state: Any, hparams: Any, shared: Any) -> Any:
    return {**state, "best": 0.0}, {"loss": 0.0}


def other_dtype(state: Any, hparams: Any, shared: Any) -> Any:
    return {**state, "t": state["t"] / 2}, {"loss": 0.0}


def other_shape(state: Any, hparams: Any, shared: Any) -> Any:
    return {**state, "w": jnp.append(state["w"], 0.0)}, {"loss": 0.0}


def other_container(state: Any, hparams: Any, shared: Any) -> Any:
    return {**state, "pair": list(state["pair"])}, {"loss": 0.0}


def numpy_noise(state: Any, hparams: Any, shared: Any) -> Any:
    return state, {"loss": state["w"].sum() + np.random.rand()}  # noqa: NPY002


def python_noise(state: Any, hparams: Any, shared: Any) -> Any:
    return state, {"loss": state["w"].sum() + random.random()}


def clock(state: Any, hparams: Any, shared: Any) -> Any:
    return state, {"loss": state["w"].sum() + time.perf_counter()}


def wall_clock(state: Any, hparams: Any, shared: Any) -> Any:
    key = jax.random.key(int(time.time()))
    return state, {"loss": state["w"].sum() + jax.random.normal(key)}


def calendar(state: Any, hparams: Any, shared: Any) -> Any:
    return state, {"loss": state["w"].sum() * datetime.now().hour}


def imported_clock(state: Any, hparams: Any, shared: Any) -> Any:
    import time

    return state, {"loss": state["w"].sum() + time.time()}


def imported_calendar(state: Any, hparams: Any, shared: Any) -> Any:
    from datetime import datetime as calendar

    return state, {"loss": state["w"].sum() * calendar.now().minute}


def seed_of_a_rate(state: Any, hparams: Any, shared: Any) -> Any:
    key = jax.random.PRNGKey(hparams.learning_rate)
    return state, {"loss": jnp.where(hparams.num_layers > 2, jax.random.normal(key), 0.0)}


def one_hyperparameter(state: Any, learning_rate: Any, shared: Any) -> Any:
    return state, {"loss": learning_rate**2}


def stopwatch(state: Any, hparams: Any, shared: Any) -> Any:
    begun = time.time()
    loss = state["w"].sum() * hparams.learning_rate
    assert time.time() >= begun
    return state, {"loss": loss}


def counter(state: Any, hparams: Any, shared: Any) -> Any:
    CALLS[0] += 1
    return state, {"loss": state["w"].sum() * np.full(3, CALLS[0]).sum()}


def leak(state: Any, hparams: Any, shared: Any) -> Any:
    LEAKED.append(state["w"] * 2)
    return state, {"loss": state["w"].sum()}


def missing_file(state: Any, hparams: Any, shared: Any) -> Any:
    raise FileNotFoundError("no such\nfile: weights.npz")


def wrong_product(state: Any, hparams: Any, shared: Any) -> Any:
    return state, {"loss": state["w"] @ jnp.ones((4, 2))}


def exchanged(hparams: Any, state: Any, shared: Any) -> Any:
    return state, {"loss": 0.0}


def two_arguments(state: Any, hparams: Any) -> Any:
    return state, {"loss": 0.0}


def dict_of_nothing() -> Any:
    return {}


def key_init(key: Any) -> Any:
    return {"w": jnp.ones(3)}


def object_init(key: Any, hparams: Any) -> Any:
    return {"w": jnp.ones(3), "apply": {"fn": step}}


def pair_init(key: Any, hparams: Any) -> Any:
    return {"w": jnp.ones(3), "pair": (0.0, 1.0)}


def repeated(state: Any, hparams: Any, shared: Any) -> Any:
    return {"loss": state["w"].sum()}


def check(trainable: Any, traced: Any = None, static: Any = None, **changed: Any) -> Any:
    """Check a trainable as a study does."""
    keywords = {"objective": "loss", "source": "build", **changed}
    found = check_trainable(
        lambda: trainable,
        traced=traced or TRACED,
        static=STATIC if static is None else static,
        **keywords,
    )
    refuse_unread(found, keywords["source"])
    return found


MISTAKES: dict[str, tuple[Callable[..., Any], list[str]]] = {
    "a branch": (
        branch,
        ["branch ", "on num_layers", "num_layers a keyword of build", "lab.Choice"],
    ),
    "a branch on two": (branch_on_two, ["learning_rate and num_layers", "keywords of build"]),
    "a branch inside jit": (branch_inside_jit, ["in halve", "on learning_rate", "lax.cond"]),
    "a branch in a library": (branch_in_optax, ["branch_in_optax", "num_layers", "keyword"]),
    "a schedule of Optax's": (
        schedule_of_optax,
        ["schedule_of_optax gives optax.cosine_decay", "use lab.schedules.cosine_decay_schedule"],
    ),
    "a branch on the state": (branch_on_state, ["state['w']", "while_loop"]),
    "a shape": (shape, ["makes a shape of num_layers", "keyword of build"]),
    "range()": (count, ["range() with num_layers", "keyword of build"]),
    "an index": (index, ["num_layers as a Python integer", "keyword of build"]),
    "float()": (as_float, ["learning_rate", "float()", "keyword"]),
    "item()": (as_int, ["num_layers", "item()", "keyword"]),
    "a length": (length, ["needs num_layers", "keyword"]),
    "NumPy": (as_numpy, ["gives learning_rate to NumPy", "jax.numpy"]),
    "a lookup": (look_up, ["looks num_layers up", "keyword"]),
    "a selection": (select, ["num_layers", "jnp.where"]),
    "text as a number": (multiply_text, ["TypeError", "activation is 'relu'"]),
    "None as a number": (add_none, ["TypeError", "schedule is None"]),
    "a misspelt name": (misspelt, ["'learnin_rate'", "Did you mean 'learning_rate'?"]),
    "a misspelt attribute": (misspelt_attribute, ["Did you mean 'learning_rate'?"]),
    "misspelt in a copy": (misspelt_in_a_copy, ["KeyError", "Did you mean 'learning_rate'?"]),
    "no pair": (no_pair, ["must return (state, metrics)", "a dict"]),
    "three results": (three, ["must return (state, metrics)", "a tuple of 3"]),
    "metrics without names": (no_mapping, ["{'loss': loss}", "float32[]"]),
    "nested metrics": (nested, ["'loss'", "a dict"]),
    "text among metrics": (text_metric, ["metrics['optimizer']", "the text 'adam'"]),
    "a key among metrics": (key_metric, ["'noise'", "random key"]),
    "numbered metrics": (numbered, ["names in text", "0"]),
    "a vector objective": (vector, ["'loss' must be a scalar", "float32[3]", "jnp.mean"]),
    "an integer objective": (whole_number, ["'loss' must be a float", "int32[]", "astype"]),
    "no objective": (other_name, ["'loss'", "lose, train_loss", "Did you mean 'lose'?"]),
    "a leaf lost": (lost_leaf, ["state['t'] is gone"]),
    "a leaf gained": (new_leaf, ["state['best'] is new"]),
    "another dtype": (other_dtype, ["state['t'] from int32[] to float32[]", "astype(jnp.int32)"]),
    "another shape": (other_shape, ["state['w'] from float32[3] to float32[4]"]),
    "NumPy's noise": (numpy_noise, ["not pure", "np.random", "jax.random"]),
    "Python's noise": (python_noise, ["not pure", "random", "jax.random"]),
    "the time": (clock, ["not pure", "time.perf_counter"]),
    "the time as a seed": (wall_clock, ["not pure", "time.time", "jax.random"]),
    "the calendar": (calendar, ["not pure", "datetime.now"]),
    "a clock imported inside": (imported_clock, ["not pure", "time.time"]),
    "a calendar imported inside": (imported_calendar, ["not pure", "datetime.now"]),
    "a seed that is no whole number": (seed_of_a_rate, ["random key of a real number", "fold_in"]),
    "one hyperparameter": (
        one_hyperparameter,
        ["takes learning_rate where", "(state, hparams, ...)", "hparams['learning_rate']"],
    ),
    "a mutated variable": (counter, ["not pure", "belongs in the state"]),
    "a leak": (leak, ["not pure", "LEAKED"]),
    "any exception": (missing_file, ["FileNotFoundError: no such file: weights.npz"]),
    "JAX's own exception": (wrong_product, ["TypeError", "(3,) and (4,)"]),
    "exchanged arguments": (exchanged, ["(state, hparams, shared)", "exchange them"]),
    "too few arguments": (two_arguments, ["(state, hparams, shared)", "(state, hparams)"]),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_wrong_step_is_one_line(name: str) -> None:
    function, expected = MISTAKES[name]
    with pytest.raises(UserError) as refused:
        check(Trainable(init, function))
    message = str(refused.value)
    named = "build" if "objective" in name else function.__name__
    for part in (named, *expected):
        assert part in message, message
    assert "\n" not in message
    assert len(message) < 420, message


@pytest.mark.parametrize(
    "name",
    ["a branch", "a shape", "a misspelt name", "any exception", "too few arguments", "a leak"],
)
def test_the_cause_stays_visible_and_the_place_is_named(name: str) -> None:
    with pytest.raises(UserError) as refused:
        check(Trainable(init, MISTAKES[name][0]))
    assert refused.value.__cause__ is not None
    if name not in ("too few arguments", "a leak"):
        line = MISTAKES[name][0].__code__.co_firstlineno + 1
        assert f"(test_mistakes.py, line {line})" in str(refused.value)


@pytest.mark.parametrize(
    ("trainable", "expected"),
    [
        (Trainable(key_init, step), ["key_init", "(key, hparams)", "(key)"]),
        (Trainable(object_init, step), ["object_init", "state['apply']['fn']", "no array"]),
        (Trainable(pair_init, other_container), ["other_container", "containers"]),
        (Trainable(init, step, repeated), ["step and repeated", "'loss'"]),
        (Trainable(init, step, lambda s, h, c: None), ["evaluate of build", "got None"]),
        (Trainable(init, step, result=lambda s: step), ["result of build", "a function"]),
        (Trainable(init, step, info=dict_of_nothing), ["dict_of_nothing", "(state)"]),
        (Trainable(init, 3), ["step of build", "must be a function", "int"]),
        ((init, step), ["build", "lab.Trainable(init, step, evaluate)", "tuple"]),
        (None, ["build", "NoneType"]),
    ],
)
def test_other_wrong_parts_are_one_line(trainable: Any, expected: list[str]) -> None:
    with pytest.raises(UserError) as refused:
        check(trainable)
    for part in expected:
        assert part in str(refused.value), refused.value


def test_a_builder_that_fails_is_one_line() -> None:
    def build(num_units: int) -> Any:
        return [][num_units]

    with pytest.raises(UserError, match=r"build.*IndexError: list index") as refused:
        check_trainable(lambda: build(3), source="build", objective="loss", traced=TRACED)
    assert isinstance(refused.value.__cause__, IndexError)


def test_a_builder_that_draws_is_refused_unless_it_seeds() -> None:
    def build(seed: int | None) -> Any:
        if seed is not None:
            np.random.seed(seed)  # noqa: NPY002
        start = np.random.rand(3).astype(np.float32)  # noqa: NPY002
        return Trainable(lambda key, hparams: {"w": start * hparams.learning_rate, "t": 0}, step)

    facts: dict[str, Any] = {"source": "build", "objective": "loss", "traced": TRACED}
    check_trainable(lambda: build(3), **facts)
    with pytest.raises(UserError, match=r"build is not pure: it draws from np\.random"):
        check_trainable(lambda: build(None), **facts)


def test_a_clock_that_enters_no_program_is_let_alone() -> None:
    before, importing = time.time, builtins.__import__
    check(Trainable(init, stopwatch), {"learning_rate": np.float32(0.1)}, {})
    assert time.time is before
    assert builtins.__import__ is importing


def test_circles_of_objects_are_no_leak() -> None:
    class Holder:
        def __init__(self, value: Any) -> None:
            self.value, self.own = value, self

    def hold(state: Any, hparams: Any, shared: Any) -> Any:
        rate = Holder(hparams.learning_rate * 2).value

        def turn(carry: Any, _: Any) -> Any:
            return Holder(carry * rate).value, None

        return state, {"loss": jax.lax.scan(turn, state["w"].sum(), None, length=2)[0]}

    traced = {"learning_rate": np.float32(0.1)}
    assert check(Trainable(init, hold), traced, {}).unread == ()


def test_the_users_own_refusal_passes() -> None:
    def refuse(state: Any, hparams: Any, shared: Any) -> Any:
        raise UserError("the table has no rows")

    with pytest.raises(UserError, match=r"^the table has no rows$"):
        check(Trainable(init, refuse))


def test_text_cannot_be_traced() -> None:
    with pytest.raises(UserError, match=r"'optimizer' has the value 'adam'.*keyword of build"):
        check(Trainable(init, step), traced={"optimizer": "adam"})


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"members": 0}, "num_seeds"),
        ({"members": 2.5}, "2.5"),
        ({"budget": 0}, "budget"),
        ({"budget": True}, "budget"),
    ],
)
def test_counts_are_whole_and_positive(changed: dict[str, Any], expected: str) -> None:
    with pytest.raises(UserError, match=expected):
        check(Trainable(init, step), **changed)


def test_a_range_that_nothing_reads_is_refused() -> None:
    with pytest.raises(UserError, match=r"nothing in build reads num_layers, activation and sched"):
        check(Trainable(init, step))


def test_a_misspelt_get_is_told_of_the_range_that_nothing_reads() -> None:
    def forgiving(state: Any, hparams: Any, shared: Any) -> Any:
        return state, {"loss": state["w"].sum() * hparams.get("learnin_rate", 0.1)}

    traced = {"learning_rate": np.float32(0.1)}
    with pytest.raises(UserError, match=r"reads learning_rate.*It asks for 'learnin_rate'"):
        check(Trainable(init, forgiving), traced=traced, static={})


def test_only_searched_names_are_refused() -> None:
    found = check_trainable(
        lambda: Trainable(init, step), source="build", objective="loss", traced=TRACED
    )
    refuse_unread(found, "build", names=("learning_rate",))
    with pytest.raises(UserError, match=r"reads num_layers: no metric depends on it"):
        refuse_unread(found, "build", names=("num_layers",))


def test_integers_may_be_used_as_floats() -> None:
    def divide(state: Any, hparams: Any, shared: Any) -> Any:
        rate = hparams["learning_rate"] / hparams["num_layers"]
        return {**state, "w": state["w"] * rate}, {"loss": state["w"].sum() + 0.0}

    assert check(Trainable(init, divide), static={}).read == set(TRACED)


def test_an_objective_is_given_by_name_or_whole() -> None:
    traced = {"learning_rate": np.float32(0.1)}
    goal = Objective("loss", "maximize")
    assert check(Trainable(init, step), traced, {}, objective=goal).metrics["loss"].shape == ()


def test_arguments_of_what_is_no_function() -> None:
    with pytest.raises(
        UserError, match=r"loss must be a function of \(outputs, targets\), got str"
    ):
        check_arguments("mse", "loss", ("outputs", "targets"))


def test_keywords_need_a_range_or_a_default() -> None:
    def build(*, num_units: int, depth: int = 2, **others: Any) -> None: ...

    keywords = keywords_of(build, required=...)
    assert keywords["depth"] == 2
    assert list(keywords) == ["num_units", "depth"]
    check_keywords("build", keywords, {"num_units"}, required=...)
    with pytest.raises(
        UserError, match=r"keyword 'num_units' has neither.*Did you mean 'num_unit'"
    ):
        check_keywords("build", keywords, {"num_unit", "learning_rate"}, required=...)
    with pytest.raises(UserError, match=r"no keyword 'dept'.*Did you mean 'depth'\?"):
        check_keywords("build", keywords, {"num_units"}, required=..., named=("dept",))
