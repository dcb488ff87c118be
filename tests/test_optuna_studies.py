"""A study there and back again in Optuna's words, while it runs and after."""

import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import pytest

import jaxopt_lab as lab
from jaxopt_lab.core.errors import UserError

optuna = pytest.importorskip("optuna")

from optuna.trial import TrialState  # noqa: E402

from jaxopt_lab.integrations.optuna_studies import OptunaMirror, space_from  # noqa: E402

SPACE = lab.SearchSpace(
    x=lab.Uniform(0.0, 1.0),
    rate=lab.LogUniform(1e-3, 1.0),
    count=lab.IntUniform(1, 9),
    shape=lab.Choice([[4, 4], [8]]),
    width=lab.Choice([64, 16]),
    fixed=7,
)


def climb(*, shape: Any = (8,), fixed: int = 7) -> lab.Trainable:
    """Climbs towards x; not a number for large x."""

    def step(state: Any, hparams: Any, shared: Any) -> Any:
        state = state + 0.5 * (hparams["x"] - state)
        rest = 1e-3 * hparams["rate"] * hparams["count"] / hparams["width"]
        height = jnp.where(hparams["x"] > 0.8, jnp.nan, state + rest + 0.01 * shared.split)
        return state, {"height": height}

    return lab.Trainable(lambda key, hparams: jnp.zeros(()), step)


def problem_of(direction: str = "maximize") -> Any:
    return lab.from_steps(climb, objective="height", direction=direction, num_seeds=2, budget=4)


HALVING: dict[str, Any] = {"scheduler": "successive_halving"}


@pytest.fixture(scope="module")
def study() -> Iterator[lab.Study]:
    with lab.Study(problem_of(), SPACE, seed=3) as found:
        found.optimize("random", 8, **HALVING)
        yield found


@pytest.fixture(scope="module")
def theirs(study: lab.Study) -> Any:
    return study.to_optuna()


def test_every_trial_is_there_with_its_state_value_and_curve(study: lab.Study, theirs: Any) -> None:
    states = {"completed": "COMPLETE", "stopped": "PRUNED", "infeasible": "FAIL"}
    frame, curves = study.trials, study.metrics("height").mean(axis=1)
    assert set(frame["status"]) == set(states)
    assert [t.state.name for t in theirs.trials] == [states[s] for s in frame["status"]]
    assert theirs.direction.name == "MAXIMIZE"
    for trial, row in zip(theirs.trials, frame.to_dict("records"), strict=True):
        assert trial.number == row["trial_id"]
        if trial.state != TrialState.FAIL:
            assert trial.value == row["score"]
            steps = sorted(trial.intermediate_values)
            assert steps == list(range(1, len(steps) + 1))
            values = [trial.intermediate_values[step] for step in steps]
            assert values == pytest.approx(curves[trial.number, : len(steps)])
    assert theirs.best_trial.number == study.best.trial_id


def test_parameters_are_what_people_read(study: lab.Study, theirs: Any) -> None:
    (first, *_), config = theirs.trials, study.store.trials()[0].config
    assert first.params == {
        **{name: config[name] for name in ("x", "rate", "count", "width")},
        "shape": json.dumps(config["shape"]),
    }
    kinds = {name: type(dist).__name__ for name, dist in first.distributions.items()}
    assert kinds == {
        "x": "FloatDistribution",
        "rate": "FloatDistribution",
        "count": "IntDistribution",
        "shape": "CategoricalDistribution",
        "width": "CategoricalDistribution",
    }
    assert first.distributions["rate"].log
    assert first.distributions["width"].choices == (16, 64)


def test_there_and_back_again(study: lab.Study, theirs: Any) -> None:
    with lab.Study.from_optuna(theirs, problem_of()) as again:
        assert again.space == SPACE
        same = ["trial_id", "status", "score", *SPACE.names]
        assert again.trials[same].equals(study.trials[same])
        assert again.best.hyperparameters == study.best.hyperparameters
        again.optimize("bayesian", 2)
        assert again.trials["phase"].tolist() == ["imported"] * 8 + ["search"] * 2


