"""Run jobs on the engine, wave by wave: the host side of training."""

import functools
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lab.core import engine
from jaxopt_lab.core.cohorts import Job, Wave, default_width, make_waves
from jaxopt_lab.core.engine import Clock, Curves, Engine
from jaxopt_lab.core.errors import MachineError
from jaxopt_lab.models.mlp import count_parameters
from jaxopt_lab.problems import FoldArrays, Objective
from jaxopt_lab.problems.mlp import hyperparameters, trainer
from jaxopt_lab.problems.mlp.schedules import steps_per_epoch
from jaxopt_lab.problems.mlp.signature import Signature

#: Waiting for a wave: first and longest pause between two looks.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.0005, 0.004
#: Programs that are compiled at the same time, at most; one per two cores.
MAX_COMPILING = 4
MakeModel = Callable[[Signature, int], Any]
MakeProbe = Callable[[Signature], trainer.Probe]


class Result(NamedTuple):
    """What one job came to.

    Attributes:
      job: the job.
      curves: name -> float32 [num_epochs]: `train_loss`, `loss` and further validation metrics.
      keep: bool [num_epochs]; early stopping: the epochs that were the best so far.
      outputs: float32 [num_valid, o] outputs on the fold's validation rows.
      diverged_at: first step with a loss that is not finite, or -1.
      last_loss: the last finite training loss.
      fetch: gives `params`.
      probed: what a probe measured at the end; empty without one.
      state: of a resumable job, all arrays from which it goes on; else None.
    """

    job: Job
    curves: dict[str, np.ndarray]
    keep: np.ndarray
    outputs: np.ndarray
    diverged_at: int
    last_loss: float
    fetch: Callable[[], Any]
    probed: dict[str, np.ndarray]
    state: list[np.ndarray] | None = None

    @property
    def params(self) -> Any:
        """Final weights as numpy arrays, brought from the device for the first who asks; so long
        the device keeps those of the whole wave."""
        return self.fetch()


class WaveReport(NamedTuple):
    """A finished wave: its results and what it cost.

    Attributes:
      wave: what was trained.
      results: of its jobs.
      seconds: of the host for it.
      compile_seconds: of these, waiting for its program, which may have been begun before.
    """

    wave: Wave
    results: list[Result]
    seconds: float
    compile_seconds: float


