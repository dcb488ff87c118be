"""Callbacks hear of everything once, after it is stored, and can harm nothing."""

from typing import Any

import jax.numpy as jnp
import pytest

import jaxopt_lab as lab
from jaxopt_lab.core.errors import UserError
from jaxopt_lab.study.callbacks import CallbackWarning, WaveEnd

SPACE = lab.SearchSpace(x=lab.Uniform(0.0, 1.0))


def build() -> lab.Trainable:
    """Climbs towards x; not a number for small x."""

    def step(state: Any, hparams: Any, shared: Any) -> Any:
        state = state + 0.5 * (hparams["x"] - state)
        return state, {"height": jnp.where(hparams["x"] < 0.4, jnp.nan, state)}

    return lab.Trainable(lambda key, hparams: jnp.zeros(()), step)


def make_study(**options: Any) -> lab.Study:
    problem = lab.from_steps(build, objective="height", direction="maximize", num_seeds=2, budget=4)
    return lab.Study(problem, SPACE, **options)


class Recorder:
    """Writes down what it is told, and that all of it is stored by then."""

    def __init__(self) -> None:
        self.begun = self.ended = 0
        self.members: list[Any] = []
        self.trials: dict[int, Any] = {}
        self.progress: list[Any] = []

    def on_study_begin(self, study: lab.Study) -> None:
        self.begun += 1

    def on_wave_end(self, study: lab.Study, wave: WaveEnd) -> None:
        stored = {member.key for member in study.store.members()}
        assert set(wave.members) <= stored
        self.members += wave.members
        self.progress.append(wave.progress)

    def on_trial_end(self, study: lab.Study, trial: Any) -> None:
        assert trial.trial_id not in self.trials
        row = study.trials.set_index("trial_id").loc[trial.trial_id]
        assert row["status"] == trial.status
        self.trials[trial.trial_id] = trial

    def on_study_end(self, study: lab.Study) -> None:
        assert len(study.trials)
        self.ended += 1


class Faulty(lab.Callback):
    def __init__(self) -> None:
        self.calls = 0

    def on_wave_end(self, study: lab.Study, wave: WaveEnd) -> None:
        self.calls += 1
        raise OSError("the server\nis gone")


def test_everything_is_told_once_after_it_is_stored() -> None:
    told, more = Recorder(), Recorder()
    with make_study(callbacks=[told]) as study:
        study.optimize("random", 8, scheduler="successive_halving", callbacks=[more])
        assert (told.begun, told.ended, more.begun, more.ended) == (1, 0, 1, 1)
        frame = study.trials.set_index("trial_id")
        assert set(frame["status"]) == {"completed", "stopped", "infeasible"}
        for hearer in (told, more):
            assert sorted(hearer.trials) == frame.index.tolist()
            assert set(hearer.members) == {member.key for member in study.store.members()}
        known = frame["score"].dropna()
        assert {i: told.trials[i].score for i in known.index} == known.to_dict()
        assert told.progress[-1].best == study.best.score
        study.optimize("random", 9, scheduler="successive_halving")
        assert len(told.trials) == 9
        assert len(more.trials) == 8
    assert (told.begun, told.ended) == (1, 1)


def test_one_that_fails_is_named_and_costs_nothing() -> None:
    faulty, told = Faulty(), Recorder()
    said: list[str] = []
    with make_study(callbacks=[faulty, told], say=said.append) as study:
        study.optimize("random", 4)
        found = study.trials
    assert faulty.calls == 1
    assert said == [
        "the callback Faulty failed in on_wave_end (OSError: the server is gone); it is not called "
        "again, and the study goes on"
    ]
    assert len(told.trials) == 4
    assert told.ended == 1
    with make_study() as alone:
        with pytest.warns(CallbackWarning, match="Faulty failed"):
            alone.optimize("random", 4, callbacks=[Faulty()])
        assert alone.trials.equals(found)


def test_trials_told_from_outside_are_told_on() -> None:
    told = Recorder()
    with make_study(callbacks=[told]) as study:
        study.tell([{"x": 0.5}], [3.0])
    assert told.trials[0].score == 3.0
    assert told.ended == 1


def test_a_time_limit_ends_trials() -> None:
    told = Recorder()
    with make_study() as study:
        study.enqueue([{"x": 0.5}])
        study.optimize("random", 1, time_limit=1e-9, callbacks=[told])
    assert [t.status for t in told.trials.values()] == ["stopped"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lab.Callback(), r"must be a list: write \[Callback"),
        ([print], "a callback is an object with some of the methods on_study_begin"),
        ([Faulty], "a callback is an object"),
    ],
)
def test_what_is_no_callback_is_refused(given: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_study(callbacks=given)