def foreign() -> Any:
    """A study that Optuna has made: one trial complete, one pruned, one failed, one running."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    found = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for state in (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL, None):
        trial = found.ask()
        trial.suggest_float("a", 0.0, 1.0)
        trial.suggest_float("b", 1e-3, 1.0, log=True)
        trial.suggest_float("c", 0.0, 1.0, step=0.25)
        trial.suggest_int("d", 2, 8, step=2)
        trial.suggest_categorical("e", ["u", "v"])
        trial.suggest_int("f", 3, 3)
        trial.report(0.75, 1)
        if state is not None:
            found.tell(trial, 0.5 if state == TrialState.COMPLETE else None, state=state)
    return found


def given(key: Any, hparams: Any, *, e: str = "u") -> Any:
    return {"loss": sum(hparams[name] for name in "abcdf")}


def test_a_study_of_optunas_is_a_warm_start(tmp_path: Path) -> None:
    theirs, problem = foreign(), lab.from_function(given)
    assert space_from(theirs) == lab.SearchSpace(
        a=lab.Uniform(0.0, 1.0),
        b=lab.LogUniform(1e-3, 1.0),
        c=lab.Choice([0.0, 0.25, 0.5, 0.75, 1.0]),
        d=lab.Choice([2, 4, 6, 8]),
        e=lab.Choice(["u", "v"]),
        f=lab.Choice([3]),
    )
    for _ in range(2):  # the second time nothing is new
        with lab.Study.from_optuna(theirs, problem, directory=tmp_path / "study") as study:
            assert study.trials["status"].tolist() == ["completed", "stopped", "infeasible"]
            assert study.trials["score"].tolist()[:2] == [0.5, 0.75]
            assert study.trials["a"][0] == theirs.trials[0].params["a"]
    said: list[str] = []
    narrow = lab.SearchSpace(**{**space_from(theirs).parameters, "f": lab.Choice([4, 5])})
    with lab.Study.from_optuna(theirs, problem, narrow, say=said.append) as study:
        assert len(study.trials) == 0
    assert said == ["3 of Optuna's trials lie outside the space or have no value: left out"]


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(UserError, match=r"Optuna's minimizes, the problem maximizes"):
        lab.Study.from_optuna(foreign(), problem_of())
    theirs = foreign()
    theirs.add_trial(optuna.create_trial(value=1.0, params={}, distributions={}))
    odd = {"z": optuna.distributions.FloatDistribution(0.0, 1.0)}
    theirs.add_trial(optuna.create_trial(value=1.0, params={"z": 0.5}, distributions=odd))
    with pytest.raises(UserError, match="'a' is not in every trial"):
        lab.Study.from_optuna(theirs, lab.from_function(given))
    with pytest.raises(UserError, match="has no trials"):
        lab.Study.from_optuna(optuna.create_study(), lab.from_function(given))
    with pytest.raises(UserError, match=r"cannot open the storage 'nosql://x'"):
        OptunaMirror("nosql://x")


def test_a_mirror_follows_wave_by_wave_and_across_processes(tmp_path: Path) -> None:
    """What the storage holds after each wave, and that going on writes no trial twice."""
    url = f"sqlite:///{tmp_path}/x.db"
    seen: list[list[tuple[str, int]]] = []

    class Look(lab.Callback):
        def on_wave_end(self, study: lab.Study, wave: Any) -> None:
            (name,) = optuna.get_all_study_names(url)
            found = optuna.load_study(study_name=name, storage=url)
            seen.append([(t.state.name, t.last_step or 0) for t in found.get_trials()])

    with lab.Study(problem_of(), SPACE, tmp_path / "runs", seed=3, cohort_width=1) as study:
        study.optimize("random", 4, callbacks=[OptunaMirror(url), Look()], **HALVING)
    assert any(("RUNNING", n) in wave for wave in seen for n in (1, 2))
    with lab.Study(problem_of(), SPACE, tmp_path / "runs", seed=3, cohort_width=1) as study:
        study.optimize("random", 5, callbacks=[mirror := OptunaMirror(url)], **HALVING)
        frame = study.trials
        alone = study.to_optuna()
    assert [t.number for t in mirror.study.trials] == frame["trial_id"].tolist()
    for ours, other in zip(mirror.study.trials, alone.trials, strict=True):
        assert (ours.state, ours.values, ours.params) == (other.state, other.values, other.params)
    with lab.Study(problem_of(), SPACE, tmp_path / "other" / "runs", seed=4) as other:
        assert other.to_optuna(url).study_name == "runs-2"


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return json.load(answer)


def ask(port: int, path: str, is_ready: Callable[[Any], bool], running: Any) -> Any:
    """Ask the dashboard until it answers what is waited for, or its study's process ends."""
    while True:
        try:
            found = get(f"http://127.0.0.1:{port}{path}")
            if is_ready(found):
                return found
        except OSError:
            pass
        assert running.poll() is None, f"{path} never came"
        time.sleep(0.1)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


