"""The host side of training: programs are compiled ahead, and no result depends on it."""

from typing import Any

import jax
import numpy as np
import pytest

from jaxopt_lab.core.cohorts import Job
from jaxopt_lab.core.engine import Engine
from jaxopt_lab.core.runner import Runner, WaveReport
from jaxopt_lab.problems.mlp import hyperparameters
from jaxopt_lab.problems.mlp.client import RowsClient
from jaxopt_lab.problems.mlp.data import lay_out, regression
from jaxopt_lab.problems.mlp.programs import Programs

ROWS, WIDTHS = 60, (3, 5, 7)


def make_runner() -> Runner:
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(ROWS, 2)).astype(np.float32)
    targets = inputs[:, 0] * inputs[:, 1]
    rows = np.arange(ROWS)
    arrays = lay_out([inputs], [targets], [(rows[:40], rows[40:])])
    return Runner(RowsClient(arrays, regression()), 0, devices=jax.local_devices()[:1])


def make_jobs() -> list[Job]:
    """One network of each of three shapes."""
    exact = Programs(WIDTHS, (1,), 0, (), 20, 7, frozenset(), False, False)
    found = []
    for i, width in enumerate(WIDTHS):
        config = {"hidden_size": width, "num_layers": 1, "batch_size": 20}
        full = hyperparameters.complete(config)
        found.append(Job(i, 0, 0, full, exact.signature(full), 2, 2))
    return found


def losses(reports: list[WaveReport]) -> list[np.ndarray]:
    return [result.curves["loss"] for report in reports for result in report.results]


@pytest.mark.slow
def test_programs_are_compiled_ahead_and_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    ahead = list(make_runner().run(make_jobs()))
    assert len(ahead) == 3
    assert ahead[0].compile_seconds > 0
    assert all(report.seconds > report.compile_seconds for report in ahead)
    monkeypatch.setattr(Runner, "expect", lambda self, waves: None)
    in_turn = list(make_runner().run(make_jobs()))
    assert all(report.seconds > report.compile_seconds > 0.05 for report in in_turn)
    for a, b in zip(losses(ahead), losses(in_turn), strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_was_not_begun_is_forgotten_when_a_run_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 2)  # one program at a time
    prepared = []
    prepare = Engine.prepare

    def noted(self: Engine, *args: Any) -> None:
        prepared.append(self)
        prepare(self, *args)

    monkeypatch.setattr(Engine, "prepare", noted)
    runner = make_runner()
    (first,) = runner.run(make_jobs(), go_on=lambda left: left == 3)
    assert first.wave.jobs[0].trial_id == 0
    assert len(prepared) < 3
    assert len(list(runner.run(make_jobs()))) == 3
    assert len(set(map(id, prepared))) == 3


def test_a_failure_to_compile_is_raised_where_it_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(self: Engine, *args: Any) -> None:
        raise ValueError("no such program")

    monkeypatch.setattr(Engine, "prepare", fail)
    with pytest.raises(ValueError, match="no such program"):
        list(make_runner().run(make_jobs()))
