"""The report: complete, self-contained, and without errors in a real browser."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from jaxopt_lab import report
from jaxopt_lab.core.errors import UserError
from jaxopt_lab.core.status import Status
from jaxopt_lab.report import contents, figures, rung_figures
from jaxopt_lab.report.figures import score_window
from jaxopt_lab.report.tables import broken
from jaxopt_lab.spaces.distributions import Choice, IntUniform, LogUniform, Uniform
from jaxopt_lab.spaces.space import SearchSpace
from jaxopt_lab.storage.rows import TrainedMember
from jaxopt_lab.storage.store import Store

SPACE = SearchSpace(
    learning_rate=LogUniform(1e-4, 1.0),
    batch_size=Choice([32, 64]),
    num_layers=IntUniform(1, 3),
    dropout=Uniform(0.0, 0.5),
    optimizer=Choice(["adamw", "momentum"]),
    momentum=Uniform(0.5, 0.99).when(optimizer="momentum"),
    schedule="cosine",
)
OPTAX = (
    "optax.chain(optax.scale_by_adam(b1=0.9, b2=0.999, eps=1e-08), "
    "optax.scale_by_learning_rate(optax.constant_schedule(0.001)))"
)
BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
needs_browser = pytest.mark.skipif(
    not BROWSER, reason="no Chromium on PATH: the page is not opened"
)


def write_study(
    folder: Path, num: int = 24, target: str = "price", regression: bool = True
) -> None:
    """A study as the search leaves it, without training anything."""
    rng = np.random.default_rng(0)
    store = Store.open(folder)
    kind = "regression" if regression else "classification"
    task = {"target": target, "task": kind, "log_target": regression}
    settings = {"task": task, "space": SPACE.to_dict(), "num_folds": 2, "budget": 5}
    settings |= {"seed": 0, "table path": "/data/houses.csv"}
    with store.transaction():
        for name, value in settings.items():
            store.set(name, value)
        store.decide("refined space", SPACE.to_dict())
        store.add_wave("wide", 12.0, 5.0, num, 5 * num, "a program")
        for i, config in enumerate(SPACE.from_unit(rng.random((num, SPACE.num_dims)))):
            _add_trial(store, i, config, "wide" if i < num / 2 else "refined", rng)
        _add_rungs(store, num)
    store.close()


def _add_rungs(store: Store, num: int) -> None:
    """A race of the wide search: what a scheduler leaves behind."""
    rows = {t.trial_id: t for t in store.trials("wide")}
    if not rows:
        return
    losses = [row.score for row in rows.values()]
    promoted = [i for i, row in rows.items() if row.status == Status.COMPLETED]
    rungs = [[len(rows), 5, 1], [len(promoted), 5, None]]
    store.decide("bracket", {"phase": "wide", "trials": [*rows], "rungs": rungs, "before": 0})
    found = {"phase": "wide", "bracket": 0, "rung": 0, "epochs": 5}
    store.decide("rung", {**found, "trials": [*rows], "losses": losses, "promoted": promoted})


def _add_trial(store: Store, i: int, config: dict, phase: str, rng: np.random.Generator) -> None:
    store.add_trial(i, phase, config)
    diverged = config["learning_rate"] > 0.3
    score = 0.3 + 0.1 * (np.log10(config["learning_rate"]) + 2) ** 2
    for fold in range(1 if diverged else 2):
        curve = score * np.exp(-np.arange(5.0)) + score
        curves = {"train_loss": curve, "loss": curve * np.nan if diverged else curve * 1.1}
        outputs = rng.normal(size=(4, 1)).astype(np.float32)
        found = None if diverged else score
        facts = (i, fold, 0, found, "diverged" if diverged else "", 4, 5)
        store.add_members([TrainedMember(*facts, curves, outputs)])
    if diverged:
        store.set_trial(i, Status.INFEASIBLE, reason="fold 0: diverged at step 3")
    elif i % 5 == 4:
        store.set_trial(i, Status.STOPPED, score, None, "in the worse half after one fold")
    else:
        store.set_trial(i, Status.COMPLETED, score, 0.01)


def write_result(folder: Path, regression: bool = True) -> None:
    rng = np.random.default_rng(1)
    one = (
        {"rmse": 9.0, "mae": 5.0, "r2": 0.8, "log_rmse": 0.3}
        if regression
        else {"accuracy": 0.8, "log_loss": 0.4, "macro_f1": 0.7}
    )
    worse = {name: value * 1.1 for name, value in one.items()}
    best = {
        "schema": 1,
        "trial_id": 1,
        "hyperparameters": {"learning_rate": 0.01, "batch_size": 32},
        "optax": OPTAX,
        "validation": {
            "metric": "log_rmse" if regression else "log_loss",
            "mean": 0.31,
            "standard_error": 0.01,
            "folds": [0.30, 0.32],
        },
        "test": {"single": dict(one), "ensemble": dict(one)},
        "baselines": {"hist_gradient_boosting": worse, "mean": worse},
        "trials": {"completed": 20, "infeasible": 4, "stopped": 0},
        "seconds": {"total": 20.0, "compile": 5.0, "train": 7.0},
        "parameters": 1234,
        "versions": {"jax": "0.10.2"},
        "efficiency": {"microseconds_per_row": {"single": 1.5}},
    }
    (folder / "best.json").write_text(json.dumps(best))
    rows = ["row,truth,single,ensemble"]
    for i in range(60):
        truth = rng.lognormal(3, 1)
        values = [truth, truth * 1.1, truth * 0.9] if regression else rng.choice(["a", "b"], 3)
        rows.append(",".join([str(i), *map(str, values)]))
    (folder / "test_predictions.csv").write_text("\n".join(rows) + "\n")


@pytest.fixture
def study(tmp_path: Path) -> Path:
    write_study(tmp_path)
    write_result(tmp_path)
    return tmp_path


def own_text(page: Path) -> str:
    """The page without Plotly's own code."""
    return re.sub(r"<script>/\*\*.*?</script>", "", page.read_text(), flags=re.DOTALL)


