"""How many variants of a comparison train together."""

import numpy as np
import pandas as pd
import pytest

import jaxopt_lab as lab
from jaxopt_lab.core.cohorts import Job
from jaxopt_lab.planning.costs import Epoch
from jaxopt_lab.problems.mlp import hyperparameters
from jaxopt_lab.stabilization.members import BASE, Member, ladder
from jaxopt_lab.stabilization.places import Group, best_width, groups_of_table, seconds
from jaxopt_lab.stabilization.population import Population

BASE_CONFIG = {"optimizer": "adam", "learning_rate": 0.01, "hidden_size": 16, "num_layers": 1}


def _population(width: int | None = None) -> Population:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"a": rng.normal(size=300), "b": rng.normal(size=300)})
    frame["y"] = frame["a"] * frame["b"] + rng.normal(size=300)
    task = lab.tasks.tabular(lab.datasets.load_table(frame, target="y"))
    return Population(task, hyperparameters.complete(BASE_CONFIG), 2, width=width)


def test_empty_places_cost_as_much_as_full_ones() -> None:
    groups = [Group(14), Group(1), Group(3, is_fresh=True)]
    # 16 + 4 + 2 times 4 places, and a cohort's own share for each four of them.
    assert seconds(groups, 4, lambda _: Epoch(1.0, 2.0), 2.0) == 28 * (1.0 + 2.0 / 4)
    by_batch = {32: Epoch(1.0, 0.0), 64: Epoch(3.0, 0.0)}
    assert seconds([Group(2, 32), Group(1, 64)], 2, by_batch.__getitem__) == 2 + 6


@pytest.mark.parametrize(
    ("numbers", "of_cohort", "width"),
    [
        ([16], 1.0, 16),  # full
        ([16, 1, 1, 1], 2.0, 4),  # of 16 each of the last three would fill one
        ([16, 1, 1, 1], 100.0, 16),  # unless all that counts is the number of cohorts
        ([5], 0.0, 1),  # nothing is gained by company
        ([64], 1.0, 16),  # no wider than the caches allow
    ],
)
def test_the_width_that_takes_the_least_time(
    numbers: list[int], of_cohort: float, width: int
) -> None:
    groups = [Group(number) for number in numbers]
    assert best_width(groups, 16, lambda _: Epoch(1.0, of_cohort)) == width


def test_few_places_of_a_comparison_are_empty() -> None:
    base = hyperparameters.complete({**BASE_CONFIG, "batch_size": 32})
    groups = groups_of_table(base, 2400, 60, num_splits=0)

    def filled(width: int) -> float:
        places = sum(-(-group.number // width) * width for group in groups)
        return sum(group.number for group in groups) / places

    # Of 2 x 64 networks on those rows a cohort costs about as much as a network more.
    width = best_width(groups, 16, lambda _: Epoch(1.0, 0.9))
    assert filled(16) < 0.5
    assert filled(width) > 0.8


def test_every_variant_of_a_table_has_the_program_whose_width_is_chosen() -> None:
    population = _population(width=2)
    for member in ladder(population.base, population.num_rows, population.num_epochs):
        job = population.job(0, member, 0)
        assert job.program == population.signature(population.base)
        assert population.runner.width(job.program) == 2


def test_groups_are_of_equal_batches() -> None:
    base = hyperparameters.complete({**BASE_CONFIG, "batch_size": 32})
    found = groups_of_table(base, 2400, 60, num_splits=1)
    assert {group.batch_size for group in found} == {32, 64, 128, 512}
    assert found[0] == Group(14, 32)  # the ladder
    assert found[-2:] == [Group(1, 32), Group(6, 32, is_fresh=True)]


def test_only_the_first_member_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    population, runs = _population(width=2), []
    run = population.runner.run

    def watched(jobs: list[Job], *args: object, **kwargs: object) -> object:
        runs.append((sorted({job.trial_id for job in jobs}), len(args) > 1))
        return run(jobs, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(population.runner, "run", watched)
    variants = [Member(BASE, {}, is_cure=False), *(_slower(k) for k in (2, 3, 4))]
    found = population.train(variants, [0, 1], probe=True)
    assert runs == [([0, 1], True), ([2, 3], False)]
    assert all("sharpness" in result.probed for result in found[BASE])
    assert not any(result.probed for name in found if name != BASE for result in found[name])


def _slower(factor: int) -> Member:
    return Member(f"÷{factor}", {"learning_rate": 0.01 / factor})
