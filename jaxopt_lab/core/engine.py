"""The only place where trials get an axis: advance a wave of cohorts by whole units of budget.

A wave is one cohort of V trials per device. What the trials of a cohort share (`Shared`) is never
batched; split, replicate and age are scalars per device, so one compiled program serves all.
"""

import copy
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxopt_lab.core import keys
from jaxopt_lab.core.compilation import Compiler
from jaxopt_lab.core.controls import Clock, Packed, Values, packed
from jaxopt_lab.core.errors import UserError
from jaxopt_lab.core.executors import kernel, launches
from jaxopt_lab.core.hparams import Hparams
from jaxopt_lab.core.keys import fold_in
from jaxopt_lab.core.trainable import Metrics, Shared, Trainable
from jaxopt_lab.core.types import PRNGKey, PyTree

#: Units whose metrics one call can return; longer runs are several calls of one program.
CURVE_LENGTH = 16
#: The purpose of a trial's own key.
_INIT = 1
#: What is measured on each trial at its end: (state, hparams, shared) -> name -> array; the key in
#: `shared` is the study's.
Probe = Callable[[Any, Any, Shared], dict[str, Array]]
Executor = Literal["vmap", "map", "kernel", "kernel-interpreted"]


class Curves(NamedTuple):
    """What a call returns besides the state.

    Attributes:
      metrics: name -> [D * V, CURVE_LENGTH, ...], of each unit.
    """

    metrics: dict[str, Any]


@dataclass
class _Traced:
    """What tracing a program tells about its state.

    Attributes:
      tree: structure of the state.
      kinds: of its leaves, see `keys.kinds_of`.
      picked: places of what `Engine.final` gives among them, and its structure.
    """

    tree: Any = None
    kinds: list[str | None] = field(default_factory=list)
    picked: Any = None


