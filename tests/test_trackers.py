"""Trackers, read back with their own readers: a study of two sessions, no trial written twice."""

import json
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_lab as lab
from jaxopt_lab import cli
from jaxopt_lab.cli import tune
from jaxopt_lab.core.errors import UserError
from jaxopt_lab.integrations import trackers
from jaxopt_lab.integrations.tracking import BEST

#: Warnings about what the trackers themselves do.
pytestmark = [
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy"),
    pytest.mark.filterwarnings("ignore:Implicitly cleaning up <TemporaryDirectory:ResourceWarning"),
]
SPACE = lab.SearchSpace(x=lab.Uniform(0.0, 1.0), sizes=lab.Choice([[4, 4], [8]]), fixed=True)


def build(*, sizes: Any = (8,), fixed: bool = True) -> lab.Trainable:
    """Climbs towards x; not a number for small x."""

    def step(state: Any, hparams: Any, shared: Any) -> Any:
        state = state + 0.5 * (hparams["x"] - state) + 0.01 * shared.split
        return state, {"height": jnp.where(hparams["x"] < 0.4, jnp.nan, state), "state": state}

    return lab.Trainable(lambda key, hparams: jnp.zeros(()), step)


class Done(NamedTuple):
    """A study that is over, and where it was logged."""

    folder: Path
    rows: list[dict[str, Any]]
    curves: np.ndarray
    best: dict[str, Any]


def available(folder: Path) -> list[Any]:
    """A tracker of each kind that is installed."""
    found = []
    if find_spec("tensorboard"):
        found.append(trackers.from_text(f"tensorboard:{folder}/tb"))
    if find_spec("mlflow"):
        found.append(trackers.from_text(f"mlflow:sqlite:///{folder}/mlflow.db"))
    if find_spec("wandb"):
        found.append(trackers.from_text(f"wandb:{folder}/wb"))
    if find_spec("trackio"):
        found.append(trackers.from_text("trackio:climbs"))
    return found


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Done]:
    folder = tmp_path_factory.mktemp("trackers")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRACKIO_DIR", str(folder / "trackio"))
        patch.setenv("WANDB_CACHE_DIR", str(folder / "cache"))
        patch.setenv("WANDB_DATA_DIR", str(folder / "data"))
        problem = lab.from_steps(
            build, objective="height", direction="maximize", num_seeds=2, budget=3
        )
        for num_trials in (3, 5):
            said: list[str] = []
            told = available(folder)
            with lab.Study(
                problem, SPACE, folder / "climb", seed=1, callbacks=told, say=said.append
            ) as study:
                study.optimize("random", num_trials)
                rows = study.trials.to_dict("records")
                curves = study.metrics("state").mean(axis=1)
                best = study.best
            assert said == []
        assert {row["status"] for row in rows} == {"completed", "infeasible"}
        found = {"trial_id": best.trial_id, "score": best.score, "x": best.hyperparameters["x"]}
        yield Done(folder, rows, curves, found)


def is_best(content: str, done: Done) -> bool:
    read = json.loads(content)
    mean, x = read["validation"]["mean"], read["hyperparameters"]["x"]
    return {"trial_id": read["trial_id"], "score": mean, "x": x} == done.best


def finite(curve: np.ndarray) -> list[float]:
    """A trial that diverged has none."""
    return [float(value) for value in curve if np.isfinite(value)]


def test_tensorboard(done: Done) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import metadata

    (folder,) = (done.folder / "tb").iterdir()
    assert folder.name.startswith("climb-")
    assert len(list(folder.glob("trial-*/*"))) == len(done.rows)

    def points_of(read: Any, name: str) -> dict[int, float]:
        return {point.step: point.value for point in read.Scalars(name)}

    for row, curve in zip(done.rows, done.curves, strict=True):
        read = EventAccumulator(str(folder / f"trial-{row['trial_id']:04d}"))
        read.Reload()
        tags = read.PluginTagToContent("hparams")
        start = metadata.parse_session_start_info_plugin_data(tags[metadata.SESSION_START_INFO_TAG])
        assert start.hparams["x"].number_value == row["x"]
        assert start.hparams["sizes"].string_value == json.dumps(row["sizes"])
        end = metadata.parse_session_end_info_plugin_data(tags[metadata.SESSION_END_INFO_TAG])
        if row["status"] == "completed":
            assert points_of(read, "state") == pytest.approx(dict(enumerate(curve.tolist(), 1)))
            assert points_of(read, "score") == pytest.approx({0: row["score"]})
            assert end.status == 1
        else:
            assert {"state", "score"}.isdisjoint(read.Tags()["scalars"])  # all of it is NaN
            assert end.status == 2
    parent = EventAccumulator(str(folder))
    parent.Reload()
    best = points_of(parent, "best/height")
    assert best[len(done.rows)] == pytest.approx(done.best["score"])
    assert is_best((folder / BEST).read_text(), done)


