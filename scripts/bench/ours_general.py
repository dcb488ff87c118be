"""The front doors for modules and functions, driven by the runner that a study uses."""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

import jaxopt_lab as lab
from bench.cases import HIGH_DECAY, HIGH_RATE, LOW_DECAY, LOW_RATE, Case
from bench.networks import optimizer as optimizer_of
from bench.networks import plain
from bench.networks import shipped as shipped_network
from bench.peers_jax import train_as_one_function
from jaxopt_lab.core.cohorts import Job
from jaxopt_lab.core.results import Result
from jaxopt_lab.core.runner import Runner
from jaxopt_lab.planning.costs import Costs
from jaxopt_lab.planning.sizing import Sizing
from jaxopt_lab.problems.contract import Amount


class General:
    """A problem of any kind, in the programs and cohorts that a study would choose.

    Args:
      case: what to train.
      problem: of it.
      budget: units of each training.
      score_of: the result of the first member of trial 0 -> its error.
    """

    def __init__(
        self, case: Case, problem: Any, budget: int, score_of: Callable[[Result], float]
    ) -> None:
        self.case, self.score_of = case, score_of
        space = lab.SearchSpace(
            learning_rate=lab.LogUniform(LOW_RATE, HIGH_RATE),
            weight_decay=lab.LogUniform(LOW_DECAY, HIGH_DECAY),
        )
        devices, on_cpu = len(jax.local_devices()), jax.default_backend() == "cpu"
        training = problem.training(space, None, 0)
        sizing = Sizing(Costs(), on_cpu, devices, None, case.width or None)
        programs = training.choose(space, Amount(case.num_trials, budget, devices), sizing)
        self.jobs = []
        traced = zip(case.learning_rates, case.weight_decays, strict=True)
        for i, (rate, decay) in enumerate(traced):
            config = training.complete({"learning_rate": float(rate), "weight_decay": float(decay)})
            program = programs.signature(config)
            self.jobs.append(
                [
                    Job(i, member, 0, config, program, budget, budget)
                    for member in range(training.num_members)
                ]
            )
        self.width = training.width(program, sizing, programs.max_cohort(program))
        self.runner = Runner(training.client, 0, {program: self.width})
        together = self.width * len(self.runner.devices)
        self.quantum = min(-(-together // training.num_members), case.num_trials)
        self.compile_seconds = self._run(range(self.quantum))

    def _run(self, trials: range) -> float:
        seconds = 0.0
        for report in self.runner.run([job for i in trials for job in self.jobs[i]]):
            seconds += report.compile_seconds
            for result in report.results:
                if result.job.trial_id == 0 and result.job.fold == 0:
                    kept = partial(_same, result.params)
                    self.first = result._replace(fetch=kept)
        return seconds

    def run(self, trials: range) -> None:
        """Train trials; returns when the last is finished."""
        self._run(trials)

    def score(self) -> float:
        """Error of trial 0, of its first seed."""
        return self.score_of(self.first)


def _supervised(case: Case, module: nn.Module, **options: Any) -> General:
    inputs, targets = case.data()

    def model() -> nn.Module:
        return module

    def optimizer(hparams: Any, total_steps: Any) -> optax.GradientTransformation:
        return optimizer_of(case, hparams["learning_rate"], hparams["weight_decay"], total_steps)

    def mean_squared_error(result: Result) -> float:
        return float(jnp.mean((module.apply(result.params, inputs) - targets) ** 2))

    problem = lab.supervised(
        model,
        (inputs, targets),
        loss=optax.squared_error,
        optimizer=optimizer,
        splits=None,
        batch_size=case.batch_size,
        **options,
    )
    return General(case, problem, case.num_epochs, mean_squared_error)


def flax(case: Case) -> General:
    """A module of Flax's own layers through `supervised`."""
    return _supervised(case, plain(case))


def shipped(case: Case) -> General:
    """A module that ships through `supervised`."""
    return _supervised(case, shipped_network(case))


def _in_kernel(case: Case, precision: str) -> General:
    on_cpu = jax.default_backend() == "cpu"
    executor = "kernel-interpreted" if on_cpu else "kernel"
    return _supervised(case, plain(case), executor=executor, precision=precision)


def kernel(case: Case) -> General:
    """A program for each network, products in three passes of bfloat16."""
    return _in_kernel(case, "float32")


def kernel_tf32x3(case: Case) -> General:
    """Products in three passes of TF32."""
    return _in_kernel(case, "tf32x3")


def kernel_scalar(case: Case) -> General:
    """Products in float32 without tensor cores."""
    return _in_kernel(case, "scalar")


def planned(case: Case) -> General:
    """A module through `supervised`, the executor left to the planner."""
    return _supervised(case, plain(case))


def whole_training(case: Case) -> General:
    """A whole training as one function through `from_function`."""
    problem = lab.from_function(
        train_as_one_function(case), objective="loss", num_seeds=case.num_seeds
    )
    return General(case, problem, 1, lambda result: float(result.curves["loss"][-1]))


def _same(value: Any) -> Any:
    return value
