"""Networks on rows by fold, as a study trains them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import jax
import numpy as np
from safetensors.numpy import load, save

from jaxopt_lab.core.cohorts import Wave
from jaxopt_lab.core.results import CohortResults, Result
from jaxopt_lab.core.status import Config
from jaxopt_lab.core.types import PyTree
from jaxopt_lab.planning.costs import Load
from jaxopt_lab.planning.plan import Plan
from jaxopt_lab.planning.sizing import Sizing
from jaxopt_lab.problems.contract import Amount, Judged, JudgedCohort
from jaxopt_lab.problems.mlp import choosing, hyperparameters, planning
from jaxopt_lab.problems.mlp.client import RowsClient
from jaxopt_lab.problems.mlp.programs import Programs
from jaxopt_lab.problems.mlp.signature import Signature
from jaxopt_lab.schedulers.base import Scheduler
from jaxopt_lab.spaces.space import SearchSpace
from jaxopt_lab.storage.packing import flatten, unflatten
from jaxopt_lab.storage.rows import TrainedMember

#: A network is infeasible if its loss exceeds this many times a constant predictor's.
INFEASIBLE_RATIO = 10.0


class RowsTraining:
    """The MLP on rows; the last fold is the refit on all of them.

    Args:
      client: rows, loss, network.
      constant_losses: validation loss of a constant predictor, per fold.
      score: (mean loss, fold) -> the metric in the target's units.
    """

    def __init__(
        self,
        client: RowsClient,
        constant_losses: Sequence[float],
        score: Callable[[float, int], float],
    ) -> None:
        self.client = client
        self.num_members = self.refit_member = len(constant_losses) - 1
        self._constant_losses, self._score = list(constant_losses), score

    def complete(self, config: Mapping[str, Any]) -> Config:
        """Defaults of the registry fill the rest."""
        return hyperparameters.complete(config)

    def static_values(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """None: a table has no builder."""
        del config
        return {}

    def changeable(self, space: SearchSpace) -> tuple[str, ...]:
        """All but those of shape, data order, kind of update, and start."""
        return tuple(name for name in space.names if hyperparameters.is_changeable(name))

    def refit_units(self, config: Config, mean_best: int) -> int:
        """With early stopping the mean of the folds' best epochs: no row is left to validate on."""
        return mean_best if config["early_stopping"] else 0

    def load_of(self, amount: Amount) -> Load:
        """How much is trained, for the estimates."""
        return planning.load_of(
            self.client.data,
            amount.num_trials,
            amount.budget,
            amount.num_devices,
            amount.crowds,
            self.client.criterion.num_outputs,
        )

    def choose(self, space: SearchSpace, amount: Amount, sizing: Sizing) -> Programs:
        """The cheapest combination of merges, by the estimate."""
        return choosing.choose(space, self.load_of(amount), sizing.costs, sizing.on_cpu)

    def programs_from(self, content: Mapping[str, Any]) -> Programs:
        """Read what `Programs.to_dict` wrote."""
        return Programs.from_dict(content)

    def width(self, program: Signature, sizing: Sizing, largest: int) -> int:
        """By caches, memory and the bound of the choice of programs."""
        size = self.client.count_parameters(program)
        data_bytes = sum(x.nbytes for x in jax.tree.leaves(self.client.data))
        return sizing.width(size, self.trial_bytes(program), data_bytes, largest)

    def num_parameters(self, config: Config, program: Signature) -> int:
        """Weights of the configuration's own network, however wide its program is."""
        size, depth = config["hidden_size"], config["num_layers"]
        return self.client.count_parameters(replace(program, hidden_size=size, num_layers=depth))

    def trial_bytes(self, program: Signature) -> int:
        """From shapes."""
        size, outputs = self.client.count_parameters(program), self.client.criterion.num_outputs
        return planning.trial_bytes(program, size, self.client.num_valid, outputs)

    def expected_seconds(
        self, wave: Wave, width: int, programs: Programs, amount: Amount, sizing: Sizing
    ) -> tuple[float, float]:
        """By the costs of the devices."""
        return planning.expected_seconds(wave, width, programs, self.load_of(amount), sizing.costs)

    def plan(
        self,
        configs: Sequence[Config],
        space: SearchSpace,
        amount: Amount,
        sizing: Sizing,
        scheduler: Scheduler | None,
    ) -> Plan:
        """Programs, cohorts and seconds; where there is a choice of executors, that too."""

        def name(program: Signature) -> str:
            executor, why = self.client.choice(program, on_cpu=False)
            return f"{program}; {executor}: {why}"

        load = self.load_of(amount)
        named = str if sizing.on_cpu else name
        return planning.make_plan(configs, space, load, sizing, scheduler, named)

    def judge(self, result: Result, before: TrainedMember | None) -> Judged:
        """As one row of a cohort, with the epochs before."""
        job, curves = result.job, dict(result.curves)
        kept = np.flatnonzero(curves.pop("keep"))
        epoch = job.start + (int(kept[-1]) if len(kept) else job.num_units - 1)
        if before is not None:
            curves = {k: np.concatenate([before.curves[k], v]) for k, v in curves.items()}
            epoch = epoch if len(kept) else before.best_unit
        one = jax.tree.map(lambda x: np.asarray(x)[np.newaxis], (curves, dict(result.info)))
        return self._judged(job.fold, one[0], one[1], np.array([epoch])).row(0)

    def judge_cohort(self, cohort: CohortResults) -> JudgedCohort:
        """The loss of the epoch that counts, in the target's units; infeasible if it diverged, or
        if it is many times a constant predictor's."""
        curves = {name: cohort.curves[name] for name in sorted(cohort.curves)}
        kept = curves.pop("keep") != 0
        last = kept.shape[1] - 1
        epochs = np.where(kept.any(1), last - np.argmax(kept[:, ::-1], axis=1), last)
        return self._judged(cohort.jobs[0].fold, curves, cohort.info, epochs)

    def _judged(
        self, fold: int, curves: dict[str, np.ndarray], info: Any, epochs: np.ndarray
    ) -> JudgedCohort:
        """Networks of one fold by their curves [n, epochs], and the epochs that count [n]."""
        watched = curves["train_loss" if fold == self.num_members else "loss"]
        finals = watched[np.arange(len(epochs)), epochs].astype(np.float64)
        limit = INFEASIBLE_RATIO * self._constant_losses[fold]
        diverged_at, last_losses = info["diverged_at"], info["last_loss"]
        reasons = [""] * len(epochs)
        doubtful = (diverged_at >= 0) | ~(finals <= limit) | ~np.isfinite(finals)
        for i in np.flatnonzero(doubtful).tolist():
            facts = float(finals[i]), int(diverged_at[i]), float(last_losses[i])
            reasons[i] = why_infeasible(*facts, limit)
        pairs = zip(finals.tolist(), reasons, strict=True)
        scores = [None if reason else self._score(final, fold) for final, reason in pairs]
        outputs = info["outputs"][:, : int(self.client.data.num_valid[fold])]
        return JudgedCohort(scores, reasons, epochs.tolist(), curves, outputs)

    def objective_curve(self, curves: Mapping[str, np.ndarray], member: int) -> np.ndarray:
        """The score of each epoch's validation loss."""
        return np.array([self._score(float(loss), member) for loss in curves["loss"]])

    def dump(self, kept: PyTree) -> bytes:
        """Safetensors by name."""
        return save({k: np.ascontiguousarray(v) for k, v in flatten(kept).items()})

    def load(self, content: bytes, program: Signature) -> PyTree:
        """Nested weights."""
        del program
        return unflatten(load(content))


def why_infeasible(loss: float, diverged_at: int, last_loss: float, limit: float) -> str:
    """Say why a network is infeasible; empty if it is not.

    Args:
      loss: its final loss.
      diverged_at: first step with a loss that was not finite; -1 if none.
      last_loss: the last finite training loss.
      limit: losses above this count as diverged.
    """
    if diverged_at >= 0:
        seen = f"last finite loss {last_loss:.4g}" if np.isfinite(last_loss) else "no finite loss"
        return f"diverged at step {diverged_at}, {seen}"
    if not np.isfinite(loss):
        return "its final loss is not finite"
    if loss > limit:
        return f"final loss {loss:.4g} is above {limit:.4g}, many times a constant predictor's"
    return ""
