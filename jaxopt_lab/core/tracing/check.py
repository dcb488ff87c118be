"""Trace a user's functions, refuse what cannot train, tell what they read and return."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from jaxopt_lab.core.errors import UserError, did_you_mean
from jaxopt_lab.core.objective import Objective
from jaxopt_lab.core.tracing.arguments import check_arguments, check_together
from jaxopt_lab.core.tracing.clocks import ShiftedClocks
from jaxopt_lab.core.tracing.dependencies import dependencies
from jaxopt_lab.core.tracing.explain import Subject, explain
from jaxopt_lab.core.tracing.leaks import is_leak, leaves_tracers
from jaxopt_lab.core.tracing.naming import listed, name_of
from jaxopt_lab.core.tracing.outputs import (
    abstract,
    check_leaves,
    check_metrics,
    check_objective,
    check_pair,
    check_state,
)
from jaxopt_lab.core.tracing.purity import RandomStates, same_program, seeds_with_a_real_number
from jaxopt_lab.core.tracing.recorded import Lookups, RecordedHparams
from jaxopt_lab.core.trainable import Shared, Trainable, no_info, no_metrics, whole_state
from jaxopt_lab.core.types import PyTree


class Checked(NamedTuple):
    """What tracing one trial found out; nothing was computed.

    Attributes:
      trainable: the functions.
      state: shapes and dtypes of the state.
      metrics: name -> shape and dtype, those of `step` and `evaluate` together.
      result: shapes and dtypes of what is kept of a trained trial.
      info: shapes and dtypes of what the host is told.
      programs: "init" (key, hparams) -> state; "unit" (state, hparams, shared) -> (state,
        metrics), `step` and `evaluate`; "result" and "info" of the state.
      read: hyperparameters that a metric, the info or a result of the user's own depends on; a
        static one counts as read when it is looked up.
      unread: the others, in the order given.
      steering: traced ones that a unit reads, so that another value in the middle of a training
        changes something; what only `init` reads, and the state carries, is none.
      missing: names that were looked up and are not there (`hparams.get`, say).
    """

    trainable: Trainable
    state: PyTree
    metrics: dict[str, Any]
    result: PyTree
    info: PyTree
    programs: dict[str, core.ClosedJaxpr]
    read: frozenset[str]
    unread: tuple[str, ...]
    steering: frozenset[str]
    missing: tuple[str, ...]


def check_trainable(
    make: Callable[[], Any],
    *,
    source: str,
    objective: Objective | str,
    traced: Mapping[str, Any],
    static: Mapping[str, Any] | None = None,
    data: PyTree = (),
    members: Any = 1,
    budget: Any = None,
    keywords: tuple[str, ...] = (),
    pure: bool = True,
) -> Checked:
    """Trace one trial's functions as an executor will call them, without computing anything.

    Args:
      make: the user's builder with its keywords; gives a `Trainable`.
      source: the builder's name in messages.
      objective: what is optimised, or the name of its metric.
      traced: name -> a value (a NumPy scalar) or shape and dtype, of hyperparameters that are
        arguments of the program.
      static: name -> Python value, of those that reach the functions as they are.
      data: arrays, or their shapes, that reach `Shared.data`.
      members: trainings of each trial.
      budget: units of a trial; None if it is not known.
      keywords: hyperparameters that the builder took; they count as read.
      pure: trace a second time, to see whether the same comes out.

    Raises:
      UserError: one line that names the function, the hyperparameter and the mend. Its cause is
        the user's exception, if there was one.
    """
    static = dict(static or {})
    metric = objective.metric if isinstance(objective, Objective) else objective
    _check_counts(source, members, budget)
    _check_traced(source, traced)
    tracing = _Tracing(make, source, dict(traced), static, abstract(data))
    found = tracing.run()
    check_objective(source, metric, found.metrics)
    if pure:
        tracing.run_again(found)
    return _with_names(found, tracing, keywords)


def refuse_unread(checked: Checked, source: str, names: tuple[str, ...] | None = None) -> None:
    """Refuse hyperparameters that are searched and that nothing reads.

    Args:
      checked: from `check_trainable`.
      source: the builder's name in messages.
      names: those that are searched; all unread ones if None.

    Raises:
      UserError: that names them.
    """
    unread = [name for name in checked.unread if names is None or name in names]
    if not unread:
        return
    hints = [did_you_mean(wrong, unread) for wrong in checked.missing]
    asked = f" It asks for {listed(map(repr, checked.missing))}." if any(hints) else ""
    it = "them" if len(unread) > 1 else "it"
    raise UserError(
        f"nothing in {source} reads {listed(unread)}: no metric depends on {it}, so searching "
        f"{it} would change nothing; use {it} (hparams[{unread[0]!r}]), or take {it} out of the "
        f"space.{asked}"
    )


class _Tracing:
    """One trial's functions, traced with the same arguments as often as is wanted."""

    def __init__(
        self,
        make: Callable[[], Any],
        source: str,
        traced: dict[str, Any],
        static: dict[str, Any],
        data: PyTree,
    ) -> None:
        self.make, self.source, self.data = make, source, data
        self.traced, self.static = traced, static
        self.lookups = Lookups()
        self._role = "build"
        self._drawn: set[str] = set()
        self._evaluates = self._builder_drew = False
        self._names: dict[str, str] = {}

    def run(self) -> Checked:
        """Build and trace everything once."""
        return self._trace(self._build())

    def run_again(self, found: Checked) -> None:
        """Trace again, leaks of tracers watched; refuse what comes out otherwise."""
        trainable = found.trainable
        clocks = ShiftedClocks()
        try:
            with clocks, jax.checking_leaks():
                again = self._trace(trainable, retries=False)
        except UserError as error:
            if not is_leak(error.__cause__) or leaves_tracers(lambda: self._trace(trainable)):
                raise
            with clocks:
                again = self._trace(trainable)
        self._compare(found, again, clocks.read)
        if self._builder_drew and not all(
            same_program(program, self._trace(self._build()).programs[role])
            for role, program in found.programs.items()
        ):
            raise UserError(
                f"{self.source} is not pure: it draws from np.random, so that it builds something "
                "else each time; use np.random.default_rng with a seed"
            )

    def _compare(self, found: Checked, again: Checked, clock: str | None) -> None:
        for role, program in found.programs.items():
            if not same_program(program, again.programs[role]):
                roles = ("step", "evaluate") if role == "unit" else (role,)
                drew = [one for one in roles if one in self._drawn]
                if drew:
                    raise _impure(self._names[drew[0]], "random")
                if clock is not None:
                    raise UserError(
                        f"{self._names[roles[0]]} is not pure: it reads the time ({clock}) while "
                        "it is traced, which becomes a constant of the program; chance belongs in "
                        "jax.random with its key, and measuring times in a callback"
                    )
                raise UserError(
                    f"{self._names[roles[0]]} is not pure: traced twice, it computes something "
                    "else the second time (a random number that is not from its key, the time, "
                    "or a variable outside it that changed); what changes belongs in the state, "
                    "and chance in jax.random with its key"
                )

    def _build(self) -> Trainable:
        states = RandomStates()
        try:
            trainable = self.make()
        except Exception as error:
            raise self._explained(error, None) from error
        self._builder_drew = states.drawn_from() == "np.random"
        if not isinstance(trainable, Trainable):
            raise UserError(
                f"{self.source} must return lab.Trainable(init, step, evaluate), got a "
                f"{type(trainable).__name__}"
            )
        self._evaluates = trainable.evaluate is not no_metrics
        for role, arguments in _ARGUMENTS.items():
            function = getattr(trainable, role)
            self._names[role] = name_of(function, _ROLES[role].format(self.source))
            check_arguments(function, self._names[role], arguments)
            if "hparams" in arguments:
                place, hparams = arguments.index("hparams"), {**self.traced, **self.static}
                check_together(function, self._names[role], place, hparams)
        return trainable

    def _trace(self, trainable: Trainable, retries: bool = True) -> Checked:
        key = jax.eval_shape(lambda: jax.random.key(0, impl="threefry2x32"))
        scalar: Any = jax.ShapeDtypeStruct((), jnp.int32)
        shared = Shared(key, scalar, scalar, scalar, self.data)
        hparams = RecordedHparams(_abstracted(self.traced), self.static, self.lookups)
        programs: dict[str, core.ClosedJaxpr] = {}

        def init(key: Any, hparams: Any) -> PyTree:
            state = self._call("init", trainable.init, key, hparams)
            check_leaves(self._names["init"], "state", state)
            return state

        programs["init"], state = self._jaxpr(init, (key, hparams), retries)

        def unit(state: PyTree, hparams: Any, shared: Any) -> tuple[PyTree, dict[str, Any]]:
            returned = self._call("step", trainable.step, state, hparams, shared)
            new, metrics = check_pair(self._names["step"], returned)
            check_leaves(self._names["step"], "state", new)
            check_state(self._names["step"], state, new)
            metrics = check_metrics(self._names["step"], metrics)
            further = self._call("evaluate", trainable.evaluate, new, hparams, shared)
            further = check_metrics(self._names["evaluate"], further)
            both = [name for name in further if name in metrics]
            if both:
                raise UserError(
                    f"{self._names['step']} and {self._names['evaluate']} both return a metric "
                    f"{both[0]!r}: give them names of their own"
                )
            return new, {**metrics, **further}

        state = abstract(state)
        programs["unit"], (_, metrics) = self._jaxpr(unit, (state, hparams, shared), retries)
        ends = {}
        for role, function in (("result", trainable.result), ("info", trainable.info)):

            def end(state: PyTree, role: str = role, function: Any = function) -> PyTree:
                returned = self._call(role, function, state)
                check_leaves(self._names[role], role, returned)
                return returned

            programs[role], ends[role] = self._jaxpr(end, (state,), retries)
        for role, program in programs.items():
            if seeds_with_a_real_number(program):
                raise UserError(
                    f"{self._names['step' if role == 'unit' else role]} makes a random key of a "
                    "real number: jax.random.key takes a whole one; use the key that it is given, "
                    "or jax.random.fold_in(key, number)"
                )
        return Checked(
            trainable=trainable,
            state=state,
            metrics=abstract(dict(metrics)),
            result=abstract(ends["result"]),
            info=abstract(ends["info"]),
            programs=programs,
            read=frozenset(),
            unread=(),
            steering=frozenset(),
            missing=(),
        )

    def _call(self, role: str, function: Callable[..., Any], *arguments: Any) -> Any:
        self._role = role
        states = RandomStates()
        returned = function(*arguments)
        generator = states.drawn_from()
        if generator == "random":
            # Not enough to refuse: type checkers of annotations draw from it, too.
            self._drawn.add(role)
        elif generator is not None:
            raise _impure(self._names[role], generator)
        return returned

    def _jaxpr(self, function: Any, arguments: tuple, retries: bool) -> tuple[Any, PyTree]:
        try:
            return jax.make_jaxpr(function, return_shape=True)(*arguments)
        except UserError as error:
            # JAX notes that it has shortened the traceback: no part of one clear line.
            error.__dict__.pop("__notes__", None)
            raise
        except Exception as error:

            def retry(name: str) -> None:
                def as_number(leaf: Any) -> Any:
                    if not isinstance(leaf, RecordedHparams):
                        return leaf
                    concrete = {**leaf._traced, name: _concrete(self.traced[name])}
                    return RecordedHparams(concrete, self.static)

                def changed(*arguments: Any) -> Any:
                    return function(*(as_number(argument) for argument in arguments))

                jax.make_jaxpr(changed)(*arguments)

            raise self._explained(error, retry if retries else None) from error

    def _explained(self, error: Exception, retry: Callable[[str], None] | None) -> UserError:
        name = self._names.get(self._role, self.source)
        if is_leak(error) and self._role == "evaluate" and self._evaluates:
            name = f"{self._names['step']} or {name}"
        elif is_leak(error) and self._role == "evaluate":
            name = self._names["step"]
        subject = Subject(
            name,
            self.source,
            {name: _concrete(value) for name, value in self.traced.items()},
            self.static,
        )
        return explain(error, subject, retry)


