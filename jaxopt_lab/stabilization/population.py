"""Train variants of one configuration side by side: same seeds, same minibatches, one program."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lab.core.cohorts import Job
from jaxopt_lab.core.runner import Runner
from jaxopt_lab.core.types import Config
from jaxopt_lab.datasets.target_losses import SQUARED
from jaxopt_lab.planning.costs import SHIPPED, Epoch, Load
from jaxopt_lab.problems.mlp import trainer
from jaxopt_lab.problems.mlp.client import RowsClient
from jaxopt_lab.problems.mlp.data import Criterion, FoldArrays
from jaxopt_lab.problems.mlp.estimates import Members, epoch_seconds
from jaxopt_lab.problems.mlp.hyperparameters import SCHEDULES, features_on
from jaxopt_lab.problems.mlp.programs import Programs
from jaxopt_lab.problems.mlp.signature import Signature
from jaxopt_lab.stabilization.finished import Finished
from jaxopt_lab.stabilization.members import Member
from jaxopt_lab.stabilization.places import Group, best_width, groups_of_table
from jaxopt_lab.stabilization.probes import make_probe
from jaxopt_lab.stabilization.rows import looked_at
from jaxopt_lab.stabilization.side_by_side import SideBySide

#: Evaluations of a training, at least.
NUM_EVALUATIONS = 120
#: Features that a cure may switch on, compiled into the one program.
FEATURES = frozenset(
    {"clip_norm", "clip_value", "agc", "adagc", "dropout", "l2", "warmup_fraction", *SCHEDULES}
)
#: Of every variant.
_ALWAYS = {"ema": True, "early_stopping": False}


@runtime_checkable
class Task(Protocol):
    """What is needed of a task: rows and a loss."""

    @property
    def criterion(self) -> Criterion:
        """Loss and metrics."""
        ...

    def fold_arrays(self, seed: int) -> FoldArrays:
        """Rows; fold 0 has validation rows."""
        ...


@dataclass(eq=False)
class Population(SideBySide):
    """Variants of a base configuration on one task.

    Attributes:
      task: rows and loss; a `make_model` of its own replaces the MLP.
      base: complete configuration.
      num_epochs: of each training.
      seed: of the split, of weights and of minibatches.
      evaluations: per epoch; None for about `NUM_EVALUATIONS` in all.
      devices: JAX devices; all local ones by default.
      width: places for variants that train together on one device; if None, so many that few are
        empty.
      directory: keeps finished trainings, so that they are not trained again; None keeps nothing.
    """

    task: Task
    base: Config
    num_epochs: int
    seed: int = 0
    evaluations: int | None = None
    devices: Sequence[jax.Device] | None = None
    width: int | None = None
    directory: str | Path | None = None

    def __post_init__(self) -> None:
        given = self.task.fold_arrays(self.seed)
        self.rows = looked_at(given, self.task.criterion)
        self.arrays = self.rows.arrays
        num_updates = math.ceil(self.num_rows / self.base["batch_size"])
        wanted = self.evaluations or math.ceil(NUM_EVALUATIONS / self.num_epochs)
        self.evaluations = max(1, min(wanted, num_updates))
        self.make_model = getattr(self.task, "make_model", None) or trainer.make_model
        self.client = RowsClient(
            self.arrays, self.task.criterion, self.make_model, self.evaluations, shared=True
        )
        self.runner = Runner(self.client, self.seed, None, self.devices)
        self.runner.use_width(self.signature(self.base), self.width or self._best_width())
        if self.directory is not None:
            criterion = self.task.criterion
            model = self.make_model(self.signature(self.base), criterion.num_outputs)
            setting = {
                "base": dict(self.base),
                "network": repr(model),
                "loss": criterion.loss.__qualname__,
                "stream": [len(self.runner.devices), self.evaluations, self.seed],
                "jax": jax.__version__,
            }
            self.finished = Finished(self.directory, self.arrays, setting)

    @cached_property
    def groups(self) -> list[Group]:
        """Of variants that can train together."""
        splits = len(self.rows.members)
        return groups_of_table(self.base, self.num_rows, self.num_epochs, splits)

    def epoch(self, batch_size: int) -> Epoch:
        """What an epoch of a variant takes, by the shipped costs of an MLP of its shape."""
        num_features = math.prod(self.arrays.inputs.shape[2:])
        load = Load(1, self.num_epochs, 1, self.num_rows, num_features)
        base, costs = self.base, SHIPPED[self.runner.on_cpu]
        signature = self.signature(base)
        sharing = Members(signature.ensemble_size, signature.ensemble_form)
        size, depth = base["hidden_size"], base["num_layers"]
        programs = self.programs
        return epoch_seconds(programs, load, costs, size, depth, batch_size, members=sharing)

    def _best_width(self) -> int:
        signature = self.signature(self.base)
        largest = self.client.default_width(signature, self.runner.on_cpu)
        return best_width(self.groups, largest, self.epoch)

    @property
    def num_rows(self) -> int:
        """Training rows."""
        return int(self.arrays.num_train[0])

    @property
    def num_valid(self) -> int:
        """Validation rows."""
        return int(self.arrays.num_valid[0])

    @property
    def outliers(self) -> tuple[int, ...]:
        """Rows far from all others, numbered from 0 as the table has them."""
        prepare = getattr(self.task, "prepare", None)
        if prepare is None or not self.rows.outliers:
            return self.rows.outliers
        numbers = prepare(1, self.seed).development
        return tuple(int(numbers[row]) for row in self.rows.outliers)

    def constant_loss(self, split: int = 0) -> float | None:
        """Validation loss of the best constant of the training rows, of squared errors their mean,
        or of their class shares; None where targets are not one number each.

        Args:
          split: of the data; 0 is the given one.
        """
        arrays, criterion = self.arrays, self.task.criterion
        targets = np.asarray(arrays.targets[split if len(arrays.targets) > 1 else 0])
        if targets.ndim != 1 or not self.num_valid:
            return None
        trained = targets[arrays.train_rows[split][: int(arrays.num_train[split])]]
        valid = targets[arrays.valid_rows[split][: int(arrays.num_valid[split])]]
        if criterion.num_outputs == 1:
            loss = getattr(self.task, "target_loss", SQUARED)
            outputs = np.full((1,), loss.constant(trained))
        elif np.issubdtype(targets.dtype, np.integer):
            # A class without training rows counts as half a row: its logarithm is finite.
            counts = np.bincount(trained, minlength=criterion.num_outputs)
            outputs = np.log(np.maximum(counts, 0.5) / len(trained))
        else:
            return None
        same = np.tile(outputs.astype(np.float32), (len(valid), 1))
        losses = criterion.loss(jnp.asarray(same), jnp.asarray(valid))
        return float(np.asarray(losses, np.float64).mean())

    def signature(self, config: Config) -> Signature:
        """One program for every variant: all features on, averaged weights kept.

        Weights are always averaged, with decay 0 where the variant does not ask for it: that is
        the weights themselves.
        """
        return replace(self.programs.signature({**config, **_ALWAYS}), observe=True)

    @property
    def programs(self) -> Programs:
        """The one program."""
        size, layers, block = (self.base[k] for k in ("hidden_size", "num_layers", "batch_size"))
        features = FEATURES | features_on(self.base)
        return Programs((size,), (layers,), block, (), block, size, features, False, False)

    def job(self, number: int, member: Member, replicate: int) -> Job:
        """One training: every member starts from the same weights and sees the same rows."""
        config = self._config(member)
        signature, epochs = self.signature(config), (self.num_epochs, self.num_epochs)
        return Job(number, member.split, replicate, config, signature, *epochs, twin=0)

    @property
    def make_probe(self) -> Callable[[Signature], trainer.Probe]:
        """Sharpness and gradient noise."""
        return self._probe

    def _config(self, member: Member) -> dict[str, Any]:
        config = member.config(self.base)
        if not config["ema"]:
            config["ema_decay"] = 0.0
        return {**config, **_ALWAYS}

    def _probe(self, signature: Signature) -> trainer.Probe:
        model = self.make_model(signature, self.task.criterion.num_outputs)
        return make_probe(signature, self.task.criterion, model)
