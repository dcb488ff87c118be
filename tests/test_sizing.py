"""Cohort widths: bounds by memory and by the user, and calibration files."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import jaxopt_lab as lab
from jaxopt_lab import cli
from jaxopt_lab.core.cohorts import MAX_WIDTH, Job
from jaxopt_lab.core.errors import UserError
from jaxopt_lab.core.runner import Runner
from jaxopt_lab.planning import sizing
from jaxopt_lab.planning.costs import SHIPPED, Costs, Load
from jaxopt_lab.planning.sizing import Sizing, read_costs, write_costs
from jaxopt_lab.problems.mlp import calibration
from jaxopt_lab.problems.mlp.calibration import SHAPES, Shape
from jaxopt_lab.problems.mlp.choosing import choose
from jaxopt_lab.problems.mlp.client import RowsClient
from jaxopt_lab.problems.mlp.data import lay_out, regression
from jaxopt_lab.problems.mlp.estimates import epoch_seconds
from jaxopt_lab.problems.mlp.hyperparameters import complete
from jaxopt_lab.problems.mlp.planning import trial_bytes

MIB = 2**20


def bounded(**bounds: Any) -> Sizing:
    return Sizing(SHIPPED[True], on_cpu=True, num_devices=2, **bounds)


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ({}, MAX_WIDTH),
        ({"cohort_width": 1}, 1),
        ({"cohort_width": 7}, 4),
        ({"cohort_width": 1000}, MAX_WIDTH),
        # 2 devices with 10 MiB of data each leave 3 MiB per device: 6 trials of half a MiB.
        ({"memory_limit": 26 * MIB}, 4),
        ({"memory_limit": 21 * MIB}, 1),
        ({"memory_limit": 26 * MIB, "cohort_width": 2}, 2),
    ],
)
def test_the_width_keeps_its_bounds(bounds: dict[str, int], expected: int) -> None:
    assert bounded(**bounds).width(1000, MIB // 2, 10 * MIB, 64) == expected


def test_a_limit_that_holds_no_trial_is_refused_with_the_least_that_does() -> None:
    with pytest.raises(UserError, match=r"give at least 0\.0205 GiB"):
        bounded(memory_limit=20 * MIB).width(1000, MIB // 2, 10 * MIB, 64)
    assert bounded(memory_limit=21 * MIB).width(1000, MIB // 2, 10 * MIB, 64) == 1


@pytest.mark.parametrize("bounds", [{"memory_limit": 0}, {"cohort_width": 0}])
def test_bounds_are_checked(bounds: dict[str, int]) -> None:
    with pytest.raises(UserError, match="must be"):
        bounded(**bounds)


def test_the_estimate_of_memory_covers_a_real_trial() -> None:
    """XLA's own figure for the program of a cohort is no more than the estimate of its trials."""
    import jax

    config = complete({"num_layers": 3, "hidden_size": 128, "batch_size": 64})
    space = lab.SearchSpace(num_layers=3, hidden_size=128, batch_size=64)
    signature = choose(space, Load(8, 1, 1, 2000, 8), SHIPPED[True]).signature(config)
    rows = np.random.default_rng(0).standard_normal((2000, 8)).astype(np.float32)
    arrays = lay_out([rows], [rows[:, 0]], [(np.arange(1500), np.arange(1500, 2000))])
    client = RowsClient(arrays, regression())
    runner = Runner(client, 0, {signature: 8}, jax.local_devices()[:1])
    jobs = [Job(i, 0, 0, config, signature, 1, 1) for i in range(8)]
    list(runner.run(jobs))
    program = runner._engines[signature].compiler.program("advance")
    found = program.memory_analysis()
    used = found.temp_size_in_bytes + found.argument_size_in_bytes + found.output_size_in_bytes
    data = sum(x.nbytes for x in arrays)
    estimate = 8 * trial_bytes(signature, client.count_parameters(signature), 500, 1) + data
    assert 0.3 * estimate < used < estimate


@pytest.mark.slow
def test_a_study_of_narrow_cohorts_is_the_same_study(houses_csv: Path) -> None:
    table = lab.datasets.load_table(str(houses_csv), target="price")
    space = lab.SearchSpace(learning_rate=lab.LogUniform(1e-4, 1e-3), activation="tanh")
    scores = []
    for width in (None, 1):
        task = lab.tasks.tabular(table, numeric="standard")
        study = lab.Study(task, space, cohort_width=width)
        study.optimize(lab.search.random(), 3, 2, 2)
        scores.append(study.trials["score"].to_numpy())
        assert (max(study.store.settings()["widths"].values()) == 1) == (width == 1)
    np.testing.assert_allclose(scores[0], scores[1], rtol=1e-4)


