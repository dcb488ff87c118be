"""Run jobs on the engine, wave by wave: the host side of training."""

import functools
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxopt_lab.core.client import Client
from jaxopt_lab.core.cohorts import Job, Wave, make_waves
from jaxopt_lab.core.controls import Clock, Values
from jaxopt_lab.core.engine import Curves, Engine
from jaxopt_lab.core.errors import MachineError
from jaxopt_lab.core.results import CohortResults, Result, Results
from jaxopt_lab.core.sharing import shared_engine
from jaxopt_lab.core.types import PyTree

#: Waiting for a wave: first and longest pause between two looks.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.0005, 0.004
#: Programs that are compiled at the same time, at most; one per two cores.
MAX_COMPILING = 4
#: Program -> what to measure on each of its trials at their end, for `Client.probe`.
MakeProbe = Callable[[Any], Callable[..., Any]]
#: A wave -> the state in which it begins, where that is on the devices already; else None.
Begin = Callable[[Wave], PyTree | None]


class WaveReport(NamedTuple):
    """A finished wave: its results and what it cost.

    Attributes:
      wave: what was trained.
      results: of its jobs.
      seconds: of the host for it.
      compile_seconds: of these, waiting for its program, which may have been begun before.
      state: of all places of the wave, where it was trained, for whoever gave `begin`.
      worker: who trained it; "" for this process.
    """

    wave: Wave
    results: Sequence[Result]
    seconds: float
    compile_seconds: float
    state: PyTree = None
    worker: str = ""

    @property
    def jobs(self) -> list[Job]:
        """Those of the results."""
        known = self.results
        return known.jobs if isinstance(known, Results) else [result.job for result in known]


