"""In a notebook: studies and trials show themselves, figures are Plotly's, weights go elsewhere."""

from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import optax
import pytest
from flax import nnx

import jaxopt_lab as lab
from jaxopt_lab.cli.progress_bar import NotebookDisplay
from jaxopt_lab.core.errors import UserError
from jaxopt_lab.core.status import Status
from jaxopt_lab.report.plotly_figures import palette
from jaxopt_lab.study.callbacks import Progress

ROWS = np.random.default_rng(0).normal(size=(24, 3)).astype(np.float32)
LABELS = (ROWS.sum(1) > 0).astype(np.int32)
SPACE = lab.SearchSpace(
    learning_rate=lab.LogUniform(1e-3, 1e-1),
    features=lab.Choice([4]),
)
MARKER = "<script>alert('here')</script>"


class Net(nn.Module):
    features: int

    @nn.compact
    def __call__(self, x: Any, train: bool = False) -> Any:
        x = nn.BatchNorm(use_running_average=not train)(nn.Dense(self.features)(x))
        return nn.Dense(2)(nn.relu(x))


class Other(nnx.Module):
    def __init__(self, features: int, rngs: nnx.Rngs) -> None:
        self.layers = nnx.List(
            [nnx.Linear(3, features, rngs=rngs), nnx.Linear(features, 2, rngs=rngs)]
        )

    def __call__(self, x: Any) -> Any:
        return self.layers[1](nnx.relu(self.layers[0](x)))


def problem_of(model: Any) -> Any:
    return lab.supervised(
        model,
        (ROWS, LABELS),
        loss=optax.softmax_cross_entropy_with_integer_labels,
        optimizer=lambda h: optax.adam(h["learning_rate"]),
        splits=2,
        batch_size=8,
        budget=3,
    )


@pytest.fixture(scope="module")
def study() -> Iterator[lab.Study]:
    with lab.Study(problem_of(lambda *, features: Net(features)), SPACE, seed=1) as found:
        found.optimize("random", 4)
        yield found


@pytest.fixture(scope="module")
def of_nnx() -> Iterator[lab.Study]:
    model = lambda *, features: lambda rngs: Other(features, rngs)  # noqa: E731
    with lab.Study(problem_of(model), SPACE) as found:
        found.optimize("random", 2)
        yield found


