"""Callbacks: what a study tells others while it works, on the host between waves."""

import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from jaxopt_lab.core.errors import UserError
from jaxopt_lab.core.status import Status
from jaxopt_lab.storage.rows import MemberKey, Trial
from jaxopt_lab.study.trials import sign_of

EVENTS = ("on_study_begin", "on_wave_end", "on_trial_end", "on_study_end")


class Progress(NamedTuple):
    """What a running study tells about itself after each wave."""

    phase: str
    jobs_done: int
    jobs_total: int
    counts: dict[Status, int]
    best: float | None
    metric: str
    seconds: float


class WaveEnd(NamedTuple):
    """A wave that is stored.

    Attributes:
      progress: of the study after it.
      members: (trial, fold, replicate) of each training in it.
      program: that trained them.
      seconds: of the host for it, compilation included.
      compile_seconds: of these, waiting for the program.
    """

    progress: Progress
    members: tuple[MemberKey, ...]
    program: str
    seconds: float
    compile_seconds: float


class Callback:
    """Told what happens in a study; override what you need.

    All methods are called on the host, between waves and after what they tell of is on disk, never
    inside a compiled program. One that raises is named in a warning and not called again: results
    are never lost to it.

    Examples:
      >>> class Printer(Callback):
      ...     def on_trial_end(self, study, trial):
      ...         print(trial.trial_id, trial.status, trial.score)
    """

    def on_study_begin(self, study: Any) -> None:
        """The study is about to train.

        Args:
          study: the `Study`; trials that ended in earlier processes are in it already.
        """

    def on_wave_end(self, study: Any, wave: WaveEnd) -> None:
        """A wave of trainings is stored.

        Args:
          study: the `Study`.
          wave: what was trained, and how far the study is.
        """

    def on_trial_end(self, study: Any, trial: Trial) -> None:
        """A trial is completed, infeasible or stopped.

        A trial that a time limit stopped goes on under a longer one, and ends again.

        Args:
          study: the `Study`.
          trial: its row; the score is the objective as the problem has it, not negated.
        """

    def on_study_end(self, study: Any) -> None:
        """Nothing more is trained: the study is closed, or the call that the callback was given to
        returns.

        Args:
          study: the `Study`, still open.
        """


class CallbackWarning(UserWarning):
    """A callback failed; the study went on without it."""


def _warn(text: str) -> None:
    warnings.warn(text, CallbackWarning, stacklevel=4)


class Telling:
    """Tells callbacks what happens in a study.

    Args:
      study: that is told of.
      callbacks: objects with some of the methods of `Callback`.
      say: takes one line for each callback that fails; a warning by default.

    Raises:
      UserError: for what has none of the methods.
    """

    def __init__(
        self, study: Any, callbacks: Any, say: Callable[[str], None] | None = None
    ) -> None:
        # Not a reference: a study that is forgotten gives up its lock at once.
        self._ref, self._say = weakref.ref(study), say or _warn
        self._callbacks = _checked(callbacks)
        self._begun: list[Any] = []
        self._pending: set[int] = set()

    @property
    def _study(self) -> Any:
        return self._ref()

    def __bool__(self) -> bool:
        return bool(self._callbacks)

    def begin(self) -> None:
        """The study is about to train: tell those that do not know yet."""
        if not self:
            return
        self._pending = self._pending_now()
        for callback in [c for c in self._callbacks if not _is_in(c, self._begun)]:
            self._begun.append(callback)
            self._call(callback, "on_study_begin")

    def wave(self, wave: WaveEnd) -> None:
        """A wave is stored."""
        self._tell("on_wave_end", wave)

    def settle(self) -> None:
        """Tell of the trials that have ended since the last look."""
        if not self:
            return
        now = self._pending_now()
        ended, self._pending = self._pending - now, now
        self.ended(sorted(ended))

    def ended(self, trial_ids: Sequence[int]) -> None:
        """Tell that trials have ended."""
        if not self or not trial_ids:
            return
        rows, sign = self._study.store.trials(among=trial_ids), sign_of(self._study.store)
        for row in rows:
            score = None if row.score is None else sign * row.score
            self._tell("on_trial_end", row._replace(score=score))

    def end(self) -> None:
        """Nothing more is trained: tell those that were told of the beginning, once."""
        for callback in list(self._begun):
            self._call(callback, "on_study_end")
        self._begun = []

    @contextmanager
    def also(self, callbacks: Any) -> Iterator[None]:
        """Tell more of them inside the block, of its end too."""
        more = _checked(callbacks)
        self._callbacks += more
        try:
            self.begin()
            yield
        finally:
            for callback in more:
                if _is_in(callback, self._begun):
                    self._call(callback, "on_study_end")
                self._forget(callback)

    def _pending_now(self) -> set[int]:
        return set(self._study.store.trials_with(Status.PENDING))

    def _tell(self, event: str, *arguments: Any) -> None:
        for callback in list(self._callbacks):
            self._call(callback, event, *arguments)

    def _call(self, callback: Any, event: str, *arguments: Any) -> None:
        method = getattr(callback, event, None)
        if method is None:
            return
        try:
            method(self._study, *arguments)
        except Exception as error:
            self._forget(callback)
            text = " ".join(f"{type(error).__name__}: {error}".split())
            self._say(
                f"the callback {type(callback).__name__} failed in {event} ({text}); it is not "
                "called again, and the study goes on"
            )

    def _forget(self, callback: Any) -> None:
        self._callbacks = [c for c in self._callbacks if c is not callback]
        self._begun = [c for c in self._begun if c is not callback]


def _is_in(callback: Any, others: Sequence[Any]) -> bool:
    return any(callback is other for other in others)


def _checked(callbacks: Any) -> list[Any]:
    if any(hasattr(callbacks, event) for event in EVENTS):
        raise UserError(f"callbacks must be a list: write [{type(callbacks).__name__}(...)]")
    if not isinstance(callbacks, Iterable):
        raise UserError(
            "callbacks must be a list of objects with methods such as on_wave_end (lab.Callback), "
            f"got {callbacks!r:.60}"
        )
    found = list(callbacks)
    for callback in found:
        if isinstance(callback, type) or not any(hasattr(callback, event) for event in EVENTS):
            raise UserError(
                f"a callback is an object with some of the methods {', '.join(EVENTS)}, such as a "
                f"lab.Callback; got {callback!r}"
            )
    return found
