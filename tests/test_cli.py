"""The command line: what it prints, what it imports, how it ends."""

import csv
import gzip
import io
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from test_files import nobody

from jaxopt_lab import cli, datasets, search
from jaxopt_lab.cli import arguments, console, grid, predict, process, progress, summary, tune
from jaxopt_lab.core.errors import UserError
from jaxopt_lab.core.status import Status
from jaxopt_lab.datasets import columns
from jaxopt_lab.study.callbacks import Progress
from jaxopt_lab.tuning import settings

OPTIONS = "--target wall --folds 2 --epochs 2 --trials 4 --numeric standard --space tiny.toml"
SPACE = """
[space]
learning_rate = { log_uniform = [1e-3, 1e-1] }
dropout = { choice = [0.0, 0.2] }
num_layers = 1
hidden_size = 4
"""


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory, houses: pd.DataFrame) -> Path:
    """A directory with a table of 3 classes and its finished study in `runs/houses`."""
    folder = tmp_path_factory.mktemp("work")
    houses[["area", "heating", "wall"]].head(120).to_csv(folder / "houses.csv", index=False)
    (folder / "tiny.toml").write_text(SPACE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(tune, "prepare_jax", lambda num_devices: None)
        assert cli.run(["tune", "houses.csv", *OPTIONS.split()]) == 0
    return folder


@pytest.fixture(autouse=True)
def here(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(work)


def printed(capsys: pytest.CaptureFixture[str], command: str) -> str:
    """What a good command prints on stdout."""
    assert cli.run(command.split()) == 0
    found = capsys.readouterr()
    assert found.err == ""
    return found.out


def loaded_by(command: list[str], names: set[str]) -> set[str]:
    """Which of some modules a command line imports, in a process of its own."""
    script = (
        "import sys\nfrom jaxopt_lab.cli import run\n"
        f"code = run({command!r})\n"
        f"print(code, *sorted(set(sys.modules) & {names!r}))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    code, *found = done.stdout.splitlines()[-1].split()
    assert code == "0", done.stderr
    return set(found)


@pytest.mark.parametrize("command", [["--help"], ["tune", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(command: list[str]) -> None:
    assert loaded_by(command, {"jax", "numpy", "pandas", "rich", "scipy", "sqlite3"}) == set()


@pytest.mark.parametrize("option", ["--csv", "--timing"])
def test_show_does_without_jax(option: str) -> None:
    command = ["show", "runs/houses", option]
    assert loaded_by(command, {"jax", "pandas", "scipy", "flax", "sklearn"}) == set()


def test_known_names_are_those_of_the_library() -> None:
    assert tuple(search.REGISTRY) == arguments.SEARCHES
    assert settings.SCHEDULERS == arguments.SCHEDULERS
    frame = pd.DataFrame({"a": np.arange(20.0), "b": ["x", "y"] * 10})
    kinds: dict[str, columns.Kind] = {"a": "numeric", "b": "categorical"}
    for numeric in arguments.NUMERICS:
        assert datasets.fit_encoder(frame, kinds, numeric=numeric).num_features > 0


@pytest.mark.parametrize("command", ["tune", "show", "predict", "report"])
def test_every_command_has_help_of_80_columns(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = printed(capsys, f"{command} --help")
    assert f"usage: jaxopt-lab {command}" in text
    assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize(
    ("data", "directory"),
    [
        ("tables/houses.csv.gz", "runs/houses"),
        ("lucas_houses", "runs/lucas_houses"),
        ("a.b.parquet", "runs/a.b"),
        (".csv", "runs/study"),
    ],
)
def test_default_directory(data: str, directory: str) -> None:
    assert tune.default_directory(data) == Path(directory)


def test_show_prints_csv(capsys: pytest.CaptureFixture[str]) -> None:
    rows = list(csv.DictReader(io.StringIO(printed(capsys, "show runs/houses --csv"))))
    assert [row["trial_id"] for row in rows] == ["0", "1", "2", "3"]
    known = ["trial_id", "phase", "status", "score", "standard_error", "folds", "epochs", "reason"]
    config = ["learning_rate", "dropout", "num_layers", "hidden_size"]
    assert list(rows[0]) == known + config
    assert {row["status"] for row in rows} == {"completed", "stopped"}
    assert all(1e-3 <= float(row["learning_rate"]) <= 1e-1 for row in rows)
    assert all(row["folds"] == {"completed": "2", "stopped": "1"}[row["status"]] for row in rows)


def test_timing_adds_networks_and_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, "show runs/houses --csv --timing")
    rows = list(csv.DictReader(io.StringIO(text)))
    networks = {"completed": "2", "stopped": "1"}
    assert all(row["networks"] == networks[row["status"]] for row in rows)
    assert all(float(row["seconds"]) > 0 for row in rows)


def test_show_prints_a_table(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = printed(capsys, "show runs/houses")
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 80
    assert "the same in all: num_layers = 1, hidden_size = 4" in text
    assert text.count("completed") + text.count("stopped") == 4
    assert "scores over fewer than 2 folds do not compare" in text


@pytest.mark.parametrize("width", [20, 30, 40])
def test_a_narrow_terminal_loses_columns_and_no_digits(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    whole = printed(capsys, "show runs/houses").splitlines()
    monkeypatch.setenv("COLUMNS", str(width))
    lines = printed(capsys, "show runs/houses").splitlines()
    (rule,) = [i for i, line in enumerate(lines) if line.startswith("──")]
    assert max(map(len, lines[: rule + 5])) <= width
    assert "…" not in "".join(lines)
    (note,) = [line for line in lines if line.startswith("not shown, for want of width: ")]
    assert "learning_rate" in note
    digits = {cell for line in whole for cell in line.split()}
    assert all(cell in digits for line in lines[rule + 1 : rule + 5] for cell in line.split())


def test_columns_are_left_out_by_rank_from_the_right() -> None:
    columns = [grid.Column(n, ["12345"], rank=r) for n, r in zip("abcd", (0, 2, 1, 2), strict=True)]
    kept = {width: "".join(c.title for c in grid.fitting(columns, width)) for width in (26, 25, 13)}
    assert kept == {26: "abcd", 25: "abc", 13: "ac"}
    assert [c.title for c in grid.fitting(columns, 1)] == ["a"]


def test_a_strangers_text_does_not_steer_the_terminal() -> None:
    assert console.short("a\x1b[2Jb\nc") == "a?[2Jb?c"


def test_show_names_the_reason_of_an_infeasible_trial(capsys: pytest.CaptureFixture[str]) -> None:
    from jaxopt_lab.storage.store import Store

    store = Store.open("infeasible")
    with store.transaction():
        store.set("task", {"task": "regression", "log_target": True})
        store.add_trial(0, "wide", {"learning_rate": 10.0})
        store.set_trial(0, Status.INFEASIBLE, reason="fold 0: diverged at step 3")
    store.close()
    text = printed(capsys, "show infeasible")
    assert "trial 0: fold 0: diverged at step 3" in text
    assert "log\n" in text or "log_rmse" in text or "rmse" in text


def test_predict_writes_labels_and_probabilities(capsys: pytest.CaptureFixture[str]) -> None:
    assert "120 predictions of wall: out.csv" in printed(
        capsys, "predict runs/houses houses.csv -o out.csv"
    )
    found = pd.read_csv("out.csv")
    shares = found.filter(like="probability_")
    assert len(found) == 120
    np.testing.assert_allclose(shares.sum(axis=1), 1.0, atol=1e-6)
    best = shares.idxmax(axis=1).str.removeprefix("probability_")
    assert (found["wall"] == best).all()


def test_predictions_go_to_standard_output_with_notes_beside_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    printed(capsys, "predict runs/houses houses.csv -o plain.csv")
    frame = pd.read_csv("houses.csv")
    frame.loc[0, "heating"] = "sun"
    frame.to_csv("odd.csv", index=False)
    assert cli.run(["predict", "runs/houses", "odd.csv", "-o", "-"]) == 0
    found = capsys.readouterr()
    assert found.out.startswith("wall,probability_")
    assert found.out.splitlines()[2:] == Path("plain.csv").read_text().splitlines()[2:]
    assert found.err.startswith("note: ")


def test_predictions_are_compressed_and_guarded(capsys: pytest.CaptureFixture[str]) -> None:
    printed(capsys, "predict runs/houses houses.csv -o out.csv")
    printed(capsys, "predict runs/houses houses.csv -o out.csv.gz --excel")
    with gzip.open("out.csv.gz", "rt") as handle:
        assert handle.read() == Path("out.csv").read_text(), "no label here begins a formula"
    cells = ["=1+1", "+1", "-1", "@x", "\ta", "1-1"]
    found = predict.guarded(pd.DataFrame({"kind": cells, "share": [-0.5] * 6}))
    assert found["kind"].tolist() == ["'=1+1", "'+1", "'-1", "'@x", "'\ta", "1-1"]
    assert found["share"].tolist() == [-0.5] * 6


def test_a_report_goes_where_it_is_asked_for(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    before = Path("runs/houses/report.html").read_bytes()
    assert (
        printed(capsys, f"report runs/houses -o {tmp_path}/page.html") == f"{tmp_path}/page.html\n"
    )
    assert (tmp_path / "page.html").read_bytes() == before


def test_a_study_that_cannot_be_written_is_shown_and_reported_on(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    code = Path(cli.__file__)
    if os.geteuid() == 0 and not all(path.stat().st_mode & 0o005 == 0o005 for path in code.parents):
        pytest.skip("root's clone is for root alone: another user cannot read the page's parts")
    study, here = tmp_path / "theirs", tmp_path / "mine"
    shutil.copytree("runs/houses", study)
    here.mkdir()
    here.chmod(0o777)
    (study / "report.html").unlink()
    names = {p.name for p in study.iterdir()}
    monkeypatch.chdir(here)
    with nobody(study):
        assert printed(capsys, f"show {study} --csv").startswith("trial_id")
        text = printed(capsys, f"report {study}")
    assert "nothing can be written to" in text
    assert (here / "theirs-report.html").exists()
    assert {p.name for p in study.iterdir()} == names


def test_predict_single_works_on_the_model_alone(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    import shutil

    shutil.copytree("runs/houses/model", tmp_path / "copied")
    printed(capsys, f"predict {tmp_path}/copied houses.csv -o {tmp_path}/single.csv --single")
    printed(capsys, "predict runs/houses houses.csv -o both.csv")
    single, both = pd.read_csv(tmp_path / "single.csv"), pd.read_csv("both.csv")
    assert not np.allclose(single.filter(like="prob"), both.filter(like="prob"))


def test_predict_says_what_it_repairs(capsys: pytest.CaptureFixture[str]) -> None:
    frame = pd.read_csv("houses.csv").head(3)
    frame["heating"] = ["gas", "sun", "wind"]
    frame.drop(columns="wall").to_csv("new.csv", index=False)
    text = printed(capsys, "predict runs/houses new.csv -o new_out.csv")
    assert text.startswith("note: ")
    assert "heating" in text.splitlines()[0]
    assert len(pd.read_csv("new_out.csv")) == 3


# How a command ends.


def ended(command, capsys: pytest.CaptureFixture[str], argv: tuple[str, ...] = ()) -> tuple:
    """Exit code and stderr of a guarded function."""
    return process.guard(command, list(argv)), capsys.readouterr().err


def test_an_unexpected_error_asks_to_be_reported(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(process.DEBUG, raising=False)

    def command() -> int:
        raise RuntimeError("no\nidea")

    code, text = ended(command, capsys)
    assert code == 1
    assert len(text.splitlines()) == 1
    assert "unexpected RuntimeError: no idea" in text
    assert "Please report it" in text
    monkeypatch.setenv(process.DEBUG, "1")
    assert "Traceback" in ended(command, capsys)[1]


def test_ctrl_c_names_the_command_that_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> int:
        signal.raise_signal(signal.SIGINT)
        return 0

    code, text = ended(command, capsys, ("tune", "my table.csv", "--target", "price"))
    assert code == 130
    assert "Go on with the same command: jaxopt-lab tune 'my table.csv' --target price" in text


def test_sigterm_stops_likewise(capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGTERM)

    def command() -> int:
        signal.raise_signal(signal.SIGTERM)
        return 0

    assert ended(command, capsys)[0] == 143
    assert signal.getsignal(signal.SIGTERM) is before


def test_memory_and_files_are_the_machine(capsys: pytest.CaptureFixture[str]) -> None:
    def starve() -> int:
        raise MemoryError

    def lose() -> int:
        raise PermissionError(13, "Permission denied", "table.csv")

    assert ended(starve, capsys)[0] == 1
    code, text = ended(lose, capsys)
    assert (code, "table.csv: permission denied" in text) == (1, True)


def test_a_closed_pipe_is_quiet() -> None:
    script = "from jaxopt_lab.cli import main; main(['show', 'runs/houses', '--csv'])"
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as pipe:
        command = [sys.executable, "-c", script]
        done = subprocess.run(command, stdout=pipe, stderr=subprocess.PIPE, text=True)
    assert done.stderr == ""
    assert done.returncode == process.PIPE


# What is seen while it works, and at the end.


def progress_at(done: int, phase: str = "wide", best: float | None = 0.25) -> Progress:
    counts = {Status.PENDING: 20 - done, Status.COMPLETED: done - done // 10}
    counts[Status.INFEASIBLE] = done // 10
    return Progress(phase, done * 3, 60, counts, best, "log_rmse", float(done))


def test_plain_progress_prints_a_line_per_tenth() -> None:
    out = io.StringIO()
    with progress.display(Console(file=out, width=80), num_trials=40) as shown:
        for done in range(21):
            shown.update(progress_at(done))
        shown.update(progress_at(20, "rerun"))
        shown.say("a finding")
    lines = out.getvalue().splitlines()
    assert len(lines) == 13
    assert lines[0] == "wide search: 0/60 networks, 0 of 40 trials decided, best log_rmse 0.25"
    assert ", these in " in lines[5]
    assert "20 of 40 trials decided, 2 infeasible" in lines[10]
    assert lines[-1] == "a finding"
    assert "\x1b" not in out.getvalue()


def test_the_wave_that_was_compiled_does_not_count_for_the_time_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    out = io.StringIO()
    with progress.display(Console(file=out, width=80), num_trials=20) as shown:
        for seconds, done in ((60.0, 2), (61.0, 4)):
            now[0] = seconds
            shown.update(progress_at(done))
    first, second = out.getvalue().splitlines()
    assert "these in" not in first
    assert "these in 8 s" in second  # 48 networks, six in a second


def test_live_progress_fits_80_columns() -> None:
    out = Console(file=io.StringIO(), width=80, force_terminal=True, color_system=None)
    shown = progress.LiveDisplay(out, num_trials=40)
    with out.capture() as capture:
        out.print(shown)
        shown.update(progress_at(5, best=None))
        out.print(shown)
        shown.update(progress_at(10))
        out.print(shown)
    lines = capture.get().splitlines()
    assert "compiling and training the first networks" in lines[0]
    assert "15/60 networks" in lines[1]
    assert "30/60 networks" in lines[3]
    assert "10 of 40 trials decided, 1 infeasible, best log_rmse 0.25" in lines[4]
    assert "trials/s" in lines[4]
    assert max(map(len, lines)) <= 80


def test_best_scores_are_bold() -> None:
    scores = {"single": {"rmse": 2.0, "r2": 0.9}, "ridge": {"rmse": 3.0, "r2": 0.5}}
    out = Console(file=io.StringIO(), width=80, force_terminal=True, color_system="standard")
    with out.capture() as capture:
        summary.print_scores(out, scores, "r2")
    text = capture.get()
    assert re.search(r"\x1b\[1m *0\.9\x1b", text)
    assert re.search(r"\x1b\[1m *2\x1b", text)
    assert not re.search(r"\x1b\[1m *(0\.5|3)\x1b", text)
    assert text.index("r2") < text.index("rmse")


def test_tune_ends_with_scores_winner_and_where_to_look(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tune, "prepare_jax", lambda num_devices: None)
    text = printed(capsys, f"tune houses.csv {OPTIONS}")
    assert "houses.csv: 120 rows, 2 columns, classification of wall (3 classes)" in text
    for name in ("tuned, single network", "tuned, ensemble", "hist_gradient_boosting"):
        assert name in text
    (winner,) = [line for line in text.splitlines() if line.startswith("winner: ")]
    assert "learning_rate=" in winner
    assert "trials: 2 completed, 0 infeasible, 2 stopped;" in text
    assert "all trials: jaxopt-lab show runs/houses" in text


def test_a_failing_report_takes_nothing_away(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from jaxopt_lab import report

    def broken(directory: object) -> Path:
        raise RuntimeError("no figures")

    monkeypatch.delenv(process.DEBUG, raising=False)
    monkeypatch.setattr(tune, "prepare_jax", lambda num_devices: None)
    monkeypatch.setattr(report, "build", broken)
    assert cli.run(["tune", "houses.csv", *OPTIONS.split()]) == 1
    found = capsys.readouterr()
    assert "no report was written: unexpected RuntimeError: no figures" in found.err
    assert "jaxopt-lab report runs/houses tries again" in found.err
    assert "test scores" in found.out
    assert Path("runs/houses/report.html").exists()  # of an earlier run: not to be opened
    assert "report.html" not in found.out


def test_a_study_keeps_the_number_of_devices_it_began_with() -> None:
    assert tune.stored_devices(Path("runs/houses")) == 2
    assert tune.stored_devices(Path("runs/none")) is None


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.2, "0 s"), (59.7, "1 min 00 s"), (3601.0, "1 h 00 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert console.duration(seconds) == text


@pytest.mark.parametrize("option", ["--trials", "--seed", "--time-limit"])
def test_a_value_of_thousands_of_digits_is_not_repeated_whole(option: str) -> None:
    with pytest.raises(UserError, match=r"must be .*, got '-9{39}'\.\.\.") as caught:
        arguments.parse(["tune", "t.csv", "--target", "y", f"{option}=-{'9' * 5000}"])
    assert len(str(caught.value)) < 200