def test_after_running_out_of_memory_a_study_goes_on_with_narrower_cohorts(
    houses_csv: Path, tmp_path: Path
) -> None:
    table = lab.datasets.load_table(str(houses_csv), target="price")
    space = lab.SearchSpace(learning_rate=lab.LogUniform(1e-4, 1e-3))
    for trials, width in ((4, None), (8, 1)):
        task = lab.tasks.tabular(table, numeric="standard")
        study = lab.Study(task, space, tmp_path / "study", cohort_width=width)
        study.optimize(lab.search.random(), trials, 1, 1)
        widths = set(study.store.settings()["widths"].values())
        study.close()
    assert widths == {1}


def test_a_calibration_comes_back_as_it_was_written(tmp_path: Path) -> None:
    costs = Costs(flops=3.0e9, cohort_bytes=12345)
    path = tmp_path / "calibration.json"
    path.write_text(write_costs(costs, "cpu", 2))
    assert read_costs(path) == costs


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not a calibration"),
        ("[]", "is not a calibration"),
        ('{"costs": {}}', "is not a calibration"),
        ('{"schema": 1, "costs": {}}', "another version"),
        ('{"schema": 2, "costs": {"flop": 1.0}}', "Did you mean 'flops'"),
        ('{"schema": 2, "costs": {"flops": "fast"}}', "flops must be a number, got 'fast'"),
        ('{"schema": 2, "costs": {"flops": -1.0}}', "flops of the costs must be a number above 0"),
    ],
)
def test_a_file_that_is_no_calibration_is_refused(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "calibration.json"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        read_costs(path)


def test_the_fit_finds_the_costs_that_made_the_times() -> None:
    true = Costs(flops=2e10, update_bytes=9e9, block_seconds=5e-7, step_seconds=4e-5)
    load = Load(1, 1, 1, calibration.NUM_ROWS, calibration.NUM_FEATURES)

    def seconds(shape: Shape, cohort: int) -> float:
        space = lab.SearchSpace(
            hidden_size=shape.width, num_layers=shape.depth, batch_size=shape.batch
        )
        exact = choose(space, load, true)
        size, depth, batch = shape
        return epoch_seconds(exact, load, true, size, depth, batch).share(cohort)

    keys = [*((SHAPES[0], width) for width in (4, 16)), *((shape, 4) for shape in SHAPES[1:])]
    found = calibration.fit({key: seconds(*key) for key in keys}, SHIPPED[True])
    for name, value in found.items():
        assert value == pytest.approx(getattr(true, name), rel=1e-5), name


def test_calibrate_and_plan_from_the_command_line(
    houses_csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr(calibration, "SHAPES", (Shape(8, 1, 32), Shape(8, 2, 32)))
    monkeypatch.setattr(calibration, "SECONDS", 0.01)
    path = tmp_path / "calibration.json"
    monkeypatch.setattr("jaxopt_lab.cli.calibrate.prepare_jax", lambda *a, **k: None)
    monkeypatch.setattr("jaxopt_lab.cli.plan.prepare_jax", lambda *a, **k: None)
    assert cli.run(["calibrate", "--quick", "--out", str(path)]) == 0
    content = json.loads(path.read_text())
    assert content["costs"]["flops"] > 0
    space = tmp_path / "space.toml"
    space.write_text("[space]\nhidden_size = 16\nlearning_rate = { log_uniform = [1e-4, 1e-2] }\n")
    options = ["plan", str(houses_csv), "--target", "price", "--trials", "64", "--epochs", "2"]
    options += ["--space", str(space)]
    capsys.readouterr()
    assert cli.run([*options, "--calibration", str(path)]) == 0
    measured = capsys.readouterr().out
    assert cli.run([*options, "--cohort-width", "2"]) == 0
    shipped = capsys.readouterr().out
    assert "expected: " in measured
    assert measured != shipped
    assert "cohorts of 2" in shipped
    assert "cohorts of 4" not in shipped


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--calibration", "missing.json"], "no such file: missing.json"),
        (["--memory-limit", "-1"], "--memory-limit: must be a number of GiB above 0"),
        (["--memory-limit", "0.0001"], "does not hold one trial"),
        (["--cohort-width", "0"], "--cohort-width: must be at least 1"),
    ],
)
def test_bad_options_get_one_line(
    options: list[str], message: str, houses_csv: Path, capsys: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr("jaxopt_lab.cli.plan.prepare_jax", lambda *a, **k: None)
    code = cli.run(["plan", str(houses_csv), "--target", "price", *options])
    error = capsys.readouterr().err
    assert code == 2
    assert message in error
    assert len(error.splitlines()) == 1


def test_the_memory_of_a_cpu_bounds_nothing_unless_asked() -> None:
    import jax

    devices = jax.local_devices()
    assert sizing.memory_of(devices) is None
    assert sizing.sizing_of(devices).memory_limit is None


def test_calibrate_refuses_a_place_where_it_cannot_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setattr("jaxopt_lab.cli.calibrate.prepare_jax", lambda *a, **k: None)
    monkeypatch.setattr(calibration, "measure", lambda *a: pytest.fail("measured first"))
    (tmp_path / "file").write_text("")
    assert cli.run(["calibrate", "--out", str(tmp_path / "file" / "costs.json")]) == 1
    assert "cannot write" in capsys.readouterr().err
