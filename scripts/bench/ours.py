"""Our own engine, driven by the runner that a study uses."""

import jax
import numpy as np

import jaxopt_lab as lab
from bench.cases import HIGH_DECAY, HIGH_RATE, LOW_DECAY, LOW_RATE, Case
from bench.ours_general import General, flax, whole_training
from jaxopt_lab.core.cohorts import Job
from jaxopt_lab.core.runner import Runner
from jaxopt_lab.planning import costs
from jaxopt_lab.problems.mlp import choosing, hyperparameters
from jaxopt_lab.problems.mlp.client import RowsClient
from jaxopt_lab.problems.mlp.data import lay_out, regression


class Ours:
    """Cohorts of V trials, one JAX device per core.

    Args:
      case: what to train.
      width: V; 0 for the formula that a study uses.
    """

    def __init__(self, case: Case, width: int) -> None:
        inputs, targets = case.data()
        everything, nothing = np.arange(case.num_rows), np.arange(0)
        arrays = lay_out([inputs], [targets], [(everything, nothing)])
        space = lab.SearchSpace(
            learning_rate=lab.LogUniform(LOW_RATE, HIGH_RATE),
            weight_decay=lab.LogUniform(LOW_DECAY, HIGH_DECAY),
            batch_size=case.batch_size,
            num_layers=case.num_layers,
            hidden_size=case.hidden_size,
            dropout=case.dropout,
        )
        on_cpu = jax.default_backend() == "cpu"
        load = costs.Load(case.num_trials, case.num_epochs, 1, case.num_rows, case.num_features)
        chosen = choosing.choose(space, load, costs.Costs(), on_cpu)
        self.jobs = []
        traced = zip(case.learning_rates, case.weight_decays, strict=True)
        for i, (rate, decay) in enumerate(traced):
            config = hyperparameters.complete(
                {**space.fixed, "learning_rate": float(rate), "weight_decay": float(decay)}
            )
            signature = chosen.signature(config)
            self.jobs.append(Job(i, 0, 0, config, signature, case.num_epochs, case.num_epochs))
        widths = {signature: width} if width else None
        self.runner = Runner(RowsClient(arrays, regression()), seed=0, widths=widths)
        self.width = self.runner.width(signature)
        self.quantum = min(self.width * len(self.runner.devices), case.num_trials)
        self.case = case
        self.compile_seconds = self._run(range(self.quantum))

    def _run(self, trials: range) -> float:
        seconds = 0.0
        for report in self.runner.run([self.jobs[i] for i in trials]):
            seconds += report.compile_seconds
            for result in report.results:
                if result.job.trial_id == 0:
                    self.params = result.params
        return seconds

    def run(self, trials: range) -> None:
        """Train trials; returns when their weights are on the host."""
        self._run(trials)

    def score(self) -> float:
        """Mean squared error of trial 0 over the training rows."""
        x, targets = self.case.data()
        x = np.pad(x, [(0, 0), (0, len(self.params["hidden_0"]["kernel"]) - x.shape[1])])
        for i in range(self.case.num_layers):
            layer = self.params[f"hidden_{i}"]
            x = np.maximum(x @ layer["kernel"] + layer["bias"], 0.0)
        head = self.params["output"]
        return float(np.mean(((x @ head["kernel"] + head["bias"])[:, 0] - targets) ** 2))


def ours(case: Case) -> Ours | General:
    """The width of the formula, or of `--width`; a case of another model by its front door."""
    if case.model == "mlp":
        return Ours(case, case.width)
    return whole_training(case) if case.model == "function" else flax(case)


def ours_v1(case: Case) -> Ours:
    """Cohorts of one."""
    return Ours(case, 1)
