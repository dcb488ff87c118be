"""What trainings came to: of a cohort as arrays, of one job when somebody asks for it."""

import copy
import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple, overload

import jax
import numpy as np

from jaxopt_lab.core.cohorts import Job
from jaxopt_lab.core.types import PyTree


class Result(NamedTuple):
    """What one job came to.

    Attributes:
      job: the job.
      curves: name -> metrics [num_units, ...], or of several evaluations per unit.
      info: small arrays that the trainable tells at the end (`Trainable.info`).
      fetch: gives `params`.
      probed: what a probe measured at the end; empty without one.
      state: of a resumable job, all arrays from which it goes on; else None.
    """

    job: Job
    curves: dict[str, np.ndarray]
    info: Mapping[str, Any]
    fetch: Callable[[], Any]
    probed: dict[str, np.ndarray]
    state: list[np.ndarray] | None = None

    @property
    def params(self) -> Any:
        """What is kept, as numpy arrays, brought from the device for the first who asks; so long
        the device keeps that of the whole wave."""
        return self.fetch()


class CohortResults(NamedTuple):
    """What the jobs of a cohort came to, one row for each.

    Attributes:
      jobs: n of them, of one member, replicate, age and number of units.
      curves: name -> metrics [n, num_units, ...], or of several evaluations per unit.
      info: tree of [n, ...], see `Trainable.info`.
      fetch: row -> `Result.params`.
      probed: name -> [at most n, ...], of the first jobs.
      states: leaves [n, ...]; of a job that is resumable, all arrays from which it goes on.
    """

    jobs: Sequence[Job]
    curves: Mapping[str, np.ndarray]
    info: PyTree
    fetch: Callable[[int], Any]
    probed: Mapping[str, np.ndarray]
    states: Sequence[np.ndarray]

    def row(self, i: int) -> Result:
        """The result of one job."""
        short = self._replace(
            jobs=self.jobs[i : i + 1],
            curves={name: x[i : i + 1] for name, x in self.curves.items()},
            info=jax.tree.map(lambda x: x[i : i + 1], self.info),
            fetch=lambda _: self.fetch(i),
            probed={name: x[i : i + 1] for name, x in self.probed.items()},
            states=[leaf[i : i + 1] for leaf in self.states],
        )
        return short.rows()[0]

    def rows(self) -> list[Result]:
        """One result for each job."""
        jobs, num_probed = self.jobs, min(map(len, self.probed.values()), default=0)
        curves, told = _rows_of(self.curves, len(jobs)), _rows_of(self.info, len(jobs))
        measured = _rows_of(self.probed, num_probed)
        return [
            Result(
                job,
                curves[i],
                told[i],
                partial(self.fetch, i),
                measured[i] if i < num_probed else {},
                [np.asarray(leaf[i]) for leaf in self.states] if job.resumable else None,
            )
            for i, job in enumerate(jobs)
        ]


class Results(Sequence[Result]):
    """Of all jobs of a wave, in their order; each is made when the first is asked for.

    Args:
      cohorts: of the wave.
    """

    def __init__(self, cohorts: Sequence[CohortResults]) -> None:
        self.cohorts = cohorts
        self.jobs = [job for cohort in cohorts for job in cohort.jobs]
        self._rows: list[Result] | None = None

    @property
    def rows(self) -> list[Result]:
        """All of them."""
        if self._rows is None:
            with collecting_later():
                self._rows = [row for cohort in self.cohorts for row in cohort.rows()]
        return self._rows

    def __len__(self) -> int:
        return len(self.jobs)

    @overload
    def __getitem__(self, index: int) -> Result: ...
    @overload
    def __getitem__(self, index: slice) -> list[Result]: ...
    def __getitem__(self, index: int | slice) -> Result | list[Result]:
        if self._rows is None and isinstance(index, int):
            return self._row(range(len(self.jobs))[index])
        return self.rows[index]

    def _row(self, index: int) -> Result:
        """One of them, the others unmade."""
        for cohort in self.cohorts:
            if index < len(cohort.jobs):
                return cohort.row(index)
            index -= len(cohort.jobs)
        raise IndexError(index)

    def __iter__(self) -> Iterator[Result]:
        return iter(self.rows)


@contextmanager
def collecting_later() -> Iterator[None]:
    """Python looks for cycles after some thousand new objects, through all that JAX holds; where
    many are made that have none, that is put off."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _rows_of(tree: Any, num: int) -> list[Any]:
    """Take a tree of arrays apart, as fast as Python can: the first so many rows, a tree each."""
    leaves, structure = jax.tree.flatten(tree)
    if not leaves:
        return [copy.copy(tree) for _ in range(num)]
    rows = zip(*(list(leaf[:num]) for leaf in leaves), strict=True)
    if isinstance(tree, dict) and len(tree) == len(leaves):
        names = sorted(tree)
        return [dict(zip(names, row, strict=True)) for row in rows]
    return [jax.tree.unflatten(structure, row) for row in rows]