def test_mlflow(done: Done) -> None:
    pytest.importorskip("mlflow")
    from mlflow import MlflowClient
    from mlflow.artifacts import load_text

    client = MlflowClient(tracking_uri=f"sqlite:///{done.folder}/mlflow.db")
    experiment = client.get_experiment_by_name("climb")
    runs = client.search_runs([experiment.experiment_id])
    by_name = {run.info.run_name: run for run in runs}
    assert len(by_name) == len(runs) == len(done.rows) + 1
    parent = by_name["climb"]
    assert parent.info.status == "FINISHED"
    assert parent.data.params["objective"] == "height"
    assert parent.data.metrics["best/height"] == done.best["score"]
    assert is_best(load_text(f"{parent.info.artifact_uri}/{BEST}"), done)
    for row, curve in zip(done.rows, done.curves, strict=True):
        run = by_name[f"trial-{row['trial_id']:04d}"]
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert float(run.data.params["x"]) == row["x"]
        is_completed = row["status"] == "completed"
        assert run.info.status == ("FINISHED" if is_completed else "FAILED")
        assert run.data.metrics.get("score") == (row["score"] if is_completed else None)
        points = client.get_metric_history(run.info.run_id, "state")
        values = [p.value for p in sorted(points, key=lambda p: p.step)]
        assert values == pytest.approx(finite(curve))


def records_of(path: Path) -> Iterator[bytes]:
    """The records of an offline file: a log of LevelDB's, in blocks, after a header of 7 bytes."""
    content, at, part = path.read_bytes(), 7, b""
    while at + 7 <= len(content):
        left = 2**15 - at % 2**15
        if left < 7:
            at += left
            continue
        length, kind = int.from_bytes(content[at + 4 : at + 6], "little"), content[at + 6]
        part += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield part
            part = b""


def test_wandb(done: Done) -> None:
    pytest.importorskip("wandb")
    from wandb.proto import wandb_internal_pb2

    found: dict[str, Any] = {}
    files = sorted((done.folder / "wb" / "wandb").glob("offline-run-*/*.wandb"))
    assert len(files) == len(done.rows) + 2  # the study's own run has a file for each session
    for path in files:
        config, history, summary = {}, [], {}
        for data in records_of(path):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            if record.HasField("run"):
                name = record.run.display_name
                config = {u.key: json.loads(u.value_json) for u in record.run.config.update}
            if record.HasField("history"):
                point = {}
                for item in record.history.item:
                    key = item.key or item.nested_key[0]
                    point[key] = json.loads(item.value_json)
                history.append(point)
            for item in record.summary.update:
                summary[item.key or item.nested_key[0]] = json.loads(item.value_json)
        found[name] = config, history, summary
    for row, curve in zip(done.rows, done.curves, strict=True):
        config, history, summary = found[f"trial-{row['trial_id']:04d}"]
        assert config["x"] == row["x"]
        assert config["status"] == row["status"]
        values = [point["state"] for point in history if "state" in point]
        assert values == pytest.approx(finite(curve))
        if row["status"] == "completed":
            assert summary["score"] == row["score"]
    assert found["climb"][0]["objective"] == "height"


def test_trackio(done: Done) -> None:
    trackio = pytest.importorskip("trackio")
    from trackio.sqlite_storage import SQLiteStorage

    runs = {run.name: run for run in trackio.Api().runs("climbs")}
    assert len(runs) == len(done.rows) + 1
    (parent,) = (name for name in runs if "/" not in name)
    for row, curve in zip(done.rows, done.curves, strict=True):
        name = f"{parent}/trial-{row['trial_id']:04d}"
        assert runs[name].config["x"] == row["x"]
        assert runs[name].config["status"] == row["status"]
        points = SQLiteStorage.get_metric_values("climbs", name, "state")
        assert [point["value"] for point in points] == pytest.approx(finite(curve))
        scores = SQLiteStorage.get_metric_values("climbs", name, "score")
        known = [row["score"]] if row["status"] == "completed" else []
        assert [point["value"] for point in scores] == known
    logs = SQLiteStorage.get_logs("climbs", parent)
    best = [log["best"]["_value"] for log in logs if "best" in log]
    assert is_best(best[-1], done)


SCRIPT = """
import jaxopt_lab as lab

def train(key, hparams):
    return {"loss": hparams["x"]}

problem = lab.from_function(train)
space = lab.SearchSpace(x=lab.Uniform(0.0, 1.0))
"""


def test_a_sweep_is_logged_with_its_best_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("tensorboard")
    optuna = pytest.importorskip("optuna")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tune, "configure_jax", lambda num_devices: None)
    monkeypatch.setattr("sys.path", [*sys.path])
    Path("toy.py").write_text(SCRIPT)
    command = ["sweep", "toy.py", "--trials", "2", "--search", "random"]
    url = "sqlite:///x.db"
    assert cli.run([*command, "--log", "tensorboard:tb", "--optuna", url]) == 0
    assert capsys.readouterr().err == ""
    (folder,) = Path("tb").iterdir()
    best = Path("runs/toy/best.json").read_text()
    assert (folder / BEST).read_text() == best
    found = optuna.load_study(study_name="toy", storage=url)
    assert [t.state.name for t in found.trials] == ["COMPLETE"] * 2
    assert found.best_value == json.loads(best)["validation"]["mean"]
    assert cli.run([*command, "--log", "tensorbord:tb"]) == 2
    assert "Did you mean 'tensorboard'?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tensorbord:x", r"unknown tracker 'tensorbord'\. Did you mean 'tensorboard'\?"),
        ("tensorboard", "say where, tensorboard:DIR"),
        ("mlflow:", "say where, mlflow:URI"),
    ],
)
def test_a_tracker_that_is_none_is_refused(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        trackers.from_text(text)


def test_a_store_that_cannot_be_opened_is_refused() -> None:
    pytest.importorskip("mlflow")
    with pytest.raises(UserError, match="MLflow cannot open 'nowhere://x'"):
        lab.trackers.MLflow("nowhere://x")
