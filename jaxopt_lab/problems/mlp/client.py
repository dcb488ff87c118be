"""Networks on rows as the runner trains them: the tabular MLP with its merged programs."""

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxopt_lab.core.cohorts import Job, default_width
from jaxopt_lab.core.controls import Values
from jaxopt_lab.core.devices import accelerator
from jaxopt_lab.core.engine import CURVE_LENGTH, Executor, Probe
from jaxopt_lab.core.executors.kernel import misfit as kernel_misfit
from jaxopt_lab.core.hparams import Hparams
from jaxopt_lab.core.tracing.executors import choose_executor
from jaxopt_lab.core.trainable import Shared, Trainable
from jaxopt_lab.core.types import PyTree
from jaxopt_lab.problems.mlp import hyperparameters, trainer
from jaxopt_lab.problems.mlp.data import Criterion, FoldArrays
from jaxopt_lab.problems.mlp.epochs import epochs, on_training_rows
from jaxopt_lab.problems.mlp.network import count_parameters
from jaxopt_lab.problems.mlp.schedules import steps_per_epoch
from jaxopt_lab.problems.mlp.signature import Signature

#: Signature, number of outputs -> a Flax module called as `models.MLP` is.
MakeModel = Callable[[Signature, int], Any]


class RowsClient:
    """Trains the network of each signature on rows by fold.

    Args:
      arrays: data by fold.
      criterion: loss and metrics.
      make_model: the network of a signature; the MLP by default.
      evaluations: per epoch; curves have so many entries for each.
      shared: whether compiled programs serve other clients of this process, too.
      executor: "vmap", "map" or "kernel"; None leaves the choice to the planner.
    """

    curve_length = CURVE_LENGTH

    def __init__(
        self,
        arrays: FoldArrays,
        criterion: Criterion,
        make_model: MakeModel = trainer.make_model,
        evaluations: int = 1,
        shared: bool = False,
        executor: str | None = None,
    ) -> None:
        self.data, self.criterion = arrays, criterion
        self.make_model, self.evaluations, self.shared = make_model, evaluations, shared
        self.asked = executor
        self._counts: dict[Signature, int] = {}
        self._trainables: dict[tuple[Signature, bool], Trainable] = {}
        self._choices: dict[tuple[Signature, bool], tuple[Executor, str]] = {}

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one row."""
        return tuple(self.data.inputs.shape[2:])

    @property
    def num_valid(self) -> int:
        """Validation rows of the largest fold."""
        return int(self.data.valid_rows.shape[1])

    def trainable(self, program: Signature, on_cpu: bool) -> Trainable:
        """One epoch of the signature's network is a unit."""
        key = program, on_cpu
        if key not in self._trainables:
            self._trainables[key] = self._make_trainable(program, on_cpu)
        return self._trainables[key]

    def _make_trainable(self, program: Signature, on_cpu: bool) -> Trainable:
        model = self.make_model(program, self.criterion.num_outputs)
        made = trainer.make_trainer(program, self.criterion, self.input_shape, model)
        outputs = self.criterion.num_outputs
        return epochs(made, program, self.data, outputs, self.evaluations, on_cpu)

    def static(self, program: Signature) -> Mapping[str, Any]:
        """None: the signature holds them."""
        del program
        return {}

    def executor(self, program: Signature, on_cpu: bool) -> Executor:
        """In lockstep on a CPU; a kernel where the GPU has room for one, or as asked for."""
        return self.choice(program, on_cpu)[0]

    def insists(self) -> bool:
        """Where the executor was asked for."""
        return self.asked is not None

    def choice(self, program: Signature, on_cpu: bool) -> tuple[Executor, str]:
        """The executor, and why."""
        key = program, on_cpu
        if key not in self._choices:
            if on_cpu and self.asked is None:
                found: tuple[Executor, str] = "vmap", "a batch shares the fixed cost of operations"
            else:
                platform = "cpu" if on_cpu else accelerator()
                misfit = partial(self._misfit, program, on_cpu)
                found = choose_executor(None, platform, self.asked, misfit)
            self._choices[key] = found
        return self._choices[key]

    def _misfit(self, program: Signature, on_cpu: bool, interpret: bool) -> str:
        """Why no kernel can train the program's trials; "" if one can."""
        trainable = self.trainable(program, on_cpu)
        config = hyperparameters.complete({})
        traced = {k: jnp.asarray(v) for k, v in hyperparameters.traced(config).items()}
        hparams = Hparams({**traced, "total_steps": jnp.ones(())})
        key = jax.eval_shape(lambda: jax.random.key(0, impl="threefry2x32"))
        state = jax.eval_shape(trainable.init, key, hparams)
        zero: Any = np.zeros((), np.int32)
        shared = Shared(key, zero, zero, zero, self.data, (zero, zero))
        return kernel_misfit(trainable.row_loop, state, hparams, shared, interpret)

    def init_in_turn(self, program: Signature) -> bool:
        """Orthogonal kernels are costly, and few trials take them."""
        return "orthogonal" in program.features

    def shared_as(self, program: Signature) -> Hashable | None:
        """Loss, network and evaluations: all that its functions are made of besides shapes."""
        if not self.shared:
            return None
        return self.criterion, self.make_model, self.evaluations, self.asked, program

    def count_parameters(self, program: Signature) -> int:
        """Number of weights of a signature's network."""
        if program in self._counts:
            return self._counts[program]
        if self.make_model is trainer.make_model and len(self.input_shape) == 1:
            size, depth = program.hidden_size, program.num_layers
            members = program.ensemble_size, program.ensemble_form
            (inputs,), outputs = self.input_shape, self.criterion.num_outputs
            return count_parameters(inputs, size, depth, outputs, *members)
        model = self.make_model(program, self.criterion.num_outputs)
        config = hyperparameters.complete({})
        hparams = {k: jnp.asarray(v) for k, v in hyperparameters.traced(config).items()}
        row = jax.ShapeDtypeStruct((1, *self.input_shape), jnp.float32)
        params = jax.eval_shape(lambda k, x: model.init(k, x, hparams), jax.random.key(0), row)
        self._counts[program] = sum(math.prod(x.shape) for x in jax.tree.leaves(params))
        return self._counts[program]

    def default_width(self, program: Signature, on_cpu: bool) -> int:
        """By the formula of `cohorts.default_width`."""
        return default_width(self.count_parameters(program), on_cpu)

    def traced(self, jobs: Sequence[Job]) -> Values:
        """The registry's traced hyperparameters, and the updates of the whole budget."""
        facts = [(job.budget, job.fold, job.config["batch_size"]) for job in jobs]
        updates = {
            (budget, fold, size): budget * steps_per_epoch(int(self.data.num_train[fold]), size)
            for budget, fold, size in dict.fromkeys(facts)
        }
        totals = [updates[each] for each in facts]
        traced = hyperparameters.traced_rows([job.config for job in jobs])
        return {**traced, "total_steps": np.asarray(totals, np.float32)}

    def probe(self, probe: Callable[..., Any], on_cpu: bool) -> Probe:
        """The probe of a batch sees training rows."""
        return on_training_rows(probe, on_cpu)

    def curves(self, metrics: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """One entry per evaluation; `keep` stays one per epoch."""
        if self.evaluations == 1:
            return dict(metrics)
        return {
            name: x if name == "keep" else x.reshape(len(x), -1, *x.shape[3:])
            for name, x in metrics.items()
        }

    def finished(self, kept: PyTree, job: Job) -> PyTree:
        """The MLP's weights without padding."""
        if self.make_model is not trainer.make_model:
            return kept
        return trainer.trim(kept, job.config["num_layers"], job.config["hidden_size"])