class Runner:
    """Owns one engine per signature and keeps devices busy.

    Args:
      arrays: data by fold.
      objective: loss and metrics.
      seed: the study's seed.
      widths: signature -> V; filled in by formula where missing.
      devices: all local devices by default.
      make_model: signature, number of outputs -> the network.
      evaluations: per epoch; curves have so many entries for each.
    """

    def __init__(
        self,
        arrays: FoldArrays,
        objective: Objective,
        seed: int,
        widths: dict[Signature, int] | None = None,
        devices: Sequence[jax.Device] | None = None,
        make_model: MakeModel = trainer.make_model,
        evaluations: int = 1,
    ) -> None:
        self.make_model, self.evaluations = make_model, evaluations
        self.devices = list(devices or jax.local_devices())
        self.objective, self.seed = objective, seed
        self.widths = dict(widths or {})
        self.host_arrays = arrays
        self._placed: FoldArrays | None = None
        self._engines: dict[Signature, Engine] = {}
        self._coming: dict[Signature, Future[None]] = {}
        self._counts: dict[Signature, int] = {}
        self._last_finish = 0.0

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one row."""
        return tuple(self.host_arrays.inputs.shape[2:])

    def count_parameters(self, signature: Signature) -> int:
        """Number of weights of a signature's network."""
        if signature in self._counts:
            return self._counts[signature]
        if self.make_model is trainer.make_model and len(self.input_shape) == 1:
            size, depth = signature.hidden_size, signature.num_layers
            return count_parameters(*self.input_shape, size, depth, self.objective.num_outputs)
        model = self.make_model(signature, self.objective.num_outputs)
        config = hyperparameters.complete({})
        hparams = {k: jnp.asarray(v) for k, v in hyperparameters.traced(config).items()}
        row = jax.ShapeDtypeStruct((1, *self.input_shape), jnp.float32)
        params = jax.eval_shape(lambda k, x: model.init(k, x, hparams), jax.random.key(0), row)
        self._counts[signature] = sum(math.prod(x.shape) for x in jax.tree.leaves(params))
        return self._counts[signature]

    def width(self, signature: Signature) -> int:
        """Cohort width V: as recorded, else by formula."""
        if signature not in self.widths:
            on_cpu = self.devices[0].platform == "cpu"
            self.widths[signature] = default_width(self.count_parameters(signature), on_cpu)
        return self.widths[signature]

    def use_width(self, signature: Signature, width: int) -> None:
        """Fix the cohort width of a program; a program of another width is compiled again."""
        if self.widths.get(signature, width) != width:
            self._engines.pop(signature, None)
            self._coming.pop(signature, None)
        self.widths[signature] = width

    def plan(self, jobs: Sequence[Job]) -> list[Wave]:
        """The waves in which jobs would run."""
        widths = {job.signature: self.width(job.signature) for job in jobs}
        return make_waves(jobs, widths, len(self.devices))

    def run(
        self,
        jobs: Sequence[Job],
        go_on: Callable[[int], bool] = lambda num_waves_left: True,
        probe: MakeProbe | None = None,
    ) -> Iterator[WaveReport]:
        """Train jobs; yield each wave when it is finished.

        While the caller handles one wave (writes it to disk), the devices compute the next.

        Args:
          jobs: what to train.
          go_on: asked before each wave is started, with the number of waves left.
          probe: signature -> what to measure on each trial at its end.
        """
        waves = self.plan(jobs)
        self.expect(waves)

        def take() -> Wave | None:
            return waves.pop(0) if waves and go_on(len(waves)) else None

        return self.stream(take, probe=probe)

    def expect(self, waves: Sequence[Wave]) -> None:
        """Begin to compile the programs of waves to come, in their order, in the background."""
        firsts: dict[Signature, Wave] = {}
        for wave in waves:
            if wave.signature not in self._engines:
                firsts.setdefault(wave.signature, wave)
        threads = ThreadPoolExecutor(max(1, min(MAX_COMPILING, (os.cpu_count() or 1) // 2)))
        for signature, wave in firsts.items():
            built = self._engine(signature)
            slots = self._slots(wave)
            args = (self._seeds(slots), self._clock(wave), self._hparams(slots))
            self._coming[signature] = threads.submit(built.prepare, *args)
        threads.shutdown(wait=False)

    def _forget(self) -> None:
        """Do not compile what has not begun to be."""
        for signature, future in list(self._coming.items()):
            if future.cancel():
                del self._coming[signature], self._engines[signature]

    def stream(
        self,
        take: Callable[[], Wave | None],
        load: Callable[[Job], list[np.ndarray]] | None = None,
        probe: MakeProbe | None = None,
    ) -> Iterator[WaveReport]:
        """Train waves as they come; yield each when it is finished.

        Args:
          take: the next wave, or None: there is none, or not before a running one is finished.
          load: the state (`Result.state`) of a job that was trained before.
          probe: signature -> what to measure on each trial at its end.
        """
        running: _Running | None = None
        try:
            while True:
                wave = take()
                following = self._start(wave, load, probe) if wave else None
                if running:
                    yield self._finish(running, following.compile_seconds if following else 0.0)
                elif following is None:
                    return
                running = following
        finally:
            self._forget()

    def _engine(self, signature: Signature) -> Engine:
        if signature not in self._engines:
            model = self.make_model(signature, self.objective.num_outputs)
            made = trainer.make_trainer(signature, self.objective, self.input_shape, model)
            built = Engine(
                made,
                self._placed or self.host_arrays,
                signature.block,
                signature.noise_rows,
                self.width(signature),
                self.objective.num_outputs,
                self.seed,
                self.devices,
                self.evaluations,
                signature.observe,
                "orthogonal" in signature.features,
            )
            self._placed = built.arrays
            self._engines[signature] = built
        return self._engines[signature]

    def _start(
        self,
        wave: Wave,
        load: Callable[[Job], list[np.ndarray]] | None,
        probe: MakeProbe | None,
    ) -> "_Running":
        """Dispatch all of a wave's work; returns before it is done."""
        built, started = self._engine(wave.signature), time.perf_counter()
        slots = self._slots(wave)
        clock = self._clock(wave)
        seeds = self._seeds(slots)
        try:
            waited = 0.0
            if wave.signature in self._coming:
                self._coming.pop(wave.signature).result()
                waited = time.perf_counter() - started
            compiled_before = built.compile_seconds
            hparams = built.place(self._hparams(slots))
            if wave.cohorts[0].start:
                assert load is not None
                known = {id(job): load(job) for job in wave.jobs}
                state = built.restore([known[id(job)] for job in slots], clock, hparams)
            else:
                state = built.init(seeds, clock, hparams)
            pieces = []
            done = 0
            while done < wave.cohorts[0].num_epochs:
                epochs = np.minimum(clock.num_epochs - done, engine.CURVE_LENGTH)
                part = clock._replace(epoch=clock.epoch + done, num_epochs=np.maximum(epochs, 0))
                state, curves = built.advance(state, part, hparams)
                pieces.append(curves)
                done += engine.CURVE_LENGTH
            probed = built.probe(state, clock, hparams, probe(wave.signature)) if probe else {}
        except jax.errors.JaxRuntimeError as error:
            raise _out_of_memory(error, built.width) from error
        compiled = waited + built.compile_seconds - compiled_before
        return _Running(wave, state, pieces, probed, started, compiled)

    def _slots(self, wave: Wave) -> list[Job]:
        """One job per slot: cohorts filled up with copies of a real trial, waves with a cohort."""
        width = self.width(wave.signature)
        slots = []
        for i in range(len(self.devices)):
            jobs = wave.cohorts[min(i, len(wave.cohorts) - 1)].jobs
            slots += [*jobs, *([jobs[0]] * (width - len(jobs)))]
        return slots

    def _seeds(self, slots: Sequence[Job]) -> np.ndarray:
        return np.asarray([job.seed for job in slots], np.int32)

    def _clock(self, wave: Wave) -> Clock:
        last = len(wave.cohorts) - 1
        cohorts = [wave.cohorts[min(i, last)] for i in range(len(self.devices))]
        return Clock(
            np.asarray([c.fold for c in cohorts], np.int32),
            np.asarray([c.replicate for c in cohorts], np.int32),
            np.asarray([c.start for c in cohorts], np.int32),
            np.asarray([c.num_epochs for c in cohorts], np.int32),
            np.asarray([c.blocks for c in cohorts], np.int32),
            np.asarray([c.depth for c in cohorts], np.int32),
        )

    def _hparams(self, slots: Sequence[Job]) -> dict[str, np.ndarray]:
        totals = [
            job.budget * steps_per_epoch(num_rows, job.config["batch_size"])
            for job in slots
            for num_rows in [int(self.host_arrays.num_train[job.fold])]
        ]
        traced = hyperparameters.traced_rows([job.config for job in slots])
        return {**traced, "total_steps": np.asarray(totals, np.float32)}

    def _finish(self, running: "_Running", waited: float) -> WaveReport:
        """Wait (in a way that Ctrl-C can interrupt), fetch, and take the wave apart.

        Args:
          running: a wave.
          waited: seconds that the host waited meanwhile for the program of the next wave, which
            count for that one.
        """
        leaves = jax.tree.leaves((running.state, running.pieces, running.probed))
        pause = _FIRST_PAUSE
        try:
            while not all(leaf.is_ready() for leaf in leaves):
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            final = trainer.final_params(running.state.state)
            kept = (running.state.state.diverged_at, running.state.state.last_loss)
            outputs, (diverged_at, last_loss) = jax.device_get((running.state.outputs, kept))
            pieces, probed = jax.device_get((running.pieces, running.probed))
            resumable = any(job.resumable for job in running.wave.jobs)
            states = jax.tree.leaves(jax.device_get(running.state)) if resumable else []
        except jax.errors.JaxRuntimeError as error:
            raise _out_of_memory(error, self.width(running.wave.signature)) from error
        curves = jax.tree.map(lambda *parts: np.concatenate(parts, axis=1), *pieces)
        width = self.width(running.wave.signature)
        params = functools.cache(lambda: jax.device_get(final))
        results = []
        for i, cohort in enumerate(running.wave.cohorts):
            num_valid = int(self.host_arrays.num_valid[cohort.fold])
            for j, job in enumerate(cohort.jobs):
                slot = i * width + j
                results.append(
                    Result(
                        job,
                        _named(curves, slot, job.num_epochs * self.evaluations),
                        curves.keep[slot, : job.num_epochs],
                        outputs[slot, :num_valid],
                        int(diverged_at[slot]),
                        float(last_loss[slot]),
                        functools.partial(self._trimmed, params, slot, job),
                        {name: np.asarray(value[slot]) for name, value in probed.items()},
                        [np.asarray(leaf[slot]) for leaf in states] if job.resumable else None,
                    )
                )
        now = time.perf_counter()
        seconds = max(now - max(running.started, self._last_finish) - waited, 0.0)
        if running.started < self._last_finish:
            seconds += running.compile_seconds
        self._last_finish = now
        return WaveReport(running.wave, results, seconds, running.compile_seconds)

    def _trimmed(self, params: Callable[[], Any], slot: int, job: Job) -> Any:
        own = jax.tree.map(lambda x: np.asarray(x[slot]), params())
        if self.make_model is not trainer.make_model:
            return own
        return trainer.trim(own, job.config["num_layers"], job.config["hidden_size"])


class _Running(NamedTuple):
    wave: Wave
    state: engine.Wave
    pieces: list[Curves]
    probed: dict[str, Any]
    started: float
    compile_seconds: float


def _named(curves: Curves, slot: int, length: int) -> dict[str, np.ndarray]:
    columns = {"train_loss": curves.train_loss, **curves.valid, **(curves.observed or {})}
    return {name: np.asarray(values[slot, :length]) for name, values in columns.items()}


def _out_of_memory(error: Exception, width: int) -> Exception:
    if "RESOURCE_EXHAUSTED" not in str(error) and "out of memory" not in str(error).lower():
        return error
    advice = f"Go on with smaller cohorts: --cohort-width {width // 2}"
    if width == 1:
        advice = "Start in a new directory with a space of smaller networks or batches"
    return MachineError(
        f"out of memory with cohorts of {width} trials; nothing finished is lost. {advice}"
    )
