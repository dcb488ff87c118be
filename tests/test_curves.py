"""Runs that somebody else logged: what their curves say, and what they cannot."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import jaxopt_lab as lab
from jaxopt_lab import cli
from jaxopt_lab.core.errors import UserError
from jaxopt_lab.stabilization.fluctuation import measure
from jaxopt_lab.stabilization.logged.causes import MOST_SUSPECTED
from jaxopt_lab.stabilization.logged.names import role_of
from jaxopt_lab.stabilization.thresholds import HEALTHY, RISES

EPOCHS = np.arange(80.0)
FALLS = 0.3 + np.exp(-EPOCHS / 10)
SHAKES = np.exp(np.random.default_rng(0).normal(0, 0.09, 80))
CALM = np.exp(np.random.default_rng(1).normal(0, 0.01, 80))


def spiky() -> dict[str, Any]:
    """Three spikes, each after a gradient norm of 30 times the usual one."""
    loss, norm = FALLS * CALM, 1.0 + 0.1 * np.sin(EPOCHS)
    loss[[40, 55, 70]] *= 2.5
    norm[[40, 54, 70]] *= 30.0
    return {"epoch": EPOCHS, "val_loss": loss, "grad_norm": norm}


OVERFIT = 0.3 + np.exp(-EPOCHS / 8) + 0.006 * EPOCHS
LOGS: dict[str, dict[str, Any]] = {
    "no_problem": {"val_loss": FALLS * CALM, "loss": FALLS},
    "no_single_cause": {"val_loss": FALLS * SHAKES, "loss": FALLS * SHAKES},
    "rate_never_decays": {"val_loss": FALLS * SHAKES, "lr": np.full(80, 1e-3)},
    "exploding_gradients": spiky(),
    "overfitting": {"val_loss": OVERFIT, "loss": np.exp(-EPOCHS / 20)},
    "not_trained_enough": {"val_loss": np.exp(-EPOCHS / 70), "loss": np.exp(-EPOCHS / 60)},
    "diverged": {"val_loss": [*FALLS[:30], *[np.nan] * 50], "loss": FALLS},
    "never_fell": {"val_loss": np.full(80, 0.7), "loss": FALLS},
    "too_short": {"val_loss": FALLS[:9]},
}


@pytest.mark.parametrize("cause", LOGS)
def test_clear_curves_give_the_verdict(cause: str) -> None:
    found = lab.diagnose_curves(LOGS[cause])
    assert repr(found).startswith(f"{found.sentence}\ncause: {cause} (")
    assert "array(" not in repr(found)
    assert found.main_cause == cause
    (run,) = found.runs
    assert all(check.holds for check in run.verdict.checks)
    assert all(not all(c.holds for c in f.checks) for f in run.rejected)
    assert run.verdict.seen or run.verdict.confidence <= MOST_SUSPECTED
    assert found.sentence.endswith(".")
    assert json.dumps(found.to_dict(), allow_nan=False)


def test_the_number_is_that_of_stabilize() -> None:
    found = lab.diagnose_curves({"val_loss": FALLS * SHAKES}).runs[0]
    assert found.measures.fluctuation == measure(FALLS * SHAKES).spread > HEALTHY
    assert f"{found.measures.fluctuation:.1%}" in found.sentence


def test_a_lower_end_is_no_overfitting_and_neither_is_a_rise_in_training_too() -> None:
    both = lab.diagnose_curves({"val_loss": OVERFIT, "loss": OVERFIT}).runs[0]
    assert both.measures.end_over_lowest > RISES
    assert [f.name for f in both.causes] == ["no_single_cause"]
    assert "ends 55% above its lowest point" in both.sentence
    alone = lab.diagnose_curves({"val_loss": OVERFIT}).runs[0]
    assert "overfitting" not in [f.name for f in alone.causes]
    assert any("training loss too" in line for line in alone.next_steps)


def test_spikes_are_told_by_epoch_and_by_what_precedes_them() -> None:
    with_norms = lab.diagnose_curves(spiky()).runs[0].measures
    assert [s.at for s in with_norms.spikes] == [40, 55, 70]
    assert all(s.preceded for s in with_norms.spikes)
    other = spiky()
    other["grad_norm"] = np.roll(other["grad_norm"], 8)
    unrelated = lab.diagnose_curves(other)
    assert unrelated.main_cause == "no_single_cause"
    assert not any(s.preceded for s in unrelated.runs[0].measures.spikes)
    without = {k: v for k, v in spiky().items() if k != "grad_norm"}
    assert any(
        "log the gradient norm" in s for s in lab.diagnose_curves(without).runs[0].next_steps
    )


def test_a_training_loss_is_judged_where_it_alone_is_long_enough() -> None:
    """Validation every tenth epoch, as language models are trained."""
    valid = np.full(80, np.nan)
    valid[9::10] = FALLS[9::10]
    log = {**spiky(), "eval_loss": valid, "lr": 1e-3 * (1 - EPOCHS / 79)}
    log["loss"] = log.pop("val_loss")
    found = lab.diagnose_curves(log)
    assert found.main_cause == "exploding_gradients"
    (run,) = found.runs
    assert run.run.main == "train_loss"
    assert (
        "eval_loss has 8 values, too few to judge; loss has 80, and is judged" in run.run.notes[0]
    )
    assert any("log 16 values of eval_loss or more" in step for step in run.next_steps)
    assert run.measures.rate_fall == np.inf  # a schedule that ends at zero decays
    assert 0 < run.measures.rate < 1e-4
    assert json.dumps(found.to_dict(), allow_nan=False)
    assert lab.diagnose_curves(log, loss="eval_loss").main_cause == "too_short"
    log["loss"] = valid
    assert lab.diagnose_curves(log).main_cause == "too_short"


def test_the_log_of_hugging_face_is_read(tmp_path: Path) -> None:
    log: list[dict[str, float]] = [
        {"epoch": i / 8, "grad_norm": 1.0, "learning_rate": 1e-3, "loss": loss, "step": 10 * i}
        for i, loss in enumerate(FALLS * SHAKES)
    ]
    log.insert(40, {"epoch": 5.0, "eval_loss": 0.5, "eval_runtime": 3.0, "step": 400})
    state = {"best_metric": None, "epoch": 10.0, "log_history": log, "max_steps": 800}
    (tmp_path / "trainer_state.json").write_text(json.dumps(state))
    found = lab.diagnose_curves(tmp_path / "trainer_state.json")
    assert found.main_cause == "rate_never_decays"
    (run,) = found.runs
    assert run.run.unit == "epoch"
    assert len(run.run.series["train_loss"].values) == 80


def test_a_constant_prediction_tells_what_learned_nothing() -> None:
    calm = {"val_loss": 1.0 * CALM}
    assert lab.diagnose_curves(calm).main_cause == "never_fell"
    found = lab.diagnose_curves(calm, constant=1.0)
    assert found.main_cause == "stuck"
    assert "constant" in found.sentence
    assert lab.diagnose_curves(calm, constant=2.0).main_cause == "no_problem"


def test_few_validation_rows_are_never_blamed_but_said_how_to_see() -> None:
    noise = {"val_loss": FALLS * SHAKES, "loss": FALLS * CALM}
    run = lab.diagnose_curves(noise, num_valid=20).runs[0]
    (rows,) = (f for f in run.rejected if f.name == "few_validation_rows")
    assert [c.holds for c in rows.checks] == [True, True, True, False]
    spread = run.measures.fluctuation
    wanted = int(np.ceil(20 * (spread / HEALTHY) ** 2))
    assert any(f"{wanted:,} rows instead of 20" in line for line in run.next_steps)
    # Where training shakes alike, rows of validation cannot be all of it.
    alike = lab.diagnose_curves({"val_loss": FALLS * SHAKES, "loss": FALLS * SHAKES}).runs[0]
    assert alike.measures.moves_together > 0.99


def test_a_steep_start_is_neither_a_spike_nor_the_lowest_point() -> None:
    found = lab.diagnose_curves({"val_loss": 0.05 + np.exp(-EPOCHS / 6)}).runs[0].measures
    assert not found.spikes
    assert found.lowest_at > 40
    assert found.end_over_lowest < 1.02


def test_values_below_zero_are_measured_by_what_training_gained() -> None:
    found = lab.diagnose_curves({"val_loss": FALLS * CALM - 5.0})
    assert found.main_cause == "no_problem"
    assert "what training gained" in found.sentence


def test_long_curves_are_averaged_in_blocks() -> None:
    rng = np.random.default_rng(0)
    loss = np.repeat(FALLS, 100) * np.exp(rng.normal(0, 0.3, 8000))
    found = lab.diagnose_curves({"train_loss": loss}).runs[0].measures
    assert found.num_values == 8000
    assert found.fluctuation == pytest.approx(0.3 / np.sqrt(16), rel=0.15)


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("val_loss", "loss"),
        ("Loss/val", "loss"),
        ("validation/epoch_loss", "loss"),
        ("loss", "train_loss"),
        ("train_loss_step", "train_loss"),
        ("learning_rate", "lr"),
        ("lr-AdamW/pg1", "lr"),
        ("grad_2.0_norm_total", "grad_norm"),
        ("train/grad_norm", "grad_norm"),
        ("val_accuracy", None),
        ("grad_2.0_norm/layer.weight", None),
        ("lossy", None),
    ],
)
def test_loggers_names_are_known(name: str, role: str | None) -> None:
    found = role_of(name)
    assert (found and found[0]) == role


def test_lightnings_rows_of_two_clocks_are_put_together(tmp_path: Path) -> None:
    rows = []
    for epoch in range(40):
        for part in range(3):
            step = 30 * epoch + 10 * part
            rows.append(
                {"epoch": epoch, "step": step, "train_loss_step": FALLS[epoch] + 0.01 * part}
            )
        rows.append({"epoch": epoch, "step": 30 * epoch + 29, "val_loss": FALLS[epoch]})
    folder = tmp_path / "version_3"
    folder.mkdir()
    pd.DataFrame(rows).to_csv(folder / "metrics.csv", index=False)
    found = lab.diagnose_curves(folder).runs[0]
    assert (found.run.name, found.run.unit) == ("version_3", "epoch")
    assert found.measures.num_values == 40
    assert found.measures.moves_together > 0.9
    # A last epoch without its validation is no divergence.
    cut = pd.DataFrame(rows[:-1])
    assert lab.diagnose_curves(cut).main_cause != "diverged"


def test_several_runs_are_told_apart() -> None:
    calm, shaking = LOGS["no_problem"], LOGS["no_single_cause"]
    tables = {"a": calm, "b": shaking, "c": shaking}
    by_name = lab.diagnose_curves(tables)
    frames = [pd.DataFrame(v).assign(seed=k, epoch=EPOCHS) for k, v in tables.items()]
    by_column = lab.diagnose_curves(pd.concat(frames))
    after = lab.diagnose_curves(pd.concat([f.drop(columns="seed") for f in frames]))
    for found in (by_name, by_column, after):
        assert found.table["verdict"].tolist() == ["no_problem", *["no_single_cause"] * 2]
        assert found.sentence.startswith("2 of 3 runs")
    assert by_column.table["run"].tolist() == ["a", "b", "c"]
    assert "3 trainings" in after.runs[0].run.notes[0]


def event_writer(folder: Path) -> Any:
    pytest.importorskip("tensorboard")
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    return EventFileWriter(str(folder))


def test_a_tensorboard_folder_is_read(tmp_path: Path) -> None:
    for part, curve in (("train", FALLS), ("validation", FALLS * SHAKES)):
        writer = event_writer(tmp_path / "mine" / part)
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        for step, value in enumerate(curve.tolist()):
            summary = Summary(value=[Summary.Value(tag="epoch_loss", simple_value=value)])
            writer.add_event(Event(step=step, wall_time=0.0, summary=summary))
        writer.close()
    found = lab.diagnose_curves(tmp_path)
    assert found.runs[0].run.name == "mine"
    assert found.runs[0].run.columns["loss"] == "val/epoch_loss"
    assert found.runs[0].measures.fluctuation == pytest.approx(
        measure(FALLS * SHAKES).spread, rel=1e-4
    )
    assert found.runs[0].measures.train_fluctuation < HEALTHY


def test_without_tensorboard_the_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "events.out.tfevents.1").write_bytes(b"")
    name = "tensorboard.backend.event_processing.event_accumulator"
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError, match=r"pip install 'jaxopt-lab\[tensorboard\]'"):
        lab.diagnose_curves(tmp_path)


def test_the_command_prints_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = tmp_path / "log.csv", tmp_path / "found.json"
    # Keras writes the word nan, and NA where a key is missing.
    table = pd.DataFrame({**LOGS["overfitting"], "epoch": EPOCHS}).astype(str)
    table["accuracy"] = "NA"
    table.to_csv(path, index=False)
    assert cli.run(["diagnose", str(path), "-o", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    content = json.loads(out.read_text())
    assert lines[0] == content["sentence"]
    assert lines[0].startswith("It overfits")
    assert any(line.startswith("rejected: not_trained_enough:") for line in lines)
    assert any(line.startswith("measure next: keep the weights") for line in lines)
    assert cli.run(["diagnose", str(path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == content
    (cause,) = content["runs"][0]["causes"]
    numbers = {e["name"]: (e["value"], e["threshold"]) for e in cause["evidence"]}
    assert numbers["overfit_rise"][0] > numbers["overfit_rise"][1] == RISES


def test_the_page_draws_every_run_and_no_name_is_a_tag(tmp_path: Path) -> None:
    path, page = tmp_path / "log.csv", tmp_path / "page.html"
    parts = [
        pd.DataFrame({"epoch": EPOCHS, "val_loss": curve, "loss": FALLS, "who": name})
        for name, curve in (("<b>one</b>", FALLS * SHAKES), ("two", OVERFIT))
    ]
    pd.concat(parts).to_csv(path, index=False)
    assert cli.run(["diagnose", str(path), "--run", "who", "--report", str(page)]) == 0
    text = page.read_text()
    figures = json.loads(
        re.search(r'<script id="figures" type="application/json">(.*?)</script>', text, re.S)[1]
    )
    assert set(figures) == {"run-0", "run-1"}
    assert all(f'id="plot-{name}"' in text for name in figures)
    assert [trace["name"] for trace in figures["run-0"]["data"]] == ["loss", "trend", "training"]
    assert "Why not another" in text
    assert "&lt;b&gt;one&lt;/b&gt;" in text
    assert "<b>one</b>" not in text
    assert cli.run(["diagnose", str(path), "--run", "who", "--report", str(tmp_path)]) == 2


def test_a_loss_that_is_written_nan_has_diverged(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text("epoch,loss,val_loss\n" + "0,0.5,0.6\n" * 1 + "1,nan,nan\n2,nan,nan\n")
    found = lab.diagnose_curves(path)
    assert found.main_cause == "diverged"
    assert "epoch 1" in found.sentence


def test_the_command_needs_no_jax(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    pd.DataFrame(LOGS["no_problem"]).to_csv(path, index=False)
    script = (
        "import sys; from jaxopt_lab import cli; code = cli.run(sys.argv[1:]);"
        "sys.exit(code or any(m in sys.modules for m in ('jax', 'sklearn')))"
    )
    command = [sys.executable, "-c", script, "diagnose", str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Nothing is wrong")


def test_the_guide_runs_as_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guide = Path(__file__).resolve().parent.parent / "docs" / "diagnose.md"
    blocks = re.findall(r"^```python\n(.*?)^```", guide.read_text(encoding="utf-8"), re.M | re.S)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in blocks:
        exec(block, names)
    assert names["found"].main_cause == "rate_never_decays"
    assert any("rows instead of 40" in line for line in names["found"].runs[0].next_steps)


def test_a_run_that_goes_on_has_not_diverged(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    lines = [f"{i},{x:.5f},{x:.5f}" for i, x in enumerate(FALLS)]
    path.write_text("\n".join(["epoch,loss,val_loss", *lines, "80,0.3,"]) + "\n")
    assert lab.diagnose_curves(path).main_cause == "no_problem"
    stopped = {"loss": [*FALLS[:40], np.nan]}
    assert lab.diagnose_curves(stopped).main_cause == "diverged"


def test_a_training_loss_that_rises_diverges() -> None:
    found = lab.diagnose_curves({"loss": np.exp(EPOCHS / 30)})
    assert found.main_cause == "diverged"
    assert lab.diagnose_curves({"loss": 1.0 + EPOCHS / 80}).main_cause == "no_single_cause"


TEXT = "epoch,loss,val_loss\n" + "".join(f"{i},{1 / (i + 1)},0.5\n" for i in range(20))


@pytest.mark.parametrize(
    ("content", "arguments", "message"),
    [
        (TEXT, ["--loss", "valloss"], "Did you mean 'val_loss'?"),
        (TEXT, ["--run", "seeds"], "no column 'seeds'"),
        (TEXT, ["--constant", "0"], "a number above 0"),
        (TEXT, ["--constnt", "1"], "'--constant'"),
        (TEXT.replace("1,0.5,0.5", "1,half,0.5"), [], "row 2: 'half' is no number"),
        (TEXT.replace("loss", "score"), [], "no column that looks like a loss"),
        ("epoch,loss\n1,\n2,\n", [], "loss has no numbers"),
        ("", [], "is empty"),
        (None, [], "there is no file"),
    ],
)
def test_mistakes_are_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    content: str | None,
    arguments: list[str],
    message: str,
) -> None:
    path = tmp_path / "log.csv"
    if content is not None:
        path.write_text(content)
    assert cli.run(["diagnose", str(path), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        (3, {}, "takes a DataFrame"),
        (pd.DataFrame(np.ones((20, 2)), columns=["loss", "loss"]), {}, "duplicate"),
        ({}, {}, "empty"),
        ({"val_loss": ["a", "b"]}, {}, "list of numbers"),
        ({"loss": [1.0, 2.0], "val_loss": [1.0]}, {}, "one length"),
        ({"loss": [1.0] * 20}, {"constant": -1.0}, "above 0"),
        ({"loss": [1.0] * 20}, {"num_valid": 0}, "at least 1"),
    ],
)
def test_mistakes_in_python_are_one_line(
    source: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        lab.diagnose_curves(source, **options)
