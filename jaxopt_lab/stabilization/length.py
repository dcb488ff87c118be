"""How long the trainings of a diagnosis are: as asked, or so short that all of them fit.

Decided from shapes and the shipped costs of a machine, never from a clock: the same call trains
the same, and goes on from what it has kept.
"""

import math
from typing import NamedTuple

from jaxopt_lab.planning.costs import SHIPPED, Epoch
from jaxopt_lab.problems.mlp import trainer
from jaxopt_lab.stabilization import places
from jaxopt_lab.stabilization.population import Population

#: Evaluations of a shortened training, at least.
NUM_EVALUATIONS_SHORT = 60
#: Seeds of each training, and of a shortened one; as many as the first confirm.
NUM_SEEDS, NUM_SEEDS_SHORT = 4, 2
#: Seconds that all trainings may take where no time limit is given, and their share of one.
USUAL_SECONDS, SHARE = 36.0, 0.5
#: A shortened training still has so many updates.
MIN_UPDATES = 400
#: A training that is observed, with every cure compiled in, takes five times as long as the shipped
#: costs say, and a machine may be slower than theirs.
_CAUTION = 10.0
#: A forward pass alone runs so much faster per product than a step of training.
_FORWARD_GAIN = 2.0


class Length(NamedTuple):
    """Of the trainings that compare variants.

    Attributes:
      num_epochs: of each.
      num_seeds: of each variant; `num_fresh` confirm.
      num_fresh: seeds of the confirmation.
      evaluations: per epoch.
      seconds: expected of all of them, without compiling; nan where it is not known.
    """

    num_epochs: int
    num_seeds: int
    num_fresh: int
    evaluations: int
    seconds: float


def whole(population: Population, num_seeds: int | None) -> Length:
    """As long as the population's trainings are."""
    seeds = num_seeds or NUM_SEEDS
    epochs, evaluations = population.num_epochs, population.evaluations or 1
    found = Length(epochs, seeds, seeds, evaluations, math.nan)
    return found._replace(seconds=_seconds(population, found))


def fitting(population: Population, num_seeds: int | None, time_limit: float | None) -> Length:
    """The whole length, or a shorter one that is expected to end in time.

    Args:
      population: with as many epochs as are wanted.
      num_seeds: as asked for; None leaves them open.
      time_limit: seconds for everything.
    """
    wanted = whole(population, num_seeds)
    limit = USUAL_SECONDS if time_limit is None else SHARE * time_limit
    if not wanted.seconds > limit:
        return wanted
    per_epoch = math.ceil(population.num_rows / population.base["batch_size"])
    least = min(max(math.ceil(MIN_UPDATES / per_epoch), 2), population.num_epochs)
    for epochs in range(population.num_epochs, least - 1, -1):
        evaluations = min(math.ceil(NUM_EVALUATIONS_SHORT / epochs), per_epoch)
        seeds = num_seeds or NUM_SEEDS_SHORT
        found = Length(epochs, seeds, num_seeds or NUM_SEEDS, evaluations, math.nan)
        found = found._replace(seconds=_seconds(population, found))
        if found.seconds <= limit:
            break
    return found


def _seconds(population: Population, length: Length) -> float:
    """By the shipped costs; nan for a network that is not the MLP that they are of."""
    if population.make_model is not trainer.make_model:
        return math.nan
    signature = population.signature(population.base)
    width = population.runner.width(signature)
    weights = population.client.count_parameters(signature)
    passes = length.evaluations * population.num_valid * signature.ensemble_size
    costs = SHIPPED[population.runner.on_cpu]
    evaluating = passes * 2 * weights / (costs.flops * _FORWARD_GAIN)

    def epoch(batch_size: int) -> Epoch:
        found = population.epoch(batch_size)
        return found._replace(of_network=found.of_network + evaluating)

    fresh = length.num_fresh / length.num_seeds
    each = length.num_seeds * places.seconds(population.groups, width, epoch, fresh)
    return _CAUTION * length.num_epochs * each / len(population.runner.devices)
