"""What a tracker writes beside a study: in order, all of it, never at the study's cost."""

import sys
import threading
from typing import Any

import pytest

import jaxopt_lab as lab
from jaxopt_lab.integrations.background import Background
from jaxopt_lab.integrations.tracking import StudyRun, Tracker, TrialRun
from jaxopt_lab.integrations.trackio_log import _silence


class Notes(Tracker):
    """Writes down what it is asked to write, and on which thread."""

    def __init__(self, fails_at: int = -1) -> None:
        super().__init__()
        self.seen: list[Any] = []
        self.threads: set[int] = set()
        self.fails_at = fails_at

    def _note(self, what: Any) -> None:
        self.threads.add(threading.get_ident())
        self.seen.append(what)

    def open(self, run: StudyRun) -> set[int]:
        self._note("open")
        return {0}

    def write_trial(self, run: TrialRun) -> None:
        if run.trial_id == self.fails_at:
            raise OSError("the server is gone")
        self._note(run.trial_id)

    def write_progress(self, step: int, values: dict[str, float]) -> None:
        self._note("progress")

    def write_best(self, content: str) -> None:
        self._note("best")

    def close(self) -> None:
        self._note("close")


def train(key: Any, hparams: Any) -> Any:
    return {"loss": hparams["x"]}


def study(*trackers: Tracker, **options: Any) -> lab.Study:
    space = lab.SearchSpace(x=lab.Uniform(0.0, 1.0))
    return lab.Study(lab.from_function(train), space, callbacks=list(trackers), **options)


def test_a_tracker_is_called_in_order_on_one_other_thread_and_waited_for() -> None:
    notes = Notes()
    with study(notes) as told:
        told.optimize("random", 4)
    assert notes.seen[0] == "open"
    assert notes.seen[-2:] == ["best", "close"]
    assert [i for i in notes.seen if isinstance(i, int)] == [1, 2, 3]  # 0 was there already
    assert len(notes.threads) == 1
    assert threading.get_ident() not in notes.threads


def test_what_ended_before_an_error_of_the_study_is_written() -> None:
    notes = Notes()

    def interrupted() -> None:
        with study(notes) as told:
            told.optimize("random", 4)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert notes.seen[-2:] == ["best", "close"]
    assert {1, 2, 3} <= set(notes.seen)


def test_a_tracker_that_fails_beside_the_study_says_so_once() -> None:
    notes, other, said = Notes(fails_at=2), Notes(), list[str]()
    with study(notes, other, say=said.append) as told:
        told.optimize("random", 4)
        told.optimize("random", 6)
        assert len(told.trials) == 6
    assert len(said) == 1
    assert "Notes failed" in said[0]
    assert "OSError: the server is gone" in said[0]
    assert 1 in notes.seen
    assert 3 not in notes.seen
    assert {1, 2, 3, 4, 5} <= set(other.seen)


def test_no_more_waits_than_there_is_room_for() -> None:
    gate, done, beyond = threading.Event(), list[int](), threading.Event()
    background = Background(most=2)
    background.do(gate.wait)
    background.do(done.append, 1)

    def third() -> None:
        background.do(done.append, 2)
        beyond.set()

    caller = threading.Thread(target=third)
    caller.start()
    assert not beyond.wait(0.05)
    gate.set()
    caller.join()
    background.finish()
    assert done == [1, 2]


def test_only_the_silent_threads_words_are_dropped(capsys: pytest.CaptureFixture[str]) -> None:
    def chatter() -> None:
        with _silence():
            print("* run created")
            speaker = threading.Thread(target=print, args=("trial 3 ended",))
            speaker.start()
            speaker.join()
        print("heard again")

    before = sys.stdout
    writer = threading.Thread(target=chatter)
    writer.start()
    writer.join()
    assert sys.stdout is before
    assert capsys.readouterr().out == "trial 3 ended\nheard again\n"