#: A study that takes its time: folder of these tests, directory, storage.
LONG = """
import sys, time
sys.path.insert(0, sys.argv[1])
import jaxopt_lab as lab
from test_optuna_studies import SPACE, problem_of

class Slow(lab.Callback):
    def on_wave_end(self, study, wave):
        time.sleep(0.5)

study = lab.Study(problem_of(), SPACE, sys.argv[2], cohort_width=1)
study.optimize("random", 1000, callbacks=[lab.trackers.Optuna(sys.argv[3]), Slow()])
"""
SERVE = """
import sys
from optuna_dashboard._cli import main
sys.argv[0] = "optuna-dashboard"
main()
"""


def long_study(folder: Path, url: str, table: Path) -> list[str]:
    return ["-c", LONG, str(Path(__file__).resolve().parent), str(folder / "runs"), url]


def long_tune(folder: Path, url: str, table: Path) -> list[str]:
    tune = ["-m", "jaxopt_lab", "tune", str(table), "--target", "price", "--trials", "400"]
    return [*tune, "--cohort-width", "2", "--out", str(folder / "runs"), "--optuna", url]


@pytest.mark.slow
@pytest.mark.parametrize("command", [long_study, long_tune])
def test_the_dashboard_shows_a_running_study(
    command: Any, tmp_path: Path, houses_csv: Path
) -> None:
    """Trials are running, their curves and the number of those that are over grow, all of it while
    the study's process lives."""
    pytest.importorskip("optuna_dashboard")
    here, database = Path(__file__).resolve().parent, tmp_path / "x.db"
    url, port = f"sqlite:///{database}", free_port()
    study = subprocess.Popen([sys.executable, *command(tmp_path, url, houses_csv)], cwd=here.parent)
    served = None
    try:
        while not database.exists():
            assert study.poll() is None, "the study has failed"
            time.sleep(0.1)
        served = subprocess.Popen([sys.executable, "-c", SERVE, url, "--port", str(port)])
        listed = ask(port, "/api/studies", lambda found: found["study_summaries"], study)
        path = f"/api/studies/{listed['study_summaries'][0]['study_id']}"

        def counts(found: Any) -> Counter[str]:
            return Counter(trial["state"] for trial in found["trials"])

        def points(found: Any) -> int:
            return sum(len(trial["intermediate_values"]) for trial in found["trials"])

        def over(found: Any) -> int:
            return len(found["trials"]) - counts(found)["Running"]

        shown = ask(port, path, lambda found: counts(found)["Running"] and points(found), study)
        assert shown["trials"][0]["params"]
        later = ask(port, path, lambda found: points(found) > points(shown), study)
        later = ask(port, path, lambda found: over(found) > over(later), study)
        last = ask(port, path, lambda found: over(found) > over(later), study)
        assert set(counts(last)) <= {"Running", "Complete", "Pruned", "Fail"}
        assert study.poll() is None, "the study still runs"
    finally:
        for process in filter(None, (study, served)):
            process.kill()
            process.wait()