class Text(HTMLParser):
    """The tags and the text of a piece of HTML."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_study_and_its_best_trial_say_what_they_are(study: lab.Study) -> None:
    best = study.best
    score = f"{best.score:.5g}"
    assert repr(study) == (
        f"Study in memory: 4 trials (4 completed); best loss {score}, trial {best.trial_id}"
    )
    rate = best.hyperparameters["learning_rate"]
    assert repr(best) == (
        f"Trial {best.trial_id}: loss {score}, learning_rate={rate:.4g}, features=4"
    )
    shown, trial = Text(study._repr_html_()), Text(best._repr_html_())
    assert repr(study) in shown.text
    assert {"table", "td"} <= shown.tags & trial.tags
    assert "learning rate" in shown.text
    assert "learning rate" in trial.text


def test_a_closed_study_says_so(tmp_path: Path) -> None:
    study = lab.Study(lab.from_function(lambda key, h: {"loss": h["x"]}), lab.SearchSpace(
        x=lab.Uniform(0.0, 1.0)), tmp_path)  # fmt: skip
    assert repr(study) == f"Study in {tmp_path}: 0 trials (0 completed)"
    assert Text(study._repr_html_()).tags == {"p"}
    study.close()
    assert repr(study) == f"Study in {tmp_path}, closed"
    assert "closed" in study._repr_html_()


def _of_marker(key: Any, hparams: Any, *, word: str = "plain") -> Any:
    return {"loss": hparams[MARKER]}


def test_no_text_of_a_study_becomes_a_tag() -> None:
    space = lab.SearchSpace(**{MARKER: lab.Uniform(0.0, 1.0)}, word=lab.Choice([MARKER, "plain"]))
    with lab.Study(lab.from_function(_of_marker), space) as study:
        study.tell([{MARKER: 0.5, "word": MARKER}, {MARKER: 0.7, "word": "plain"}], [1.0, 2.0])
        for html in (study._repr_html_(), study.best._repr_html_()):
            assert "script" not in Text(html).tags
            assert MARKER in Text(html).text
        for figure in (study.plot.history(), study.plot.slice(), study.plot.parallel()):
            assert MARKER not in str(figure.to_plotly_json())


def test_figures_are_the_reports(study: lab.Study) -> None:
    plot, frame = study.plot, study.trials
    history = plot.history()
    shown = next(trace for trace in history.data if trace.name == "search")
    np.testing.assert_allclose(shown.y, frame["score"], rtol=1e-4)
    assert all(f"trial {i}" in text for i, text in zip(shown.x, shown.text, strict=True))
    assert shown.marker.color == palette()["accent"]
    curves = plot.curves()
    best = study.best
    mine = [trace for trace in curves.data if trace.name.startswith(f"trial {best.trial_id}")]
    np.testing.assert_allclose(mine[-1].y, best.curves[0]["loss"], rtol=1e-3)
    assert plot.curves("train_loss").layout.yaxis.title.text == "train_loss"
    one, every = plot.slice("learning_rate"), plot.slice()
    assert one.layout.xaxis.type == "log"
    assert every.layout.xaxis2.title.text == "features"
    assert len(plot.parallel().data) > 1
    assert "{@}" not in every.to_json()
    with pytest.raises(UserError, match=r"'learning_rat' is not searched\. Did you mean"):
        plot.slice("learning_rat")
    with pytest.raises(UserError, match=r"no curve of 'los'\. Did you mean 'loss'"):
        plot.curves("los")


def test_importance_needs_trials_that_differ(study: lab.Study) -> None:
    space = lab.SearchSpace(x=lab.Uniform(0.0, 1.0), y=lab.Uniform(0.0, 1.0))
    with lab.Study(lab.from_function(lambda key, h: {"loss": h["x"] + h["y"]}), space) as told:
        with pytest.raises(UserError, match="no trial has ended yet"):
            told.plot.history()
        points = np.random.default_rng(0).uniform(size=(24, 2))
        told.tell([{"x": x, "y": y} for x, y in points], [x + 0.1 * y for x, y in points])
        bars = told.plot.importance().data[0]
        shares = dict(zip(bars.y, bars.x, strict=True))
        assert shares["x"] > shares["y"]


def test_progress_in_a_notebook_replaces_one_output() -> None:
    outputs: list[str] = []

    class Handle:
        def update(self, html: str) -> None:
            outputs[-1] = html

    def show(html: str, display_id: bool) -> Handle:
        outputs.append(html)
        return Handle()

    shown = NotebookDisplay(show, str, 8)
    assert "first trainings" in Text(outputs[0]).text
    counts = {Status.COMPLETED: 3, Status.PENDING: 2}
    shown.update(Progress("search", 6, 10, counts, 0.25, "loss", 1.0))
    assert len(outputs) == 1
    text = Text(outputs[0]).text
    assert "6/10 trainings" in text
    assert "3 of 8 trials decided, best loss 0.25" in " ".join(text.split())


def test_progress_elsewhere_is_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with lab.Study(lab.from_function(_constant), lab.SearchSpace(x=lab.Uniform(0.0, 1.0))) as study:
        study.optimize("random", 2, callbacks=[lab.ProgressBar(2)])
    assert "2 of 2 trials decided, best loss 1" in capsys.readouterr().out


def _constant(key: Any, hparams: Any) -> Any:
    return {"loss": 1.0 + 0.0 * hparams["x"]}


def same(tree: Any, other: Any) -> None:
    ours, theirs = jax.tree.leaves(tree), jax.tree.leaves(other)
    assert len(ours) == len(theirs) > 0
    for x, y in zip(ours, theirs, strict=True):
        assert np.asarray(x).dtype == np.asarray(y).dtype
        assert np.asarray(x).tobytes() == np.asarray(y).tobytes()


def test_weights_in_safetensors_are_the_same_bits(study: lab.Study, tmp_path: Path) -> None:
    from safetensors import safe_open
    from safetensors.numpy import load_file

    path, best = tmp_path / "best.safetensors", study.best
    best.save_safetensors(path, fold=1)
    read = load_file(path)
    result = best.result(1)
    assert "batch_stats/BatchNorm_0/mean" in read
    same(read["params/Dense_0/kernel"], result["params"]["Dense_0"]["kernel"])
    same(dict(sorted(read.items())), result)
    with safe_open(path, "np") as file:
        assert file.metadata()["trial_id"] == str(best.trial_id)


def test_checkpoints_of_orbax_are_the_same_bits(study: lab.Study, tmp_path: Path) -> None:
    import orbax.checkpoint as ocp

    best, population = study.best, study.population()
    best.save_orbax(tmp_path / "best")
    study.save_orbax(tmp_path / "all")
    with ocp.StandardCheckpointer() as checkpointer:
        same(checkpointer.restore(tmp_path / "best"), best.variables)
        read = checkpointer.restore(tmp_path / "all")
    same(read["result"], population.result)
    assert np.asarray(read["trial_ids"]).tolist() == population.trial_ids.tolist()
    with pytest.raises(UserError, match="is there already"):
        best.save_orbax(tmp_path / "best")


@pytest.mark.slow
def test_flaxs_own_states_compute_what_the_trial_does(study: lab.Study, of_nnx: lab.Study) -> None:
    best, tx = study.best, optax.sgd(0.1)
    state = best.train_state(tx)
    same({"params": state.params, **state.collections}, best.variables)
    variables = {"params": state.params, **state.collections}
    same(state.apply_fn(variables, ROWS), best.module.apply(best.variables, ROWS))
    moved = state.apply_gradients(grads=state.params)
    assert moved.step == 1
    other = of_nnx.best
    module = Other(4, nnx.Rngs(9))
    nnx.update(module, other.nnx_state())
    same(module(ROWS), other.module(other.variables)(ROWS))
    with pytest.raises(UserError, match="an NNX module there is"):
        other.train_state(tx)
    with pytest.raises(UserError, match="of a linen one there is"):
        best.nnx_state()
