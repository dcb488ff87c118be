"""`jaxopt-lab sweep`: a script that exports a problem, its mistakes, and what comes out."""

import csv
import io
import json
import signal
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from test_report import figures_of, needs_browser, open_in_browser, own_text

from jaxopt_lab import cli
from jaxopt_lab.cli import progress, script, sweep, tune
from jaxopt_lab.core.errors import UserError

FUNCTION = """
import jax
import jaxopt_lab as lab
from ingredients import HEIGHT


def train(key, hparams):
    loss = (hparams["x"] - 0.3) ** 2 + HEIGHT + 0.01 * jax.random.normal(key)
    return {"loss": loss, "curve": hparams["x"] ** jax.numpy.arange(1.0, 6.0)}


problem = lab.from_function(train, num_seeds=2)
space = lab.SearchSpace(x=lab.Uniform(0.0, 1.0))
if __name__ == "__main__":
    raise SystemError("this is for the command line")
"""
STEPS = """
import jax
import jax.numpy as jnp
import jaxopt_lab as lab


def build(*, width=2):
    def init(key, hparams):
        return jax.random.normal(key, (width,)) + 3.0

    def step(state, hparams, shared):
        state = state - hparams["learning_rate"] * state
        return state, {"reward": 7.0 - jnp.sum(state**2), "size": jnp.max(jnp.abs(state))}

    return lab.Trainable(init, step)


def problem():
    return lab.from_steps(build, objective="reward", direction="maximize", num_seeds=2)


space = lab.SearchSpace(learning_rate=lab.LogUniform(1e-3, 0.2))
"""
SHORT = """
import jaxopt_lab as lab

def train(key, hparams):
    return {"loss": hparams["x"]}

def space_of():
    return lab.SearchSpace(x=lab.Uniform(0.0, 1.0))

"""
TOY = ["sweep", "toy.py", "--trials", "6", "--search", "random"]
CLIMB = ["sweep", "climb.py", "--trials", "9", "--search", "random", "--budget", "9"]
CLIMB += ["--scheduler", "successive_halving"]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with scripts, and finished sweeps of them in `runs`."""
    folder = tmp_path_factory.mktemp("sweeps")
    (folder / "toy.py").write_text(FUNCTION)
    (folder / "ingredients.py").write_text("HEIGHT = 1.0\n")
    (folder / "climb.py").write_text(STEPS)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(tune, "configure_jax", lambda num_devices: None)
        for command in (TOY, CLIMB):
            assert cli.run(command) == 0
    return folder


@pytest.fixture(autouse=True)
def here(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(work)
    monkeypatch.setattr(tune, "configure_jax", lambda num_devices: None)
    monkeypatch.setattr("sys.path", ["/elsewhere", *__import__("sys").path])


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Callable[[list[str]], str]:
    def run(command: list[str]) -> str:
        capsys.readouterr()
        code = cli.run(command)
        found = capsys.readouterr()
        assert (code, found.err) == (0, "")
        return found.out

    return run


def rows_of(folder: str, query: str) -> list[tuple]:
    with closing(sqlite3.connect(f"runs/{folder}/study.sqlite")) as database, database:
        return database.execute(query).fetchall()


# What goes wrong with a script is one line that says where.


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        ("x = = 1\n", "", "bad.py, line 1: SyntaxError: invalid syntax"),
        ("a = 1\nimport nowhere_to_be_found\n", "", "bad.py, line 2: No module named 'nowhere_to"),
        ("def f():\n    return 1 / 0\n\nf()\n", "", "bad.py, line 2: ZeroDivisionError: division"),
        ("import sys\nsys.exit(3)\n", "", "bad.py, line 2: the script ends there"),
        ("import jaxopt_lab as lab\nlab.Choice([])\n", "", "bad.py, line 2: "),
        (SHORT, "", "bad.py has no problem; write one at its top level"),
        (
            SHORT + "one = lab.from_function(train)\ntwo = lab.from_function(train)\n",
            "",
            "bad.py has 2 problems: one, two; say which: bad.py:one",
        ),
        (SHORT + "one = lab.from_function(train)\n", "", "bad.py has no search space; write space"),
        (
            SHORT + "one = lab.from_function(train)\nSPACE = space_of()\n",
            "",
            "It has 'SPACE': call a SearchSpace 'space'",
        ),
        (
            SHORT + "one = lab.from_function(train)\nspace = {'x': lab.Uniform(0.0, 1.0)}\n",
            "",
            "bad.py: space must be a lab.SearchSpace, got dict",
        ),
        (SHORT + "one = lab.from_function(train)\n", ":onw", "has no 'onw'. Did you mean 'one'?"),
        (SHORT, ":train", "bad.py: train is a function of key, hparams; it must be a problem"),
        (SHORT, ":space_of", "bad.py: space_of() must return a problem"),
        (SHORT, ":1x", "'1x' is no name in a script"),
        (SHORT + "problem = 3\n", "", "bad.py: problem must be a problem, as in "),
        (STEPS, "", "say how long each trial trains: --budget N, in steps"),
        (STEPS, "|--space missing.toml", "cannot read missing.toml"),
        (STEPS, "|--keep 0", "--keep: must be at least 1, got '0'"),
        (
            STEPS.replace("learning_rate=", "nothing=1, learning_rate=") + "\n",
            "|--budget 2",
            "nothing",
        ),
    ],
)
def test_a_mistake_is_one_line(
    text: str,
    options: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.py").write_text(text)
    name, _, more = options.partition("|")
    assert cli.run(["sweep", f"bad.py{name}", *more.split()]) == 2
    found = capsys.readouterr()
    assert len(found.err.splitlines()) == 1
    assert message in found.err
    assert not Path("runs/bad/best.json").exists()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("missing.py", "there is no file missing.py"),
        ("notes.ipynb", "notes.ipynb is no Python script"),
        ("train.txt:problem", "is no Python script; give FILE.py or FILE.py:NAME"),
    ],
)
def test_a_file_that_is_no_script(
    given: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(["sweep", given]) == 2
    assert message in capsys.readouterr().err


def test_a_directory_is_no_script(tmp_path: Path) -> None:
    (tmp_path / "folder.py").mkdir()
    with pytest.raises(UserError, match="cannot read"):
        script.load(tmp_path / "folder.py", None, None)


def test_names_after_the_colon() -> None:
    assert script.split_name("a/b.py:main") == (Path("a/b.py"), "main")
    assert script.split_name("a/b.py") == (Path("a/b.py"), None)
    assert sweep.default_directory(Path("a/b.py"), "main") == Path("runs/b-main")


def test_a_space_file_takes_the_place_of_the_scripts(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text(SHORT + "problem = lab.from_function(train)\n")
    (tmp_path / "space.toml").write_text("[space]\nx = { uniform = [0.0, 0.5] }\n")
    found = script.load(tmp_path / "one.py", None, str(tmp_path / "space.toml"))
    assert found.space.extremes() == {"x": (0.0, 0.5)}
    (tmp_path / "space.toml").write_text("[space]\nx = { uniform = [1.0, 0.5] }\n")
    with pytest.raises(UserError, match=r"space\.toml"):
        script.load(tmp_path / "one.py", None, str(tmp_path / "space.toml"))


# What comes out.


def test_best_json_has_the_objective_as_the_problem_has_it() -> None:
    best = json.loads(Path("runs/climb/best.json").read_text())
    assert best["validation"]["metric"] == "reward"
    assert best["validation"]["direction"] == "maximize"
    stored = rows_of("climb", "SELECT trial_id, MIN(score) FROM trials WHERE status = 'completed'")
    assert [(best["trial_id"], -best["validation"]["mean"])] == stored
    assert 0 < best["validation"]["mean"] < 7
    assert len(best["validation"]["folds"]) == 2
    assert best["trials"] == {"completed": 1, "infeasible": 0, "stopped": 8}


def test_trials_csv_is_what_show_prints(printed: Callable[[list[str]], str]) -> None:
    for name in ("toy", "climb"):
        text = printed(["show", f"runs/{name}", "--csv"])
        assert Path(f"runs/{name}/trials.csv").read_text() == text
    rows = list(csv.DictReader(io.StringIO(text)))
    assert all(float(row["score"]) < 7 for row in rows)
    done = [row for row in rows if row["status"] == "completed"]
    assert max(rows, key=lambda row: float(row["score"])) in done
    assert {row["runs"] for row in rows} == {"2"}
    assert {row["units"] for row in rows} == {"1", "3", "9"}


def test_show_names_the_objective(printed: Callable[[list[str]], str]) -> None:
    text = printed(["show", "runs/climb"])
    assert "reward" in text
    assert "scores after fewer than 9 steps do not compare" in text
    assert "epoch" not in text
    assert "fold" not in text


def test_a_second_run_only_reports(printed: Callable[[list[str]], str]) -> None:
    before = rows_of("climb", "SELECT * FROM waves")
    text = printed(CLIMB)
    assert rows_of("climb", "SELECT * FROM waves") == before
    assert "climb.py: problem, maximize reward over learning_rate; study in runs/climb" in text
    assert "best: trial" in text
    assert "trials: 1 completed, 0 infeasible, 8 stopped" in text


def test_a_changed_script_is_said(
    printed: Callable[[list[str]], str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("ingredients.py").write_text("HEIGHT = 1.0\n")
    Path("toy.py").write_text(FUNCTION)
    command = [*TOY[:2], "--trials", "1", "--search", "random"]
    assert "has changed" not in printed(command)
    Path("toy.py").write_text(FUNCTION + "# another line\n")
    assert "note: the script has changed since this study began" in printed(command)


def test_plan_trains_nothing(printed: Callable[[list[str]], str]) -> None:
    text = printed([*CLIMB, "--out", "planned", "--plan"])
    assert "18 networks, 1 program" in text
    assert not Path("planned").exists()


def test_ctrl_c_says_how_to_go_on(
    printed: Callable[[list[str]], str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = [*TOY, "--out", "stopped"]
    with monkeypatch.context() as patch:
        patch.setattr(
            progress.PlainDisplay,
            "update",
            lambda self, progress: signal.raise_signal(signal.SIGINT),
        )
        assert cli.run(command) == 130
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(f"Go on with the same command: jaxopt-lab {' '.join(command)}")
    printed(command)
    stopped, whole = (printed(["show", folder, "--csv"]) for folder in ("stopped", "runs/toy"))
    assert stopped == whole


# The page.


def test_the_page_shows_the_metrics_that_there_are() -> None:
    figures = figures_of(Path("runs/climb/report.html"))
    titles = [figures[f"metric-{i}"]["layout"]["yaxis"]["title"]["text"] for i in range(2)]
    assert titles == ["reward", "size"]
    assert "metric-2" not in figures
    (curve,) = [f for n, f in figures_of(Path("runs/toy/report.html")).items() if "metric" in n]
    assert curve["layout"]["xaxis"]["title"]["text"] == "Index"
    assert {len(trace["y"]) for trace in curve["data"]} == {5}
    for name in ("best-so-far", "parallel", "importance", "slice-learning_rate"):
        assert name in figures


def test_the_page_respects_the_direction() -> None:
    page = Path("runs/climb/report.html")
    figure = figures_of(page)["best-so-far"]
    heights = [y for trace in figure["data"] for y in trace["y"]]
    best = json.loads(Path("runs/climb/best.json").read_text())["validation"]["mean"]
    assert max(heights) == pytest.approx(best, rel=1e-4)
    low, high = figure["layout"]["yaxis"]["range"]
    assert low <= min(heights)
    assert best < high
    text = own_text(page)
    assert "higher is better" in text
    for word in ("RMSE", "fold", "epoch", "network", "test_predictions"):
        assert word not in text.split("<h2>Cost")[0], word


@needs_browser
@pytest.mark.parametrize("name", ["toy", "climb"])
def test_a_browser_draws_every_chart(name: str, tmp_path: Path) -> None:
    page = Path(f"runs/{name}/report.html").absolute()
    document, console = open_in_browser(page, tmp_path / "profile")
    assert console == []
    assert f'data-drawn="{len(figures_of(page))}"' in document
