"""The only vmap and loop over trials: advance a wave of cohorts by whole epochs.

A wave is one cohort of V trials per device. All trials of a cohort read one data stream and one
dropout noise; fold, replicate and age are scalars per device, so one compiled program serves all.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxopt_lab.core.compilation import Compiler
from jaxopt_lab.core.controls import Clock, Packed, Values, packed
from jaxopt_lab.core.types import PRNGKey, PyTree
from jaxopt_lab.problems import FoldArrays
from jaxopt_lab.problems.mlp.stream import fold_in, gather, place, round_up, shuffled
from jaxopt_lab.problems.mlp.trainer import Batch, Metrics, Minibatch, Probe, StepInfo, Trainer

#: Epochs whose curves one call can return; longer runs are several calls of one program.
CURVE_LENGTH = 16
#: Validation rows per chunk.
CHUNK = 512
#: Training rows that a probe sees, at most.
PROBE_ROWS = 1024
_INIT, _ORDER, _NOISE, _COINS, _PROBE = 1, 2, 3, 4, 5


class Curves(NamedTuple):
    """Per evaluation [V, CURVE_LENGTH * evaluations, ...] each: means over rows.

    Attributes:
      train_loss: over the rows since the last evaluation.
      valid: by metric.
      keep: [V, CURVE_LENGTH], per epoch: whether its outputs count.
      observed: of `trainer.StepInfo`, summed over the steps since the last evaluation.
    """

    train_loss: Any
    valid: dict[str, Any]
    keep: Any
    observed: PyTree


class Wave(NamedTuple):
    """Trials in training; leading axis D * V.

    Attributes:
      state: the trainer's state.
      outputs: [D * V, m, o] outputs on the validation rows at the epoch that counts.
    """

    state: PyTree
    outputs: Any


class Engine:
    """Compiles and runs the program of one signature.

    Args:
      trainer: pure functions of one trial.
      arrays: data by fold; placed on every device once.
      block: rows per step.
      noise_rows: rows per noise key; divides `block`.
      width: V, trials per cohort.
      num_outputs: size of the network's head.
      seed: the study's seed.
      devices: one cohort each; all local devices by default.
      evaluations: per epoch, evenly spaced; the last is the one that an epoch ends with.
      observe: whether the trainer's is an observing signature.
      init_in_turn: whether the initialisation has costly branches that few trials take, so that
        trials are initialised one after the other on an accelerator, too.
    """

    def __init__(
        self,
        trainer: Trainer,
        arrays: FoldArrays,
        block: int,
        noise_rows: int,
        width: int,
        num_outputs: int,
        seed: int,
        devices: Sequence[jax.Device] | None = None,
        evaluations: int = 1,
        observe: bool = False,
        init_in_turn: bool = False,
    ) -> None:
        self.trainer, self.width = trainer, width
        # Traced once, however often the shapes of their results are asked for.
        self._step = jax.jit(jax.vmap(trainer.step, (0, 0, None, None, None)), inline=True)
        self._evaluate = jax.jit(jax.vmap(trainer.evaluate, (0, 0, None)), inline=True)
        self.evaluations, self.observe = evaluations, observe
        self.init_in_turn = init_in_turn
        self.block, self.noise_rows = block, noise_rows
        self.num_outputs = num_outputs
        self.devices = list(devices or jax.local_devices())
        self.compiler = Compiler(self.devices)
        self.arrays = place(arrays, self.compiler.copy)
        self.key = jax.random.key(seed, impl="threefry2x32")
        self._tree: Any = None

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
        args = self.compiler.put(self._controls(seeds, clock, hparams))
        wave = self.compiler.lower("init", self._init, args, self.key, once=True)
        self._tree = jax.tree.structure(wave)
        copied = (self.key, self.arrays)
        self.compiler.lower("advance", self._advance, (wave, *args[1:]), copied)
        self.compiler.compile_lowered()

    def init(self, seeds: np.ndarray, clock: Clock, hparams: Values | Packed) -> Wave:
        """Initialise a wave.

        Args:
          seeds: [D * V] int32; `fold_in(study_key, seed)` starts each trial's randomness.
          clock: [D] each; `replicate` and `fold` enter the initialisation too.
          hparams: name -> [D * V], or what `place` made of them.
        """
        args = self.compiler.put(self._controls(seeds, clock, hparams))
        wave: Wave = self.compiler.call("init", self._init, args, self.key, once=True)
        self._tree = jax.tree.structure(wave)
        return wave

    def restore(
        self, states: Sequence[Sequence[np.ndarray]], clock: Clock, hparams: Values | Packed
    ) -> Wave:
        """Trials that were trained before, to go on together.

        Args:
          states: of each slot [D * V], the leaves of its part of the `Wave` in which it was.
          clock: as for `init`.
          hparams: as for `init`.
        """
        if self._tree is None:
            whole = self._controls(np.zeros(self.num_slots), clock, hparams)
            share = len(self.devices)
            here = jax.tree.map(lambda x: x[: len(x) // share], whole)
            self._tree = jax.tree.structure(jax.eval_shape(self._init, self.key, *here))
        leaves = [np.stack(parts) for parts in zip(*states, strict=True)]
        return self.compiler.put(jax.tree.unflatten(self._tree, leaves))

    def advance(self, wave: Wave, clock: Clock, hparams: Values | Packed) -> tuple[Wave, Curves]:
        """Train every trial by `clock.num_epochs` (at most `CURVE_LENGTH`) whole epochs.

        Returns at once with arrays still being computed. The result does not depend on how a
        budget is cut into calls.
        """
        args = (wave, *self.compiler.put((clock.packed(), packed(hparams))))
        return self.compiler.call("advance", self._advance, args, (self.key, self.arrays))

    def probe(
        self, wave: Wave, clock: Clock, hparams: Values | Packed, probe: Probe
    ) -> dict[str, Array]:
        """Measure every trial of a wave on the same training rows; one probe per engine.

        Returns:
          name -> [D * V, ...].
        """
        args = (wave, *self.compiler.put((clock.packed(), packed(hparams))))
        body = partial(self._probe, probe)
        return self.compiler.call("probe", body, args, (self.key, self.arrays))

    def place(self, hparams: Values) -> Packed:
        """Hyperparameters on the devices, for several calls."""
        placed: Packed = self.compiler.put(packed(hparams))
        return placed

    def _controls(
        self, seeds: np.ndarray, clock: Clock, hparams: Values | Packed
    ) -> tuple[np.ndarray, np.ndarray, Packed]:
        return np.asarray(seeds, np.int32), clock.packed(), packed(hparams)

    def _init(self, key: PRNGKey, seeds: Array, clock: Array, hparams: Packed) -> Wave:
        """Body of one device. With `map` a traced choice of initialiser stays a branch; with vmap
        an accelerator, whose time goes by the number of operations, does all trials at once."""
        now = Clock.of_device(clock)

        def one(arg: tuple[Array, PyTree]) -> PyTree:
            seed, values = arg
            trial_key = fold_in(key, seed, now.replicate, now.fold, _INIT)
            return self.trainer.init(trial_key, values)

        args = (seeds, hparams.unpacked())
        in_turn = self.compiler.on_cpu or self.init_in_turn
        state = jax.lax.map(one, args) if in_turn else jax.vmap(one)(args)
        rows = self.arrays.valid_rows.shape[1]
        return Wave(state, jnp.zeros((self.width, round_up(rows, CHUNK), self.num_outputs)))

    def _advance(
        self, copied: tuple[PRNGKey, FoldArrays], wave: Wave, clock: Array, controls: Packed
    ) -> tuple[Wave, Curves]:
        """Body of one device."""
        key, arrays = copied
        now, hparams = Clock.of_device(clock), controls.unpacked()
        stream = fold_in(key, now.replicate, now.fold)

        def part(j: Array | int, carry: _Part, rows: tuple[Array, Array], i: Array) -> _Part:
            steps = (arrays.num_train[now.fold] + self.block - 1) // self.block
            bounds = (j * steps // self.evaluations, (j + 1) * steps // self.evaluations)
            state, train_loss, observed = self._train_steps(
                fold_in(stream, now.epoch + i), rows, arrays, now, carry.state, hparams, bounds
            )
            valid, outputs = self._validate(arrays, now, state, hparams)
            monitor = jnp.where(arrays.num_valid[now.fold] > 0, valid["loss"], train_loss)
            at = i * self.evaluations + j
            row, into = (train_loss, valid, observed), carry.curves
            train_loss_curve, valid, observed = jax.tree.map(
                lambda buffer, x: buffer.at[:, at].set(x),
                (into.train_loss, into.valid, into.observed),
                row,
            )
            curves = Curves(train_loss_curve, valid, into.keep, observed)
            return _Part(state, curves, Metrics(train_loss, monitor), outputs)

        def epoch(i: Array, carry: tuple[Wave, Curves]) -> tuple[Wave, Curves]:
            wave, curves = carry
            rows = self._epoch_rows(fold_in(stream, now.epoch + i), arrays, now)
            blank = jnp.zeros((self.width,))
            found = _Part(wave.state, curves, Metrics(blank, blank), wave.outputs)
            if self.evaluations == 1:
                found = part(0, found, rows, i)
            else:
                body = partial(part, rows=rows, i=i)
                found = jax.lax.fori_loop(0, self.evaluations, body, found)
            state = jax.vmap(self.trainer.end_epoch)(found.state, hparams, found.metrics)
            keep = state.keep
            outputs = jnp.where(keep[:, None, None], found.outputs, wave.outputs)
            curves = found.curves._replace(keep=found.curves.keep.at[:, i].set(keep))
            return Wave(state, outputs), curves

        curves = self._blank_curves(arrays, now, wave.state, hparams)
        return jax.lax.fori_loop(0, now.num_epochs, epoch, (wave, curves))

    def _blank_curves(
        self, arrays: FoldArrays, now: Clock, state: PyTree, hparams: PyTree
    ) -> Curves:
        def shapes() -> tuple[PyTree, PyTree]:
            rows = self._epoch_rows(self.key, arrays, now)
            observed = self._train_steps(self.key, rows, arrays, now, state, hparams, (0, 0))[2]
            return self._validate(arrays, now, state, hparams)[0], observed

        length = CURVE_LENGTH * self.evaluations
        valid, observed = jax.tree.map(
            lambda x: jnp.full((x.shape[0], length, *x.shape[1:]), jnp.nan), jax.eval_shape(shapes)
        )
        keep = jnp.zeros((self.width, CURVE_LENGTH), bool)
        return Curves(jnp.full((self.width, length), jnp.nan), valid, keep, observed)

    def _depth(self, now: Clock) -> Any:
        """Layers beyond it are skipped on a CPU; an accelerator computes them, for it would copy
        what a branch returns, and it has few operations to lose."""
        return now.depth if self.compiler.on_cpu else None

    def _epoch_rows(self, key: PRNGKey, arrays: FoldArrays, now: Clock) -> tuple[Array, Array]:
        """Inputs and targets of the training rows in a random order common to the cohort."""
        num_rows = arrays.num_train[now.fold]
        order = shuffled(fold_in(key, _ORDER), arrays.train_rows[now.fold], num_rows)
        order = jnp.pad(order, (0, round_up(order.shape[0], self.block) - order.shape[0]))
        return gather(arrays, now.fold, order)

    def _train_steps(
        self,
        key: PRNGKey,
        rows: tuple[Array, Array],
        arrays: FoldArrays,
        now: Clock,
        state: PyTree,
        hparams: PyTree,
        bounds: tuple[Any, Any],
    ) -> tuple[PyTree, Array, PyTree]:
        """Steps from `bounds[0]` to `bounds[1]` of an epoch: state, mean loss, observations."""
        size, per_block = self.block, self.block // self.noise_rows
        inputs, targets = rows
        num_rows = arrays.num_train[now.fold]
        num_steps = (num_rows + size - 1) // size
        noise_key = fold_in(key, _NOISE)

        def step(i: Array, state: PyTree) -> tuple[PyTree, StepInfo]:
            start = i * size
            batch = Batch(
                jax.lax.dynamic_slice_in_dim(inputs, start, size),
                jax.lax.dynamic_slice_in_dim(targets, start, size),
                start + jnp.arange(size) < num_rows,
                self._depth(now),
            )
            keys = jax.vmap(partial(jax.random.fold_in, noise_key))(
                i * per_block + jnp.arange(per_block)
            )
            first = i - i % now.blocks
            end = jnp.minimum(first + now.blocks, num_steps)
            of_minibatch = jnp.minimum(end * size, num_rows) - first * size
            minibatch = Minibatch(of_minibatch.astype(jnp.float32), i == first, i == end - 1)
            return self._step(state, hparams, batch, keys, minibatch)

        def body(i: Array, carry: PyTree) -> PyTree:
            state, loss_sum, observed = carry
            state, info = step(i, state)
            observed = jax.tree.map(jnp.add, observed, info.observed)
            return state, loss_sum + info.loss_sum, observed

        like = jax.eval_shape(step, jnp.zeros((), jnp.int32), state)[1].observed
        blank = jax.tree.map(lambda x: jnp.zeros(x.shape), like)
        carry = (state, jnp.zeros((self.width,)), blank)
        state, total, observed = jax.lax.fori_loop(*bounds, body, carry)
        first, last = (jnp.minimum(bound * size, num_rows) for bound in bounds)
        return state, total / (last - first), observed

    def _validate(
        self, arrays: FoldArrays, now: Clock, state: PyTree, hparams: PyTree
    ) -> tuple[dict[str, Array], Array]:
        """Means over the fold's validation rows (NaN without any) and outputs on each of them."""
        rows, num_rows = arrays.valid_rows[now.fold], arrays.num_valid[now.fold]
        rows = jnp.pad(rows, (0, round_up(rows.shape[0], CHUNK) - rows.shape[0]))
        coins = None
        if self.observe:
            coins = jax.random.bits(jax.random.key(_COINS, impl="threefry2x32"), rows.shape)

        def chunk(i: Array) -> tuple[PyTree, Array]:
            index = jax.lax.dynamic_slice_in_dim(rows, i * CHUNK, CHUNK)
            mask = i * CHUNK + jnp.arange(CHUNK) < num_rows
            batch = Batch(*gather(arrays, now.fold, index), mask, self._depth(now))
            if coins is not None:
                mine = jax.lax.dynamic_slice_in_dim(coins, i * CHUNK, CHUNK)
                batch = batch._replace(coins=mine)
            found = self._evaluate(state, hparams, batch)
            return found.sums, found.outputs

        def body(i: Array, carry: tuple[PyTree, Array]) -> tuple[PyTree, Array]:
            sums, outputs = carry
            more, new = chunk(i)
            outputs = jax.lax.dynamic_update_slice_in_dim(outputs, new, i * CHUNK, axis=1)
            return jax.tree.map(jnp.add, sums, more), outputs

        like, _ = jax.eval_shape(chunk, jnp.zeros((), jnp.int32))
        sums = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), like)
        outputs = jnp.zeros((self.width, rows.shape[0], self.num_outputs))
        num_chunks = (num_rows + CHUNK - 1) // CHUNK
        sums, outputs = jax.lax.fori_loop(0, num_chunks, body, (sums, outputs))
        return {k: v / num_rows for k, v in sums.items()}, outputs

    def _probe(
        self,
        probe: Probe,
        copied: tuple[PRNGKey, FoldArrays],
        wave: Wave,
        clock: Array,
        controls: Packed,
    ) -> dict[str, Array]:
        """Body of one device."""
        key, arrays = copied
        now = Clock.of_device(clock)
        num_rows, size = arrays.num_train[now.fold], min(PROBE_ROWS, arrays.train_rows.shape[1])
        order = shuffled(fold_in(key, _PROBE), arrays.train_rows[now.fold], num_rows)[:size]
        batch = Batch(
            *gather(arrays, now.fold, order), jnp.arange(size) < num_rows, self._depth(now)
        )
        return jax.vmap(probe, in_axes=(0, 0, None))(wave.state, controls.unpacked(), batch)


class _Part(NamedTuple):
    """What passes from one part of an epoch to the next."""

    state: PyTree
    curves: Curves
    metrics: Metrics
    outputs: Array