_ARGUMENTS = {
    "init": ("key", "hparams"),
    "step": ("state", "hparams", "shared"),
    "evaluate": ("state", "hparams", "shared"),
    "result": ("state",),
    "info": ("state",),
}
_ROLES = {role: f"{role} of {{}}" for role in _ARGUMENTS}


def _impure(function: str, generator: str) -> UserError:
    return UserError(
        f"{function} is not pure: it draws from {generator} while it is traced, which gives every "
        "trial and every unit the same numbers; use jax.random with the key of init or with "
        "shared.key"
    )


def _check_counts(source: str, members: Any, budget: Any) -> None:
    for what, count in (("trainings per trial (num_seeds, splits)", members), ("budget", budget)):
        if count is None:
            continue
        if isinstance(count, bool) or not isinstance(count, int | np.integer) or count < 1:
            raise UserError(f"{source}: {what} must be a whole number from 1, got {count!r}")


def _check_traced(source: str, traced: Mapping[str, Any]) -> None:
    for name, value in traced.items():
        kind = getattr(getattr(value, "dtype", None), "kind", None)
        if kind not in ("b", "i", "u", "f"):
            raise UserError(
                f"the hyperparameter {name!r} has the value {value!r}, which is no number and "
                f"cannot be traced: make {name} a keyword of {source}, or "
                "lab.Choice([...], static=True)"
            )