class Engine:
    """Compiles and runs one program.

    Args:
      trainable: pure functions of one trial.
      data: arrays that reach them as `Shared.data`; placed on every device once.
      width: V, trials per cohort.
      seed: the study's seed.
      devices: one cohort each; all local devices by default.
      executor: "vmap" trains a cohort in lockstep, "map" one trial after the other inside the
        program, "kernel" each in a program of its own on a GPU, several units in one launch;
        "kernel-interpreted" is that on whatever device there is.
      insists: whether the executor was asked for; else `vmap` runs where a kernel is refused.
      static: hyperparameters that are Python values in this program.
      curve_length: units of one call, at most.
      init_in_turn: whether the initialisation has costly branches that few trials take, so that
        trials are initialised one after the other on an accelerator, too.
    """

    def __init__(
        self,
        trainable: Trainable,
        data: PyTree,
        width: int,
        seed: int,
        devices: Sequence[jax.Device] | None = None,
        *,
        executor: Executor = "vmap",
        insists: bool = True,
        static: Mapping[str, Any] | None = None,
        curve_length: int = CURVE_LENGTH,
        init_in_turn: bool = False,
    ) -> None:
        self.trainable, self.width = trainable, width
        self.executor: Executor = executor
        self.insists = insists
        self.static, self.curve_length = dict(static or {}), curve_length
        self.init_in_turn = init_in_turn
        self.devices = list(devices or jax.local_devices())
        self.compiler = Compiler(self.devices)
        self.data = place(data, self.compiler.copy)
        self.key = jax.random.key(seed, impl="threefry2x32")
        # Traced once, however often the shapes of its results are asked for.
        self._unit = jax.jit(self._one_unit, inline=True)
        self._traced = _Traced()

    def on(self, data: PyTree, seed: int) -> "Engine":
        """The same programs, compiled once, on other data of the same shapes.

        Args:
          data: as for the constructor; None for none yet.
          seed: of the other study.
        """
        other = copy.copy(self)
        other.data = place(data, self.compiler.copy)
        other.key = jax.random.key(seed, impl="threefry2x32")
        return other

    @property
    def compile_seconds(self) -> float:
        """Spent compiling so far."""
        return self.compiler.seconds

    @property
    def num_slots(self) -> int:
        """Trials per wave: D * V."""
        return self.width * len(self.devices)

    def prepare(self, seeds: np.ndarray, clock: Clock, hparams: Values) -> None:
        """Compile `init` and `advance`, both at the same time; arguments as for `init`."""

        def compile_both() -> None:
            args = self.compiler.put(self._controls(seeds, clock, hparams))
            state = self.compiler.lower("init", self._init, args, self.key, once=True)
            self._traced.tree = jax.tree.structure(state)
            copied = (self.key, self.data)
            self.compiler.lower("advance", self._advance, (state, *args[1:]), copied)
            self.compiler.compile_lowered()

        with self.compiler.lock:
            if not self.compiler.has("init", "advance"):
                self._as_kernel(compile_both)

    def init(self, seeds: np.ndarray, clock: Clock, hparams: Values | Packed) -> PyTree:
        """Initialise a wave.

        Args:
          seeds: [D * V] int32; `fold_in(study_key, seed)` starts each trial's randomness.
          clock: [D] each; `replicate` and `fold` enter the initialisation too.
          hparams: name -> [D * V], or what `place` made of them.

        Returns:
          The trials' states with a leading axis D * V; typed keys are arrays there.
        """
        args = self.compiler.put(self._controls(seeds, clock, hparams))
        chex.assert_shape(args[0], (self.num_slots,))
        state = self.compiler.call("init", self._init, args, self.key, once=True)
        self._traced.tree = jax.tree.structure(state)
        return state

    def restore(
        self, states: Sequence[Sequence[np.ndarray]], clock: Clock, hparams: Values | Packed
    ) -> PyTree:
        """Trials that were trained before, to go on together.

        Args:
          states: of each slot [D * V], the leaves of its part of the wave in which it was.
          clock: as for `init`.
          hparams: as for `init`.
        """
        if self._traced.tree is None:
            whole = self._controls(np.zeros(self.num_slots), clock, hparams)
            share = len(self.devices)
            here = jax.tree.map(lambda x: x[: len(x) // share], whole)
            self._traced.tree = jax.tree.structure(jax.eval_shape(self._init, self.key, *here))
        leaves = [np.stack(parts) for parts in zip(*states, strict=True)]
        return self.compiler.put(jax.tree.unflatten(self._traced.tree, leaves))

    def gather(self, state: PyTree, sources: np.ndarray) -> PyTree:
        """Put trials of a wave in the places of others of their cohorts, on the devices.

        Args:
          state: of the wave.
          sources: [D * V] int32, for each place the place within its cohort whose trial it gets.
        """
        args = (state, self.compiler.put(np.asarray(sources, np.int32)))
        return self.compiler.call("gather", _gather, args, (), once=True)

    def advance(
        self, state: PyTree, clock: Clock, hparams: Values | Packed
    ) -> tuple[PyTree, Curves]:
        """Train every trial by `clock.num_units` (at most `curve_length`) whole units.

        Returns at once with arrays still being computed. The result does not depend on how a
        budget is cut into calls.
        """
        args = (state, *self.compiler.put((clock.packed(), packed(hparams))))
        copied = (self.key, self.data)
        return self._as_kernel(lambda: self.compiler.call("advance", self._advance, args, copied))

    def probe(
        self, state: PyTree, clock: Clock, hparams: Values | Packed, probe: Probe, num: int
    ) -> dict[str, Array]:
        """Measure the first `num` trials of each device in a wave; one probe and number per engine.

        Returns:
          name -> [D * num, ...].
        """
        args = (state, *self.compiler.put((clock.packed(), packed(hparams))))
        body = partial(self._probe, probe, num)
        return self.compiler.call("probe", body, args, (self.key, self.data))

    def final(self, state: PyTree) -> tuple[PyTree, PyTree]:
        """What is kept of the trials of a wave, and what the host is told: `result` and `info`.

        Parts of the state are handed out as they are; what must be computed is, where the state is.
        """
        if self._traced.picked is None:
            jaxpr, shape = jax.make_jaxpr(partial(self._final, ()), return_shape=True)(state)
            places = {id(var): i for i, var in enumerate(jaxpr.jaxpr.invars)}
            found = [places.get(id(var)) for var in jaxpr.jaxpr.outvars]
            self._traced.picked = found, jax.tree.structure(shape)
        indices, structure = self._traced.picked
        if None in indices:
            return self.compiler.call("final", self._final, (state,), (), once=True)
        leaves = jax.tree.leaves(state)
        return jax.tree.unflatten(structure, [leaves[i] for i in indices])

    def place(self, hparams: Values) -> Packed:
        """Hyperparameters on the devices, for several calls."""
        placed: Packed = self.compiler.put(packed(hparams))
        return placed

    def _as_kernel(self, run: Callable[[], Any]) -> Any:
        """Run what compiles; where a kernel is refused, `vmap` goes on with a line of warning.

        Raises:
          UserError: with that line, if the kernel was asked for.
        """
        try:
            return run()
        except UserError:
            raise
        except Exception as error:
            if self.executor != "kernel":
                raise
            why = " ".join(str(error).split())[:200]
            if not self.insists:
                self.executor = "vmap"
                warnings.warn(f"vmap: a kernel cannot be had here: {why}", stacklevel=2)
                return run()
            raise UserError(
                f"executor='kernel' cannot be had here: {why}; leave executor out"
            ) from error

    def _controls(
        self, seeds: np.ndarray, clock: Clock, hparams: Values | Packed
    ) -> tuple[np.ndarray, np.ndarray, Packed]:
        return np.asarray(seeds, np.int32), clock.packed(), packed(hparams)

    def _hparams(self, controls: Packed) -> Hparams:
        return Hparams(controls.unpacked(), self.static)

    def _init(self, key: PRNGKey, seeds: Array, clock: Array, controls: Packed) -> PyTree:
        """Body of one device. With `map` a traced choice of initialiser stays a branch; with vmap
        an accelerator, whose time goes by the number of operations, does all trials at once."""
        now = Clock.of_device(clock)

        def one(arg: tuple[Array, Hparams]) -> PyTree:
            seed, hparams = arg
            trial_key = fold_in(key, seed, now.replicate, now.fold, _INIT)
            return jax.tree.map(jnp.asarray, self.trainable.init(trial_key, hparams))

        args = (seeds, self._hparams(controls))
        in_turn = self.compiler.on_cpu or self.init_in_turn
        state = jax.lax.map(one, args) if in_turn else jax.vmap(one)(args)
        chex.assert_tree_shape_prefix(state, (self.width,))
        self._traced.kinds = keys.kinds_of(state)
        return keys.to_data(state)

    def _advance(
        self, copied: tuple[PRNGKey, PyTree], stored: PyTree, clock: Array, controls: Packed
    ) -> tuple[PyTree, Curves]:
        """Body of one device."""
        key, data = copied
        now, hparams = Clock.of_device(clock), self._hparams(controls)
        stream = fold_in(key, now.replicate, now.fold)
        state = keys.from_data(stored, self._traced.kinds)

        def shared_at(i: Array | int) -> Shared:
            at = now.unit + i
            return Shared(fold_in(stream, at), at, now.budget, now.fold, data, now.extra)

        if self.executor.startswith("kernel"):
            state, metrics = self._in_kernel(state, hparams, shared_at, now.num_units)
            return keys.to_data(state), Curves(metrics)

        def unit(i: Array | int, state: PyTree) -> tuple[PyTree, Metrics]:
            return self._execute(self._unit, state, hparams, shared_at(i))

        def body(i: Array, carry: tuple[PyTree, Curves]) -> tuple[PyTree, Curves]:
            state, curves = carry
            state, metrics = unit(i, state)
            filled = jax.tree.map(lambda all, x: all.at[:, i].set(x), curves.metrics, metrics)
            return state, Curves(filled)

        shapes = jax.eval_shape(partial(unit, 0), state)[1]
        curves = Curves({name: _blank(x, self.curve_length) for name, x in shapes.items()})
        state, curves = jax.lax.fori_loop(0, now.num_units, body, (state, curves))
        return keys.to_data(state), curves

    def _one_unit(
        self, state: PyTree, hparams: Hparams, shared: Shared
    ) -> tuple[PyTree, dict[str, Array]]:
        """One trial, one unit, and its evaluation."""
        state, metrics = self.trainable.step(state, hparams, shared)
        metrics = {**metrics, **self.trainable.evaluate(state, hparams, shared)}
        return state, {name: jnp.asarray(value) for name, value in metrics.items()}

    def _execute(self, body: Any, state: PyTree, hparams: Hparams, shared: Shared) -> Any:
        """A function of one trial for all trials of a cohort."""
        if self.executor == "vmap":
            return jax.vmap(body, in_axes=(0, 0, None))(state, hparams, shared)
        return jax.lax.map(lambda both: body(*both, shared), (state, hparams))

    def _in_kernel(
        self,
        state: PyTree,
        hparams: Hparams,
        shared_at: Callable[[Any], Shared],
        num_units: Array,
    ) -> tuple[PyTree, dict[str, Array]]:
        """Units of all trials of a cohort, each in a program of its own."""
        one, own = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype),
                                (state, hparams))  # fmt: skip
        interpret = self.executor == "kernel-interpreted"
        try:
            found = kernel.build(self.trainable.row_loop, one, own, shared_at(0), interpret)
        except kernel.NoKernelForm as error:
            raise UserError(f"the executor kernel cannot train it: {error}") from None
        return launches.advance(found, state, hparams, shared_at, num_units, self.curve_length)

    def _final(self, copied: tuple[()], stored: PyTree) -> tuple[PyTree, PyTree]:
        """Body of one device."""
        del copied
        state = keys.from_data(stored, self._traced.kinds)
        both = jax.vmap(lambda s: (self.trainable.result(s), self.trainable.info(s)))(state)
        return keys.to_data(both)

    def _probe(
        self,
        probe: Probe,
        num: int,
        copied: tuple[PRNGKey, PyTree],
        stored: PyTree,
        clock: Array,
        controls: Packed,
    ) -> dict[str, Array]:
        """Body of one device."""
        key, data = copied
        now = Clock.of_device(clock)
        shared = Shared(key, now.unit, now.budget, now.fold, data, now.extra)
        state = keys.from_data(stored, self._traced.kinds)
        both = jax.tree.map(lambda leaf: leaf[:num], (state, self._hparams(controls)))
        state, hparams = both
        return jax.vmap(probe, in_axes=(0, 0, None))(state, hparams, shared)


def _gather(copied: tuple[()], state: PyTree, sources: Array) -> PyTree:
    """Body of one device."""
    del copied
    return jax.tree.map(lambda leaf: leaf[sources], state)


def place(data: PyTree, sharding: Any) -> PyTree:
    """Put the data on every device, unless it is there already."""
    if all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(data)):
        return data
    return jax.device_put(data, sharding)


def _blank(metric: Any, length: int) -> Array:
    shape = (metric.shape[0], length, *metric.shape[1:])
    if jnp.issubdtype(metric.dtype, jnp.inexact):
        return jnp.full(shape, jnp.nan, metric.dtype)
    return jnp.zeros(shape, metric.dtype)