def figures_of(page: Path) -> dict:
    text = page.read_text()
    found = re.search(
        r'<script id="figures" type="application/json">(.*?)</script>', text, re.DOTALL
    )
    assert found
    return json.loads(found[1])


def test_the_page_shows_everything_once(study: Path) -> None:
    page = report.build(study)
    assert page == study / "report.html"
    assert page.stat().st_size < 8e6
    expected = {
        "models",
        "predicted",
        "residuals",
        "winner-curves",
        "best-so-far",
        "all-curves",
        "best-of-k",
        "rungs",
        "importance",
        "regions",
        "parallel",
        "cost",
        *(f"{kind}-{name}" for kind in ("slice", "isolation") for name in SPACE.names),
    }
    assert set(figures_of(page)) == expected
    text = page.read_text()
    for name in expected:
        assert text.count(f'id="plot-{name}"') == 1
    assert text.count("plotly.js v") == 1


def test_rungs_say_who_was_stopped_and_what_it_saved(study: Path) -> None:
    found = contents.read(study)
    wide = [t for t in found.trials if t["phase"] == "wide"]
    went_on = sum(t["status"] == Status.COMPLETED for t in wide)
    spent = 5 * len(wide) + 5 * went_on  # five epochs on the first fold, then on the other
    assert f"took {spent} of the {10 * len(wide)} epochs" in rung_figures.saved(found)
    figure = rung_figures.lengths(found)
    assert figure is not None
    ends = {trace["name"]: list(trace["x"]) for trace in figure.data if "name" in trace}
    assert ends["trained to the end"] == [10] * went_on
    assert set(ends["stopped"]) == {5}
    ((bracket, after, compared, promoted, *_),) = rung_figures.comparison_rows(found)
    assert (bracket, after, compared) == ("1", "5", str(len(wide)))
    assert promoted == str(went_on)


def test_the_page_fetches_nothing(study: Path) -> None:
    text = own_text(report.build(study))
    assert len(text) < 1e6
    assert "http://" not in text
    assert "https://" not in text
    assert not re.search(r'(src|href)="(?!#|data:)', text)
    assert "@import" not in text
    assert "url(" not in text


def test_log_ranges_have_log_axes_and_infeasible_trials_are_marked(study: Path) -> None:
    figures = figures_of(report.build(study))
    assert figures["slice-learning_rate"]["layout"]["xaxis"]["type"] == "log"
    crosses = [t for t in figures["slice-dropout"]["data"] if t["marker"].get("symbol") == "x"]
    store = Store.open(study, read_only=True)
    num = sum(t.status == Status.INFEASIBLE for t in store.trials())
    store.close()
    assert [len(t["x"]) for t in crosses] == [num]
    assert num > 0


def test_building_again_gives_the_same_page(study: Path) -> None:
    first = report.build(study).read_bytes()
    assert report.build(study).read_bytes() == first