def _abstracted(traced: Mapping[str, Any]) -> dict[str, Any]:
    return {name: jax.ShapeDtypeStruct(x.shape, x.dtype) for name, x in traced.items()}


def _concrete(value: Any) -> Any:
    if isinstance(value, jax.ShapeDtypeStruct):
        return np.ones(value.shape, value.dtype)[()]
    return value


def _with_names(found: Checked, tracing: _Tracing, keywords: tuple[str, ...]) -> Checked:
    names = sorted(tracing.traced)
    read = {names[i] for i in _hparams_read(found, len(names))}
    read |= {name for name in tracing.static if name in tracing.lookups.found} | set(keywords)
    ordered = [*tracing.traced, *tracing.static]
    unread = tuple(name for name in ordered if name not in read)
    return found._replace(
        read=frozenset(read),
        unread=unread,
        steering=frozenset(names[i] for i in _steering(found, len(names))),
        missing=tuple(tracing.lookups.missing),
    )


def _steering(found: Checked, num_hparams: int) -> set[int]:
    """Indices of hyperparameters on which what a unit returns depends, state apart."""
    num_leaves = len(jax.tree.leaves(found.state))
    inputs = frozenset[int]().union(*dependencies(found.programs["unit"]))
    return {i - num_leaves for i in inputs if num_leaves <= i < num_leaves + num_hparams}


def _hparams_read(found: Checked, num_hparams: int) -> set[int]:
    """Indices of hyperparameters on which anything that leaves a trial depends, in any unit."""
    num_leaves = len(jax.tree.leaves(found.state))
    hparams = range(1, 1 + num_hparams)
    through = [
        {i - 1 for i in inputs if i in hparams} for inputs in dependencies(found.programs["init"])
    ]
    unit = dependencies(found.programs["unit"])

    def reached(inputs: frozenset[int]) -> set[int]:
        """Hyperparameters behind inputs of the unit: read there, or carried by the state."""
        own = {i - num_leaves for i in inputs if num_leaves <= i < num_leaves + num_hparams}
        return own.union(*(through[i] for i in inputs if i < num_leaves))

    while True:
        wider = [
            before | reached(inputs)
            for before, inputs in zip(through, unit[:num_leaves], strict=True)
        ]
        if wider == through:
            break
        through = wider
    read: set[int] = set().union(*map(reached, unit[num_leaves:]))
    for role, default in (("result", whole_state), ("info", no_info)):
        if getattr(found.trainable, role) is not default:
            for inputs in dependencies(found.programs[role]):
                read = read.union(*(through[i] for i in inputs))
    return read