class Runner:
    """Owns one engine per program and keeps devices busy.

    Args:
      client: what is trained.
      seed: the study's seed.
      widths: program -> V; the client's default where missing.
      devices: all local devices by default.
    """

    def __init__(
        self,
        client: Client,
        seed: int,
        widths: Mapping[Any, int] | None = None,
        devices: Sequence[Any] | None = None,
    ) -> None:
        self.client, self.seed = client, seed
        self.devices = list(devices or jax.local_devices())
        self.on_cpu = self.devices[0].platform == "cpu"
        self.widths = dict(widths or {})
        self._placed: PyTree = None
        self._engines: dict[Any, Engine] = {}
        self._coming: dict[Any, Future[None]] = {}
        self._last_finish = 0.0

    def width(self, program: Any) -> int:
        """Cohort width V: as recorded, else the client's."""
        if program not in self.widths:
            self.widths[program] = self.client.default_width(program, self.on_cpu)
        return self.widths[program]

    def use_width(self, program: Any, width: int) -> None:
        """Fix the cohort width of a program; a program of another width is compiled again."""
        if self.widths.get(program, width) != width:
            self._engines.pop(program, None)
            self._coming.pop(program, None)
        self.widths[program] = width

    def plan(self, jobs: Sequence[Job]) -> list[Wave]:
        """The waves in which jobs would run."""
        programs = dict.fromkeys(job.program for job in jobs)
        widths = {program: self.width(program) for program in programs}
        return make_waves(jobs, widths, len(self.devices))

    def run(
        self,
        jobs: Sequence[Job],
        go_on: Callable[[int], bool] = lambda num_waves_left: True,
        probe: MakeProbe | None = None,
        num_probed: int | None = None,
    ) -> Iterator[WaveReport]:
        """Train jobs; yield each wave when it is finished.

        While the caller handles one wave (writes it to disk), the devices compute the next.

        Args:
          jobs: what to train.
          go_on: asked before each wave is started, with the number of waves left.
          probe: program -> what to measure on each trial at its end.
          num_probed: of each cohort the first so many are measured; None: all. One for all runs.
        """
        waves = self.plan(jobs)
        self.expect(waves)

        def take() -> Wave | None:
            return waves.pop(0) if waves and go_on(len(waves)) else None

        return self.stream(take, probe=probe, num_probed=num_probed)

    def expect(self, waves: Sequence[Wave]) -> None:
        """Begin to compile the programs of waves to come, in their order, in the background."""
        firsts: dict[Any, Wave] = {}
        for wave in waves:
            if wave.program not in self._engines:
                firsts.setdefault(wave.program, wave)
        threads = ThreadPoolExecutor(max(1, min(MAX_COMPILING, (os.cpu_count() or 1) // 2)))
        for program, wave in firsts.items():
            built = self._engine(program)
            slots = self._slots(wave)
            args = (self._seeds(slots), self._clock(wave), self._hparams(slots))
            self._coming[program] = threads.submit(built.prepare, *args)
        threads.shutdown(wait=False)

    def _forget(self) -> None:
        """Do not compile what has not begun to be."""
        for program, future in list(self._coming.items()):
            if future.cancel():
                del self._coming[program], self._engines[program]

    def stream(
        self,
        take: Callable[[], Wave | None],
        load: Callable[[Job], list[np.ndarray]] | None = None,
        probe: MakeProbe | None = None,
        begin: Begin | None = None,
        num_probed: int | None = None,
    ) -> Iterator[WaveReport]:
        """Train waves as they come; yield each when it is finished.

        Args:
          take: the next wave, or None: there is none, or not before a running one is finished.
          load: the state (`Result.state`) of a job that was trained before.
          probe: program -> what to measure on each trial at its end.
          begin: the state of a wave that is on the devices; without one its jobs are loaded.
          num_probed: see `run`.
        """
        running: _Running | None = None
        try:
            while True:
                wave = take()
                following = self._start(wave, load, probe, begin, num_probed) if wave else None
                if running:
                    waited = following.compile_seconds if following else 0.0
                    yield self._finish(running, waited, begin is not None)
                elif following is None:
                    return
                running = following
        finally:
            self._forget()

    def close(self) -> None:
        """Nothing is trained any more."""

    def _engine(self, program: Any) -> Engine:
        if program not in self._engines:
            client, width = self.client, self.width(program)
            data = client.data if self._placed is None else self._placed

            def make(data: PyTree) -> Engine:
                return Engine(
                    client.trainable(program, self.on_cpu),
                    data,
                    width,
                    self.seed,
                    self.devices,
                    executor=client.executor(program, self.on_cpu),
                    insists=client.insists(),
                    static=client.static(program),
                    curve_length=client.curve_length,
                    init_in_turn=client.init_in_turn(program),
                )

            key = client.shared_as(program)
            if key is None:
                built = make(data)
            else:
                key = (key, width, tuple(self.devices), client.curve_length)
                built = shared_engine(key, make, data, self.seed)
            self._placed = built.data
            self._engines[program] = built
        return self._engines[program]

    def _start(
        self,
        wave: Wave,
        load: Callable[[Job], list[np.ndarray]] | None,
        probe: MakeProbe | None,
        begin: Begin | None,
        num_probed: int | None,
    ) -> "_Running":
        """Dispatch all of a wave's work; returns before it is done."""
        built, started = self._engine(wave.program), time.perf_counter()
        slots = self._slots(wave)
        clock = self._clock(wave)
        seeds = self._seeds(slots)
        try:
            waited = 0.0
            if wave.program in self._coming:
                # Kept until it is there: whoever goes on after Ctrl-C waits for it again.
                self._wait_for(wave.program)
                waited = time.perf_counter() - started
            compiled_before = built.compile_seconds
            hparams = built.place(self._hparams(slots))
            state = begin(wave) if begin else None
            if state is not None:
                pass
            elif wave.cohorts[0].start:
                assert load is not None
                known = {id(job): load(job) for job in wave.jobs}
                state = built.restore([known[id(job)] for job in slots], clock, hparams)
            else:
                state = built.init(seeds, clock, hparams)
            pieces = []
            done = 0
            while done < wave.cohorts[0].num_units:
                units = np.minimum(clock.num_units - done, built.curve_length)
                part = clock._replace(unit=clock.unit + done, num_units=np.maximum(units, 0))
                state, curves = built.advance(state, part, hparams)
                pieces.append(curves)
                done += built.curve_length
            probed = {}
            if probe:
                measure = self.client.probe(probe(wave.program), self.on_cpu)
                num = min(num_probed or built.width, built.width)
                probed = built.probe(state, clock, hparams, measure, num)
            final, info = built.final(state)
        except jax.errors.JaxRuntimeError as error:
            raise _out_of_memory(error, built.width) from error
        compiled = waited + built.compile_seconds - compiled_before
        return _Running(wave, state, final, info, pieces, probed, started, compiled)

    def _wait_for(self, program: Any) -> None:
        """Until a program that is compiled in the background is there."""
        future = self._coming[program]
        try:
            future.result()
        except BaseException:
            if future.done():  # else it was the wait that was interrupted
                del self._coming[program], self._engines[program]
            raise
        del self._coming[program]

    def _slots(self, wave: Wave) -> list[Job]:
        """One job per slot: cohorts filled up with copies of a real trial, waves with a cohort."""
        width = self.width(wave.program)
        slots = []
        for i in range(len(self.devices)):
            jobs = wave.cohorts[min(i, len(wave.cohorts) - 1)].jobs
            slots += [*jobs, *([jobs[0]] * (width - len(jobs)))]
        return slots

    def _seeds(self, slots: Sequence[Job]) -> np.ndarray:
        return np.asarray([job.seed for job in slots], np.int32)

    def _clock(self, wave: Wave) -> Clock:
        """Of all devices; one without a cohort has no unit to train."""
        num_idle, last = len(self.devices) - len(wave.cohorts), len(wave.cohorts) - 1
        cohorts = [wave.cohorts[min(i, last)] for i in range(len(self.devices))]
        extras = [c.extra for c in cohorts]
        return Clock(
            np.asarray([c.fold for c in cohorts], np.int32),
            np.asarray([c.replicate for c in cohorts], np.int32),
            np.asarray([c.start for c in cohorts], np.int32),
            np.asarray([c.num_units for c in wave.cohorts] + [0] * num_idle, np.int32),
            np.asarray([c.jobs[0].budget for c in cohorts], np.int32),
            tuple(np.asarray(row, np.int32) for row in zip(*extras, strict=True)),
        )

    def gather(self, earlier: WaveReport, wave: Wave, parents: Sequence[Sequence[int]]) -> PyTree:
        """The state in which a wave begins whose jobs go on from those of an earlier one.

        Args:
          earlier: of the same program, with as many cohorts.
          wave: to begin.
          parents: for each cohort and each of its jobs, the place of the job in the same cohort of
            the earlier wave that it goes on from.
        """
        width, last = self.width(wave.program), len(parents) - 1
        sources: list[int] = []
        for i in range(len(self.devices)):
            places = parents[min(i, last)]
            sources += [*places, *([places[0]] * (width - len(places)))]
        return self._engine(wave.program).gather(earlier.state, np.asarray(sources, np.int32))

    def _hparams(self, slots: Sequence[Job]) -> Values:
        return self.client.traced(slots)

    def _finish(self, running: "_Running", waited: float, with_state: bool) -> WaveReport:
        """Wait (in a way that Ctrl-C can interrupt), fetch, and take the wave apart.

        Args:
          running: a wave.
          waited: seconds that the host waited meanwhile for the program of the next wave, which
            count for that one.
          with_state: whether the report holds the states, too.
        """
        leaves = jax.tree.leaves((running.state, running.info, running.pieces, running.probed))
        pause = _FIRST_PAUSE
        try:
            while not all(leaf.is_ready() for leaf in leaves):
                time.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            final, resumable = running.final, any(job.resumable for job in running.wave.jobs)
            info, pieces, probed = jax.device_get((running.info, running.pieces, running.probed))
            states = jax.tree.leaves(jax.device_get(running.state)) if resumable else []
        except jax.errors.JaxRuntimeError as error:
            raise _out_of_memory(error, self.width(running.wave.program)) from error
        metrics = jax.tree.map(lambda *parts: np.concatenate(parts, axis=1), *pieces).metrics
        params = functools.cache(lambda: jax.device_get(final))
        results = self._results(running.wave, metrics, info, params, probed, states)
        now = time.perf_counter()
        seconds = max(now - max(running.started, self._last_finish) - waited, 0.0)
        if running.started < self._last_finish:
            seconds += running.compile_seconds
        self._last_finish = now
        state = running.state if with_state else None
        return WaveReport(running.wave, results, seconds, running.compile_seconds, state)

    def _results(
        self,
        wave: Wave,
        metrics: Mapping[str, np.ndarray],
        info: Any,
        params: Callable[[], Any],
        probed: Mapping[str, np.ndarray],
        states: Sequence[np.ndarray],
    ) -> Results:
        """Of all jobs of a wave, from arrays of all its places.

        Args:
          wave: its cohorts have `width` places each.
          metrics: name -> [D * V, units, ...].
          info: tree of [D * V, ...].
          params: gives a tree of [D * V, ...], once.
          probed: name -> [D * num, ...], of the first `num` places of each cohort.
          states: leaves [D * V, ...], of jobs that go on.
        """
        width = self.width(wave.program)
        num_probed = min((len(x) for x in probed.values()), default=0) // len(self.devices)
        cohorts = []
        for i, cohort in enumerate(wave.cohorts):
            first, num = i * width, len(cohort.jobs)
            here = slice(first, first + num)
            measured = slice(i * num_probed, i * num_probed + min(num_probed, num))
            cohorts.append(
                CohortResults(
                    cohort.jobs,
                    self.client.curves(
                        {name: x[here, : cohort.num_units] for name, x in metrics.items()}
                    ),
                    jax.tree.map(lambda x, here=here: x[here], info),
                    functools.partial(self._kept, params, first, cohort.jobs),
                    {name: x[measured] for name, x in probed.items()},
                    [leaf[here] for leaf in states],
                )
            )
        return Results(cohorts)

    def _kept(self, params: Callable[[], Any], first: int, jobs: Sequence[Job], place: int) -> Any:
        own = jax.tree.map(lambda x: np.asarray(x[first + place]), params())
        return self.client.finished(own, jobs[place])


class _Running(NamedTuple):
    wave: Wave
    state: PyTree
    final: PyTree
    info: PyTree
    pieces: list[Curves]
    probed: dict[str, Any]
    started: float
    compile_seconds: float


def _out_of_memory(error: Exception, width: int) -> Exception:
    if "RESOURCE_EXHAUSTED" not in str(error) and "out of memory" not in str(error).lower():
        return error
    advice = f"Go on with smaller cohorts: --cohort-width {width // 2}"
    if width == 1:
        advice = "Start in a new directory with a space of smaller networks or batches"
    return MachineError(
        f"out of memory with cohorts of {width} trials; nothing finished is lost. {advice}"
    )