def test_what_is_absent_is_left_out_with_a_line(study: Path) -> None:
    (study / "best.json").unlink()
    (study / "test_predictions.csv").unlink()
    page = report.build(study)
    text = own_text(page)
    assert "best.json is not there" in text
    assert "test_predictions.csv is not there" in text
    assert not {"models", "predicted"} & set(figures_of(page))
    assert "slice-dropout" in figures_of(page)


def test_the_result_alone_makes_a_page(tmp_path: Path) -> None:
    write_result(tmp_path)
    page = report.build(tmp_path)
    assert set(figures_of(page)) == {"models", "predicted", "residuals", "cost"}
    assert "study.sqlite is not there" in own_text(page)


def test_a_thousand_trials_fit(tmp_path: Path) -> None:
    write_study(tmp_path, 1_000)
    write_result(tmp_path)
    assert report.build(tmp_path).stat().st_size < 7e6


@pytest.mark.parametrize("num", [1, 3])
def test_few_trials(tmp_path: Path, num: int) -> None:
    write_study(tmp_path, num)
    assert "best-so-far" in figures_of(report.build(tmp_path))


@pytest.mark.parametrize(("spread", "named"), [(0.3, True), (0.002, False)])
def test_a_winner_whose_curve_fluctuates_gets_a_command(
    tmp_path: Path, spread: float, named: bool
) -> None:
    write_study(tmp_path, 0)
    rng, store = np.random.default_rng(0), Store.open(tmp_path)
    with store.transaction():
        store.add_trial(0, "wide", {"learning_rate": 0.01})
        for fold in range(2):
            loss = (0.2 + np.exp(-np.arange(40.0) / 5)) * np.exp(rng.normal(0, spread, 40))
            curves = {"train_loss": loss, "loss": loss}
            outputs = np.zeros((4, 1), np.float32)
            store.add_members([TrainedMember(0, fold, 0, 0.3, "", 39, 40, curves, outputs)])
        store.set_trial(0, Status.COMPLETED, 0.3, 0.01)
    store.close()
    page = report.build(tmp_path).read_text()
    assert (f"jaxopt-lab stabilize --study {tmp_path} --trial 0" in page) == named


@pytest.mark.parametrize("scores", [[0.5], [0.5, 0.5, 0.5], [0.0] * 5, [-1e-320], [1e300, -1e300]])
def test_any_scores_make_every_figure(tmp_path: Path, scores: list[float]) -> None:
    write_study(tmp_path, 0)
    rng, store = np.random.default_rng(0), Store.open(tmp_path)
    with store.transaction():
        configs = SPACE.from_unit(rng.random((len(scores), SPACE.num_dims)))
        for i, (config, score) in enumerate(zip(configs, scores, strict=True)):
            _add_trial(store, i, config, "wide", rng)
            store.set_trial(i, Status.COMPLETED, score, 0.0)
    store.close()
    figures = figures_of(report.build(tmp_path))
    assert {"best-so-far", "parallel", "best-of-k", "slice-dropout"} <= set(figures)


def test_the_better_of_our_models_leads(study: Path) -> None:
    best = json.loads((study / "best.json").read_text())
    best["test"]["single"]["log_rmse"] = 0.25
    (study / "best.json").write_text(json.dumps(best))
    text = own_text(report.build(study))
    assert "The tuned network reaches a test log-RMSE of <b>0.25</b>" in text
    assert "The ensemble, chosen on validation rows, does not help here (0.3)" in text
    best["test"]["single"]["log_rmse"] = 0.35
    (study / "best.json").write_text(json.dumps(best))
    text = own_text(report.build(study))
    assert "The ensemble reaches a test log-RMSE of <b>0.3</b>" in text
    assert "does not help" not in text


def test_the_page_says_what_the_result_says(study: Path) -> None:
    best = json.loads((study / "best.json").read_text())
    best["analysis"] = {
        "importance": {"dropout": 1.0},
        "interactions": 0.0,
        "findings": [{"kind": "narrow", "text": "dropout: widen it."}],
        "budget": "the verdict of the file",
    }
    (study / "best.json").write_text(json.dumps(best))
    text = own_text(report.build(study))
    assert "dropout: widen it." in text
    assert "the verdict of the file" in text
    assert "crowd no end" not in text


def test_many_trials_are_drawn_in_part_and_said_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jaxopt_lab.report.contents.MAX_TRIALS", 30)
    write_study(tmp_path, 60)
    page = report.build(tmp_path)
    assert "30 of 60 trials are drawn" in own_text(page)
    points = [t for t in figures_of(page)["slice-dropout"]["data"] if "x" in t]
    assert sum(len(t["x"]) for t in points[:2]) <= 31


