"""A problem of any kind, as a study trains it."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lab.core.client import Client
from jaxopt_lab.core.cohorts import Job, Wave, cheapest_width, make_waves
from jaxopt_lab.core.controls import Values
from jaxopt_lab.core.devices import accelerator
from jaxopt_lab.core.engine import CURVE_LENGTH, Executor, Probe
from jaxopt_lab.core.errors import UserError
from jaxopt_lab.core.executors.kernel import misfit as kernel_misfit
from jaxopt_lab.core.hparams import Hparams
from jaxopt_lab.core.results import CohortResults, Result
from jaxopt_lab.core.status import Config
from jaxopt_lab.core.tracing.check import Checked, check_trainable, refuse_unread
from jaxopt_lab.core.tracing.executors import choose_executor, choose_width
from jaxopt_lab.core.tracing.footprint import Footprint, trial_footprint
from jaxopt_lab.core.trainable import Shared, Trainable, guarded
from jaxopt_lab.core.types import PyTree
from jaxopt_lab.planning.costs import UNKNOWN_EPOCH
from jaxopt_lab.planning.plan import Plan, ProgramPlan, pieces
from jaxopt_lab.planning.sizing import Sizing
from jaxopt_lab.problems.contract import Amount, Judged, JudgedCohort
from jaxopt_lab.problems.general.declared import Declared, declare
from jaxopt_lab.problems.general.programs import StaticProgram, StaticPrograms
from jaxopt_lab.schedulers.base import Scheduler
from jaxopt_lab.spaces.space import SearchSpace
from jaxopt_lab.storage.packing import pack_state, unpack_state
from jaxopt_lab.storage.rows import TrainedMember

if TYPE_CHECKING:
    from jaxopt_lab.problems.general.problem import GeneralProblem


class GeneralTraining:
    """A `GeneralProblem` in a space: client of the runner, judge of its results.

    Args:
      problem: builder, data, objective.
      space: of the study.

    Raises:
      UserError: for functions or a space that cannot be trained, in one line.
    """

    def __init__(self, problem: "GeneralProblem", space: SearchSpace) -> None:
        self.problem = problem
        self.declared: Declared = declare(space, tuple(problem.keywords))
        self.num_members = problem.num_members
        self.refit_member: int | None = None
        self.data: PyTree = problem.data
        self.curve_length = min(problem.budget or CURVE_LENGTH, CURVE_LENGTH)
        self._checked: dict[StaticProgram, Checked] = {}
        self._footprints: dict[StaticProgram, Footprint] = {}
        self._choices: dict[tuple[StaticProgram, bool], tuple[Executor, str]] = {}

    @property
    def client(self) -> Client:
        """Itself."""
        return self

    def check(self) -> None:
        """Trace the functions of all combinations of static values.

        Raises:
          UserError: naming what cannot be traced, or what the space searches and nothing reads.
        """
        programs = StaticPrograms(self.declared.static, 1)
        found = [self.checked(programs.signature(c)) for c in self.declared.combinations()]
        if self.declared.num_combinations <= len(found):
            nowhere = set.intersection(*(set(checked.unread) for checked in found))
            refuse_unread(found[0], self.problem.source, tuple(nowhere))

    def checked(self, program: StaticProgram) -> Checked:
        """What tracing one trial of a program tells."""
        if program not in self._checked:
            problem, values = self.problem, program.values
            keywords = {k: v for k, v in values.items() if k in self.declared.keywords}
            traced = {name: np.zeros((), kind) for name, kind in self.declared.dtypes.items()}
            found = check_trainable(
                lambda: problem.build(**keywords),
                source=problem.source,
                objective=problem.objective,
                traced=traced,
                static=values,
                data=problem.data,
                members=problem.num_members,
                budget=problem.budget,
                keywords=self.declared.keywords,
                pure=not self._checked,
            )
            if problem.inspect is not None and not self._checked:
                problem.inspect(found, keywords, Hparams(traced, values))
            self._checked[program] = found
        return self._checked[program]

    def footprint(self, program: StaticProgram) -> Footprint:
        """Memory and arithmetic of one unit of one trial."""
        if program not in self._footprints:
            self._footprints[program] = trial_footprint(self.checked(program))
        return self._footprints[program]

    # What the runner asks for.

    def trainable(self, program: StaticProgram, on_cpu: bool) -> Trainable:
        """The user's functions, frozen at the first objective that is not finite."""
        del on_cpu
        found = self.checked(program).trainable
        return guarded(found, self.problem.objective.metric) if self.problem.guard else found

    def static(self, program: StaticProgram) -> Mapping[str, Any]:
        """The program's values."""
        return program.values

    def executor(self, program: StaticProgram, on_cpu: bool) -> Executor:
        """By what the trace shows, or as the user insists."""
        return self.choice(program, on_cpu)[0]

    def insists(self) -> bool:
        """Where the problem names its executor."""
        return self.problem.executor is not None

    def choice(self, program: StaticProgram, on_cpu: bool) -> tuple[Executor, str]:
        """The executor, and why."""
        key = program, on_cpu
        if key not in self._choices:
            platform = "cpu" if on_cpu else accelerator()
            loop = self.checked(program).trainable.row_loop
            misfit = None if loop is None else partial(self._misfit, program)
            self._choices[key] = choose_executor(
                self.footprint(program), platform, self.problem.executor, misfit
            )
        return self._choices[key]

    def _misfit(self, program: StaticProgram, interpret: bool) -> str:
        """Why no kernel can train the program's trials; "" if one can."""
        checked = self.checked(program)
        traced = {name: np.zeros((), kind) for name, kind in self.declared.dtypes.items()}
        hparams = Hparams(traced, program.values)
        key = jax.eval_shape(lambda: jax.random.key(0, impl="threefry2x32"))
        zero: Any = np.zeros((), np.int32)
        shared = Shared(key, zero, zero, zero, self.data)
        return kernel_misfit(checked.trainable.row_loop, checked.state, hparams, shared, interpret)

    def default_width(self, program: StaticProgram, on_cpu: bool) -> int:
        """By what the trace shows."""
        platform, executor = ("cpu" if on_cpu else "gpu"), self.executor(program, on_cpu)
        return choose_width(self.footprint(program), executor, platform, 2**30)

    def shared_as(self, program: StaticProgram) -> None:
        """With nobody: a user's functions may hold anything."""
        del program

    def init_in_turn(self, program: StaticProgram) -> bool:
        """An accelerator initialises all trials at once."""
        del program
        return False

    def traced(self, jobs: Sequence[Job]) -> Values:
        """By the space."""
        return self.declared.traced([job.config for job in jobs])

    def probe(self, probe: Callable[..., Any], on_cpu: bool) -> Probe:
        """As given."""
        del on_cpu
        return probe

    def curves(self, metrics: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """As they are."""
        return dict(metrics)

    def finished(self, kept: PyTree, job: Job) -> PyTree:
        """As it is."""
        del job
        return kept

    # What the study asks for.

    def complete(self, config: Mapping[str, Any]) -> Config:
        """See `Declared.complete`."""
        return self.declared.complete(config)

    def static_values(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """Keywords of the builder in a configuration."""
        return {k: config[k] for k in self.declared.keywords if k in config}

    def changeable(self, space: SearchSpace) -> tuple[str, ...]:
        """Those traced ones that a unit reads: what only `init` reads has had its effect.

        Raises:
          UserError: if there are traced ones and all of them are read by `init` alone.
        """
        traced = [name for name in space.names if name in self.declared.dtypes]
        programs = StaticPrograms(self.declared.static, 1)
        every = [programs.signature(config) for config in self.declared.combinations()]
        steering = set().union(*(self.checked(program).steering for program in every))
        if traced and not steering.intersection(traced):
            raise UserError(
                f"a population changes values while its members train, and step reads none of "
                f"{', '.join(traced)}: what only init reads, a rate that the state or "
                "optax.inject_hyperparams keeps say, stays as it was; read it in step, or take "
                "another scheduler"
            )
        return tuple(name for name in traced if name in steering)

    def refit_units(self, config: Config, mean_best: int) -> int:
        """There is no refit."""
        raise NotImplementedError

    def predictor(self, config: Config, kept: PyTree) -> Any:
        """There is none: apply the module to the result."""
        raise UserError("`predict` is for tables; apply your own functions to study.best.result()")

    def choose(self, space: SearchSpace, amount: Amount, sizing: Sizing) -> StaticPrograms:
        """One program for each combination of static values; cohorts with a place for each trial
        that is expected to train in it at the same time, narrower where rungs would leave too many
        places empty."""
        del space
        crowds = amount.crowds or ((amount.num_trials, amount.budget),)
        expected = [(-(-n // self.declared.num_combinations), units) for n, units in crowds]
        places = math.ceil(max(number for number, _ in expected) / amount.num_devices)
        largest, epoch = 2 ** math.ceil(math.log2(places)), UNKNOWN_EPOCH[sizing.on_cpu]

        def work(width: int) -> float:
            return sum(-(-n // width) * epoch.whole(width) * units for n, units in expected)

        one_size = len(set(expected)) == 1
        return StaticPrograms(
            self.declared.static, largest if one_size else cheapest_width(largest, work)
        )

    def programs_from(self, content: Mapping[str, Any]) -> StaticPrograms:
        """Read what `StaticPrograms.to_dict` wrote."""
        return StaticPrograms.from_dict(content)

    def width(self, program: StaticProgram, sizing: Sizing, largest: int) -> int:
        """By what the trace shows and the bounds that the user gives."""
        width = min(self.default_width(program, sizing.on_cpu), largest)
        data_bytes = sum(x.nbytes for x in jax.tree.leaves(self.data))
        return max(1, min(width, sizing.bound(self.trial_bytes(program), data_bytes)))

    def trial_bytes(self, program: StaticProgram) -> int:
        """The most that is alive at a time, and the metrics of a call."""
        found = self.checked(program)
        metrics = sum(math.prod(x.shape) * x.dtype.itemsize for x in found.metrics.values())
        return int(self.footprint(program).trial_bytes) + self.curve_length * metrics

    def expected_seconds(
        self, wave: Wave, width: int, programs: Any, amount: Amount, sizing: Sizing
    ) -> tuple[float, float]:
        """Nobody knows how long a program compiles; it runs for its arithmetic, roughly."""
        del programs, amount
        units = max(cohort.num_units for cohort in wave.cohorts)
        return math.nan, self._unit_seconds(wave.program, sizing) * width * units

    def _unit_seconds(self, program: StaticProgram, sizing: Sizing) -> float:
        return float(self.footprint(program).flops / sizing.costs.flops)

    def plan(
        self,
        configs: Sequence[Config],
        space: SearchSpace,
        amount: Amount,
        sizing: Sizing,
        scheduler: Scheduler | None,
    ) -> Plan:
        """Programs, executors and cohorts; seconds by arithmetic alone."""
        programs = self.choose(space, amount, sizing)
        complete = [self.complete(config) for config in configs]
        jobs = [
            Job(i, m, 0, complete[i], programs.signature(complete[i]), n, amount.budget, None, age)
            for m in range(self.num_members)
            for i, age, n in pieces(len(complete), amount.budget, self.num_members, m, scheduler)
        ]
        widths = {p: self.width(p, sizing, programs.largest) for p in {j.program for j in jobs}}
        waves = make_waves(jobs, widths, amount.num_devices)
        found, places = [], 0
        for program, width in widths.items():
            mine = [wave for wave in waves if wave.program == program]
            cohorts = [cohort for wave in mine for cohort in wave.cohorts]
            places += len(mine) * width * amount.num_devices
            executor, why = self.choice(program, sizing.on_cpu)
            networks = {(job.trial_id, job.fold) for c in cohorts for job in c.jobs}
            seconds = sum(
                self.expected_seconds(w, width, programs, amount, sizing)[1] for w in mine
            )
            name = f"{program}; {executor}: {why}"
            found.append(ProgramPlan(name, width, len(networks), len(cohorts), math.nan, seconds))
        empty = 1 - len(jobs) / places
        return Plan(tuple(found), len(waves), amount.num_devices, empty, 0.0)

    def judge(self, result: Result, before: TrainedMember | None) -> Judged:
        """As one row of a cohort, with the units before."""
        curves = result.curves
        if before is not None:
            curves = {k: np.concatenate([before.curves[k], v]) for k, v in curves.items()}
        one = jax.tree.map(lambda x: np.asarray(x)[np.newaxis], (curves, dict(result.info)))
        return self._judged(one[0], one[1]).row(0)

    def judge_cohort(self, cohort: CohortResults) -> JudgedCohort:
        """The objective of the unit that counts."""
        curves = {name: cohort.curves[name] for name in sorted(cohort.curves)}
        return self._judged(curves, cohort.info)

    def _judged(self, curves: dict[str, np.ndarray], info: Mapping[str, Any]) -> JudgedCohort:
        """Trainings by their curves, [n, units, ...] each."""
        objective = self.problem.objective
        values = np.asarray(curves[objective.metric], np.float64)
        num, units = len(values), objective.best_units(values)
        best = values[np.arange(num), units]
        reasons = [""] * num
        diverged_at = np.asarray(info.get("diverged_at", np.full(num, -1)))
        for i in np.flatnonzero((diverged_at >= 0) | ~np.isfinite(best)).tolist():
            last = float(info["last"][i]) if diverged_at[i] >= 0 else math.nan
            reasons[i] = self._why_infeasible(int(diverged_at[i]), last, float(best[i]))
        pairs = zip(best.tolist(), reasons, strict=True)
        scores = [None if reason else objective.sign * value for value, reason in pairs]
        outputs = np.zeros((num, 0, 1), np.float32)
        return JudgedCohort(scores, reasons, units.tolist(), curves, outputs)

    def objective_curve(self, curves: Mapping[str, np.ndarray], member: int) -> np.ndarray:
        """The metric, or its negative where it is maximised."""
        del member
        objective = self.problem.objective
        return objective.sign * np.asarray(curves[objective.metric], np.float64)

    def _why_infeasible(self, diverged_at: int, last: float, value: float) -> str:
        metric, unit = self.problem.objective.metric, self.problem.unit
        if diverged_at >= 0:
            seen = f"last finite value {last:.4g}" if math.isfinite(last) else "no finite value"
            return f"{metric} was not finite after {unit} {diverged_at + 1}, {seen}"
        return "" if math.isfinite(value) else f"{metric} is {value}"

    def num_parameters(self, config: Config, program: StaticProgram) -> int:
        """Real numbers in the result of one trial."""
        del config
        leaves = jax.tree.leaves(self.checked(program).result)
        return sum(math.prod(x.shape) for x in leaves if jnp.issubdtype(x.dtype, jnp.inexact))

    def dump(self, kept: PyTree) -> bytes:
        """Leaves in their order."""
        return pack_state(jax.tree.leaves(kept))

    def load(self, content: bytes, program: StaticProgram) -> PyTree:
        """In the structure of the program's result."""
        structure: Any = jax.tree.structure(self.checked(program).result)
        leaves = unpack_state(content)
        if structure.num_leaves != len(leaves):
            raise UserError("what is stored does not fit the problem's result; has it changed?")
        return jax.tree.unflatten(structure, leaves)
