"""A study survives kill -9, Ctrl-C and time limits, and comes to the same result."""

import json
import multiprocessing
import os
import random
import shutil
import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

SPACE = """
[space]
learning_rate = { log_uniform = [1e-3, 1e-1] }
batch_size = { choice = [32, 64] }
dropout = { uniform = [0.0, 0.4] }
num_layers = 1
hidden_size = 4
"""
# Imported once; every run is a fork of the process that has them.
HEAVY = ["jaxopt_lab.tuning.tune", "jaxopt_lab.cli.tune", "jaxopt_lab.datasets.baselines"]
#: Quick, and with `--runslow`; tests/test_sweep_resume.py kills inside chosen transactions.
NUM_KILLS = {False: 4, True: 10}
#: No run takes nearly as long; a hang fails the test instead of stopping it.
PATIENCE = 120.0


def run_command(argv: list[str], log: str, cache: str) -> None:
    """Run one command line in a fresh process; what it prints is added to the log.

    Without baselines and report, which are made after the search, from what it has stored.
    """
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)
    import jax

    jax.config.update("jax_compilation_cache_dir", cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    from jaxopt_lab.cli import main, tune
    from jaxopt_lab.datasets import baselines

    baselines.fit_baselines = lambda *tables_and_seed: {}
    tune.write_report = lambda directory: True
    main(argv)


class Lab:
    """Starts `jaxopt-lab tune` on one small table, over and over, cheaply."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.log = folder, folder / "log.txt"
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(HEAVY)

    def start(self, directory: Path, *options: str, trials: int = 8) -> BaseProcess:
        """Begin a run in the background; the log is emptied."""
        self.log.write_text("")
        argv = ["tune", str(self.folder / "table.csv"), "--target", "price", "--out"]
        argv += [str(directory), "--space", str(self.folder / "space.toml"), "--folds", "2"]
        argv += ["--epochs", "3", "--numeric", "standard", "--trials", str(trials), *options]
        args = (argv, str(self.log), str(self.folder / "programs"))
        process = self._context.Process(target=run_command, args=args)
        process.start()
        return process

    def finish(self, process: BaseProcess) -> int:
        """Wait for the end of a run; its exit code."""
        process.join(PATIENCE)
        assert process.exitcode is not None, f"still running:\n{self.log.read_text()}"
        return process.exitcode

    def tune(self, directory: Path, *options: str, trials: int = 8) -> None:
        """Run to the end."""
        code = self.finish(self.start(directory, *options, trials=trials))
        assert code == 0, self.log.read_text()

    def wait_for(self, process: BaseProcess, text: str) -> None:
        """Wait until a run has printed a text."""
        deadline = time.monotonic() + PATIENCE
        while text not in self.log.read_text():
            process.join(0.01)
            assert process.exitcode is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, houses) -> Lab:
    folder = tmp_path_factory.mktemp("lab")
    houses[["area", "age", "price"]].head(120).to_csv(folder / "table.csv", index=False)
    (folder / "space.toml").write_text(SPACE)
    return Lab(folder)


@pytest.fixture(scope="module")
def whole(lab: Lab) -> Path:
    """The directory of a run that nothing interrupted; read it only."""
    directory = lab.folder / "whole"
    lab.tune(directory)
    return directory


@pytest.fixture(scope="module")
def short(lab: Lab) -> Path:
    """The directory of a finished run of four trials, to go on in a copy."""
    directory = lab.folder / "short"
    lab.tune(directory, trials=4)
    return directory


@pytest.fixture
def show(capsys: pytest.CaptureFixture[str]) -> Callable[[Path], str]:
    from jaxopt_lab.cli import run

    def trials_as_csv(directory: Path) -> str:
        assert run(["show", str(directory), "--csv"]) == 0
        return capsys.readouterr().out

    return trials_as_csv


def rows_of(directory: Path, query: str) -> list[tuple]:
    with closing(sqlite3.connect(directory / "study.sqlite")) as database, database:
        return database.execute(query).fetchall()


def outcome_of(directory: Path) -> dict:
    """`best.json` without what a clock measured."""
    content = json.loads((directory / "best.json").read_text())
    del content["seconds"]
    content.get("efficiency", {}).pop("microseconds_per_row", None)
    return content


def killed_runs(lab: Lab, duration: float, num_kills: int) -> Iterator[Path]:
    """Directories of studies that were killed at random moments until they finished."""
    moments, kills = random.Random(0), 0
    while kills < num_kills:
        directory, code = lab.folder / f"killed-{kills}", None
        while code is None:
            process = lab.start(directory)
            process.join(moments.uniform(0.0, duration))
            if process.exitcode is None:
                process.kill()
                process.join()
                kills += 1
            else:
                code = process.exitcode
        assert code == 0, lab.log.read_text()
        yield directory


def test_killed_at_any_moment_it_comes_to_the_same(
    lab: Lab, whole: Path, show: Callable[[Path], str], request: pytest.FixtureRequest
) -> None:
    again, started = lab.folder / "again", time.monotonic()
    lab.tune(again)
    duration = time.monotonic() - started
    expected = show(whole)
    assert len(expected.splitlines()) == 9
    assert show(again) == expected
    for directory in killed_runs(lab, duration, NUM_KILLS[request.config.option.runslow]):
        assert show(directory) == expected
        assert outcome_of(directory) == outcome_of(whole)
        predicted = (directory / "test_predictions.csv").read_bytes()
        assert predicted == (whole / "test_predictions.csv").read_bytes()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_by_a_signal_it_says_how_to_go_on(
    lab: Lab, whole: Path, show: Callable[[Path], str], number: signal.Signals, code: int
) -> None:
    directory = lab.folder / f"stopped-{code}"
    process = lab.start(directory)
    lab.wait_for(process, "wide search")
    assert process.pid is not None
    os.kill(process.pid, number)
    assert lab.finish(process) == code, lab.log.read_text()
    last = lab.log.read_text().splitlines()[-1]
    assert "Go on with the same command: jaxopt-lab tune " in last
    assert str(directory) in last
    assert "Traceback" not in lab.log.read_text()
    lab.tune(directory)
    assert show(directory) == show(whole)


def test_a_finished_run_only_reports(lab: Lab, whole: Path) -> None:
    before = rows_of(whole, "SELECT * FROM waves")
    outcome = outcome_of(whole)
    lab.tune(whole)
    assert rows_of(whole, "SELECT * FROM waves") == before
    assert outcome_of(whole) == outcome
    assert "test scores" in lab.log.read_text()


def test_more_trials_extend_a_finished_run(
    lab: Lab, short: Path, show: Callable[[Path], str]
) -> None:
    directory = shutil.copytree(short, lab.folder / "extended")
    before = show(directory).splitlines()
    lab.tune(directory, trials=6)
    after = show(directory).splitlines()
    assert len(after) == 7
    assert after[: len(before)] == before


def test_after_a_time_limit_nothing_more_is_proposed(lab: Lab, short: Path) -> None:
    directory = shutil.copytree(short, lab.folder / "limited")
    count = "SELECT status, COUNT(*) FROM trials GROUP BY status"
    before = dict(rows_of(directory, count))
    lab.tune(directory, "--time-limit", "0.001", trials=6)
    assert dict(rows_of(directory, count)) == before
    counts = json.loads((directory / "best.json").read_text())["trials"]
    assert sum(counts.values()) == 4
    lab.tune(directory, trials=6)
    assert sum(dict(rows_of(directory, count)).values()) == 6
    assert not rows_of(directory, "SELECT * FROM trials WHERE reason LIKE '%time limit%'")