def test_a_directory_without_a_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no study"):
        report.build(tmp_path)
    (tmp_path / "best.json").write_text("{")
    with pytest.raises(UserError, match="damaged"):
        report.build(tmp_path)


def test_names_cannot_inject_markup(tmp_path: Path) -> None:
    write_study(tmp_path, target="</script><b>x")
    write_result(tmp_path)
    text = report.build(tmp_path).read_text()
    assert "</script><b>x" not in text
    assert "<b>x" not in text
    assert "&lt;/script&gt;&lt;b&gt;x" in text


def test_the_optimizer_is_broken_into_lines_without_change() -> None:
    text = broken(OPTAX)
    assert text.count("\n") == 3
    assert compile(text, "a", "eval").co_code == compile(OPTAX, "a", "eval").co_code


def test_a_score_axis_shows_the_good_trials() -> None:
    low, high = score_window(np.array([0.3, 0.31, 0.32, 0.33, 50.0, np.nan]))
    assert 0.25 < low < 0.3
    assert 0.33 < high < 0.5


def open_in_browser(page: Path, profile: Path) -> tuple[str, list[str]]:
    """The document after its scripts have run, and what stood in the console."""
    command = [
        *(BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"),
        *("--no-first-run", "--disable-background-networking", "--disable-component-update"),
        *("--disable-sync", "--disable-dev-shm-usage", f"--user-data-dir={profile}"),
        *("--window-size=1280,900", "--virtual-time-budget=30000"),
        *("--enable-logging=stderr", "--v=0", "--dump-dom", page.as_uri()),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=180)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@needs_browser
@pytest.mark.parametrize("regression", [True, False], ids=["regression", "classification"])
def test_a_browser_draws_every_chart_without_complaint(tmp_path: Path, regression: bool) -> None:
    write_study(tmp_path, regression=regression)
    write_result(tmp_path, regression)
    page = report.build(tmp_path)
    document, console = open_in_browser(page, tmp_path / "profile")
    assert console == []
    figures = figures_of(page)
    assert f'data-drawn="{len(figures)}"' in document
    for name in figures:
        plot = document.split(f'id="plot-{name}"', 1)[1][:4000]
        assert "main-svg" in plot, f"{name} was not drawn"


@needs_browser
def test_the_console_is_heard(tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    page.write_text("<script>undefined_function()</script>")
    _, console = open_in_browser(page, tmp_path / "profile")
    assert len(console) == 1


def test_programs_show_what_they_were_expected_to_cost(study: Path) -> None:
    assert "Programs, expected and real" not in own_text(report.build(study))
    store = Store.open(study)
    with store.transaction():
        store.set("widths", {"3 x 64 <relu>": 16})
        store.set("expected", {"3 x 64 <relu>": {"compile": 3.4, "run": 62.1}})
        store.add_wave("wide", 50.0, 4.0, 12, 60, "3 x 64 <relu>")
        store.add_wave("wide", 40.0, 0.0, 4, 20, "3 x 64 <relu>")
        store.add_wave("wide", 99.0, 9.0, 7, 35, "another")
    store.close()
    text = own_text(report.build(study))
    row = re.search(r"<td>3 x 64 &lt;relu&gt;</td>(.*?)</tr>", text)
    assert row
    cells = re.findall(r">([^<]+)</td>", row[1])
    assert cells == ["16", "16", "3.4 / 4.0", "62.1 / 86.0"]


@pytest.mark.parametrize(
    ("shown", "ticks"),
    [
        ([0.012, 3.0], [0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0]),
        ([0.22, 0.45], [0.2, 0.3, 0.4, 0.5]),  # none of 1, 2 and 5 lies inside
        ([0.962, 1.041], [0.96, 0.98, 1.0, 1.02, 1.04, 1.06]),
        ([104.0, 104.0], [104.0]),
        ([np.nan, -1.0, 0.0, np.inf, 0.22, 0.45], [0.2, 0.3, 0.4, 0.5]),
    ],
)
def test_a_logarithmic_axis_has_numbers_however_little_it_spans(shown, ticks):
    found = figures.log_ticks(shown)
    low, high = ticks[0], ticks[-1]
    assert [tick for tick in found["tickvals"] if low <= tick <= high] == ticks
    assert found["ticktext"] == [f"{tick:g}" for tick in found["tickvals"]]
