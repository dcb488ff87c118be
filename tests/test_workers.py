"""Waves that others train: the numbers of a local study, whoever trains them, whoever is lost."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import pytest

import jaxopt_lab as lab
from jaxopt_lab.cli import show
from jaxopt_lab.core.errors import MachineError
from jaxopt_lab.core.workers import Answer, Blueprint, Order, RemoteDevice, Worker
from jaxopt_lab.storage.store import Store
from jaxopt_lab.storage.validation import settings_of

SPACE = lab.SearchSpace(learning_rate=lab.LogUniform(1e-3, 1e-1), slow=lab.Choice([False, True]))


def build(*, slow: bool = False) -> Any:
    def init(key: Any, hparams: Any) -> Any:
        return {"x": jax.random.normal(key, (3,))}

    def step(state: Any, hparams: Any, shared: Any) -> Any:
        rate = hparams.learning_rate * (0.1 if slow else 1.0)
        noise = 0.01 * jax.random.normal(shared.key, (3,))
        return {"x": state["x"] * (1 - rate) + noise}, {}

    def evaluate(state: Any, hparams: Any, shared: Any) -> Any:
        return {"loss": jnp.sum(state["x"] ** 2)}

    return lab.Trainable(init, step, evaluate)


PROBLEM = lab.from_steps(build, objective="loss", num_seeds=2)


class Here:
    """Workers in this process, which answer the latest order first.

    Args:
      num_workers: of them.
      lost: numbers of orders with which their worker is lost.
    """

    def __init__(self, num_workers: int, lost: Sequence[int] = ()) -> None:
        self._count, self._lost = num_workers, set(lost)
        self._orders: list[tuple[str, Order]] = []
        self._made: dict[str, Worker] = {}
        self.sent: list[Order] = []

    def devices(self) -> list[RemoteDevice]:
        return [RemoteDevice("cpu")]

    def start(self, blueprint: Blueprint) -> "Here":
        self._blueprint = blueprint
        for number in range(self._count):
            self._made[f"worker {number}"] = Worker(blueprint)
        return self

    @property
    def workers(self) -> list[str]:
        return list(self._made)

    def send(self, worker: str, order: Order) -> None:
        self.sent.append(order)
        self._orders.append((worker, order))

    def wait(self) -> Answer | None:
        if not self._orders:
            self._count += 1
            self._made[f"worker {self._count}"] = Worker(self._blueprint)
            return None
        worker, order = self._orders.pop()
        if order.number in self._lost:
            self._made.pop(worker, None)
        if worker not in self._made:
            return Answer(worker, order.number, None)
        return Answer(worker, order.number, self._made[worker].train(order))

    def close(self) -> None:
        self._made = {}


def csv_of(directory: Path) -> str:
    store = Store.open(directory, read_only=True)
    settings = settings_of(store)
    text = show.csv_of(show.signed(show.table_rows(store, False), settings), settings)
    store.close()
    return text


def search(directory: Path, placement: Any, scheduler: Any, sampler: str = "random") -> Any:
    here = {"devices": jax.local_devices()[:1]} if placement is None else {"placement": placement}
    with lab.Study(PROBLEM, SPACE, directory, cohort_width=2, **here) as study:
        study.optimize(sampler, num_trials=8, budget=4, scheduler=scheduler)
        workers = study.workers
    return csv_of(directory), workers


@pytest.fixture(scope="module", params=[None, "halving", "population"])
def local(request: Any, tmp_path_factory: Any) -> tuple[Any, str]:
    """A scheduler, and the table of a study that this process trained."""
    kinds = {
        None: None,
        "halving": lab.schedulers.successive_halving(),
        "population": lab.schedulers.population_based_training(every=2),
    }
    scheduler = kinds[request.param]
    table, workers = search(tmp_path_factory.mktemp("local") / "study", None, scheduler)
    assert workers.empty
    return scheduler, table


@pytest.mark.parametrize(
    ("num_workers", "lost"),
    [
        (0, ()),
        pytest.param(3, (), marks=pytest.mark.slow),
        (2, (2, 5)),
        pytest.param(1, (3,), marks=pytest.mark.slow),
    ],
)
def test_the_same_table_whoever_trains(
    local: Any, num_workers: int, lost: Sequence[int], tmp_path: Path
) -> None:
    scheduler, expected = local
    placement = Here(num_workers, lost)
    found, workers = search(tmp_path / "study", placement, scheduler)
    assert found == expected
    assert len(workers) >= 16
    assert set(workers["worker"]) <= {f"worker {n}" for n in range(9)}
    assert workers["worker"].nunique() >= max(1, min(num_workers, 2))


def test_a_lost_worker_costs_its_waves_only(tmp_path: Path) -> None:
    quiet, unlucky = Here(2), Here(2, lost=(1,))
    search(tmp_path / "a", quiet, None)
    search(tmp_path / "b", unlucky, None)
    assert len(quiet.sent) < len(unlucky.sent) <= len(quiet.sent) + 2


def test_a_wave_that_kills_every_worker_is_given_up(tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="workers were lost with the same wave"):
        search(tmp_path / "study", Here(1, lost=range(1, 99)), None)


def test_a_study_goes_on_elsewhere(tmp_path: Path) -> None:
    whole, _ = search(tmp_path / "whole", None, None, "quasi_random")
    part = tmp_path / "part"
    with lab.Study(PROBLEM, SPACE, part, cohort_width=2, placement=Here(2)) as study:
        study.optimize("quasi_random", num_trials=3, budget=4)
    found, _ = search(part, None, None, "quasi_random")
    assert found == whole


def test_show_says_who_trained_what(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from jaxopt_lab.cli import main

    search(tmp_path / "study", Here(1), None)
    with pytest.raises(SystemExit, match="0"):
        main(["show", str(tmp_path / "study")])
    assert "worker 0: 16 networks of 8 trials in" in capsys.readouterr().out


def test_mistakes_are_one_line() -> None:
    with pytest.raises(lab.UserError, match="placement must be one of"):
        lab.Study(PROBLEM, SPACE, placement="ray")
    with pytest.raises(lab.UserError, match="give devices or a placement"):
        lab.Study(PROBLEM, SPACE, devices=jax.local_devices(), placement=Here(1))
