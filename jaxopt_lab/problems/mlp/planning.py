"""What a study of tabular MLPs would compile and train, from shapes and constants."""

import math
from collections.abc import Callable, Sequence

from jaxopt_lab.core.cohorts import Cohort, Job, Wave, make_waves
from jaxopt_lab.core.types import Config
from jaxopt_lab.planning.costs import Costs, Load
from jaxopt_lab.planning.plan import Plan, ProgramPlan, pieces
from jaxopt_lab.planning.sizing import Sizing
from jaxopt_lab.problems.mlp import hyperparameters
from jaxopt_lab.problems.mlp.choosing import choose, exact_estimate
from jaxopt_lab.problems.mlp.data import FoldArrays
from jaxopt_lab.problems.mlp.epochs import CHUNK
from jaxopt_lab.problems.mlp.estimates import Members, count_weights, epoch_seconds
from jaxopt_lab.problems.mlp.network import count_parameters
from jaxopt_lab.problems.mlp.programs import Programs
from jaxopt_lab.problems.mlp.signature import Signature
from jaxopt_lab.problems.mlp.stream import round_up
from jaxopt_lab.schedulers.base import Scheduler
from jaxopt_lab.spaces.space import SearchSpace


def make_plan(
    configs: Sequence[Config],
    space: SearchSpace,
    load: Load,
    sizing: Sizing,
    scheduler: Scheduler | None = None,
    name: Callable[[Signature], str] = str,
) -> Plan:
    """Choose programs, lay configurations out in waves, and add their costs up.

    Args:
      configs: as a sampler proposes them.
      space: where they are from.
      load: epochs, folds, rows, columns, devices; its number of trials chooses the programs.
      sizing: costs and bounds of the devices.
      scheduler: stops them early, as if the first were the best.
      name: of a program, for people.
    """
    costs = sizing.costs
    chosen = choose(space, load, costs, sizing.on_cpu)
    complete = [hyperparameters.complete(config) for config in configs]
    jobs = [
        Job(
            i,
            fold,
            0,
            complete[i],
            chosen.signature(complete[i]),
            epochs,
            load.num_epochs,
            start=start,
        )
        for fold in range(load.num_folds)
        for i, start, epochs in pieces(
            len(complete), load.num_epochs, load.num_folds, fold, scheduler
        )
    ]
    widths = {
        s: sizing.width(_size(s, load), _bytes(s, load), load.data_bytes, chosen.max_cohort(s))
        for s in {job.program for job in jobs}
    }
    waves = make_waves(jobs, widths, load.num_devices)
    exact = exact_estimate(space, chosen, load, costs, sizing.on_cpu)
    by_program: dict[Signature, list[Wave]] = {}
    for wave in waves:
        by_program.setdefault(wave.program, []).append(wave)
    found, places, filled, padded, real = [], 0, 0, 0.0, 0.0
    for signature, mine in by_program.items():
        width = widths[signature]
        cohorts = [cohort for wave in mine for cohort in wave.cohorts]
        seconds = sum(wave_seconds(wave, width, chosen, load, costs) for wave in mine)
        places += sum(width * load.num_devices * wave.cohorts[0].num_units for wave in mine)
        for cohort in cohorts:
            for job in cohort.jobs:
                filled += job.num_units
                size = job.config["hidden_size"]
                real += job.num_units * _weights(load, size, job.config["num_layers"])
                padded += job.num_units * _weights(load, signature.hidden_size, cohort.order)
        num_networks = len({(job.trial_id, job.fold) for c in cohorts for job in c.jobs})
        compiling = compile_seconds(signature, costs)
        found.append(
            ProgramPlan(name(signature), width, num_networks, len(cohorts), compiling, seconds)
        )
    return Plan(
        tuple(found), len(waves), load.num_devices, 1 - filled / places, 1 - real / padded, exact
    )


def compile_seconds(signature: Signature, costs: Costs) -> float:
    """Expected seconds to compile a program."""
    return costs.compile_seconds + costs.per_layer_seconds * signature.num_layers


def expected_seconds(
    wave: Wave, width: int, chosen: Programs, load: Load, costs: Costs
) -> tuple[float, float]:
    """To compile a wave's program, and to run the wave."""
    compiling = compile_seconds(wave.program, costs)
    return compiling, wave_seconds(wave, width, chosen, load, costs)


def wave_seconds(wave: Wave, width: int, chosen: Programs, load: Load, costs: Costs) -> float:
    """Expected seconds to run a wave: those of its slowest cohort, empty places included."""
    return width * max(_seconds(cohort, width, chosen, load, costs) for cohort in wave.cohorts)


def _size(signature: Signature, load: Load) -> int:
    """Weights of one network, biases and head included."""
    width, depth = signature.hidden_size, signature.num_layers
    members = signature.ensemble_size, signature.ensemble_form
    return count_parameters(load.num_features, width, depth, load.num_outputs, *members)


def _bytes(signature: Signature, load: Load) -> int:
    return trial_bytes(signature, _size(signature, load), load.num_valid, load.num_outputs)


def _seconds(cohort: Cohort, width: int, chosen: Programs, load: Load, costs: Costs) -> float:
    """One of V networks of a cohort on one device."""
    size, batch = cohort.program.hidden_size, cohort.jobs[0].config["batch_size"]
    moments = float(hyperparameters.num_moments(cohort.program.optimizers))
    members = Members(cohort.program.ensemble_size, cohort.program.ensemble_form)
    epoch = epoch_seconds(chosen, load, costs, size, cohort.order, batch, moments, members)
    return cohort.num_units * epoch.share(width)


def _weights(load: Load, width: int, depth: int) -> int:
    return count_weights(load.num_features, width, depth)


def load_of(
    arrays: FoldArrays,
    num_trials: int,
    num_epochs: int,
    num_devices: int,
    crowds: tuple[tuple[int, int], ...] | None = None,
    num_outputs: int = 1,
) -> Load:
    """How much a study trains on rows by fold, of which the last is the refit."""
    return Load(
        num_trials,
        num_epochs,
        num_folds=len(arrays.num_train) - 1,
        num_rows=int(arrays.num_train[0]),
        num_features=math.prod(arrays.inputs.shape[2:]),
        num_devices=num_devices,
        crowds=crowds,
        num_outputs=num_outputs,
        num_valid=int(arrays.valid_rows.shape[1]),
        data_bytes=sum(array.nbytes for array in arrays),
    )


def trial_bytes(signature: Signature, num_parameters: int, num_valid: int, num_outputs: int) -> int:
    """Memory of one trial in training: an estimate from shapes, meant to be on the safe side.

    Args:
      signature: of its program.
      num_parameters: weights.
      num_valid: validation rows.
      num_outputs: of the network.
    """
    copies = 2 + signature.accumulate + signature.ema + signature.early_stopping
    weights = num_parameters * (4 + copies)  # twice the weights: one wave is fetched meanwhile
    members = signature.ensemble_size
    rows = max(signature.block, CHUNK)
    activations = members * (
        2 * rows * signature.hidden_size
        + 4 * signature.block * signature.hidden_size * signature.num_layers
    )
    if members > 1 and signature.ensemble_form != "late":
        weights += 2 * members * num_parameters  # rescaled kernels of the first layer, gradients
    outputs = 3 * round_up(max(num_valid, 1), CHUNK) * num_outputs
    return 4 * (weights + activations + outputs)
