"""What is shown while a search works: a live display on a terminal, else a few plain lines."""

import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from jaxopt_lab.cli.console import duration, short
from jaxopt_lab.core.status import Status

if TYPE_CHECKING:
    from jaxopt_lab.study.callbacks import Progress

_PHASES = {
    "search": "search",
    "wide": "wide search",
    "refined": "refined search",
    "rerun": "best again, other seeds",
    "members": "winner with members",
    "refit": "winner on all rows",
}


class Display(Protocol):
    """Takes progress after each wave, and lines of text at any time."""

    def update(self, progress: "Progress") -> None:
        """Show how far the work is."""

    def say(self, text: str) -> None:
        """Print one line."""


def describe(progress: "Progress", num_trials: int | None) -> str:
    """Trials with a result, infeasible ones and the best score, in one line.

    A trial has one when its last fold is trained, or when it is stopped.
    """
    counts = progress.counts
    proposed = sum(counts.values())
    done = proposed - counts.get(Status.PENDING, 0)
    whole = f" of {num_trials}" if num_trials and num_trials >= proposed else ""
    parts = [f"{done}{whole} trials decided"]
    infeasible = counts.get(Status.INFEASIBLE, 0)
    if infeasible:
        parts.append(f"{infeasible} infeasible")
    if progress.best is not None:
        parts.append(f"best {progress.metric} {short(progress.best)}")
    return ", ".join(parts)


class Pace:
    """How long the networks that are announced still take, by those trained of them so far.

    The first wave does not count: it may have waited for its program to be compiled.
    """

    def __init__(self) -> None:
        self.updated = self._begun = time.monotonic()
        self._stage: tuple[str, int] = ("", 0)
        self._before = 0

    def update(self, progress: "Progress") -> None:
        """Take note after a wave."""
        now = time.monotonic()
        if self._stage != (progress.phase, progress.jobs_total):
            self._stage = (progress.phase, progress.jobs_total)
            self._begun, self._before = now, progress.jobs_done
        self.updated = now

    def seconds_left(self, progress: "Progress") -> float | None:
        """Seconds; None before the second wave of them, and after the last."""
        if not self._before < progress.jobs_done < progress.jobs_total:
            return None
        per_network = (self.updated - self._begun) / (progress.jobs_done - self._before)
        left = per_network * (progress.jobs_total - progress.jobs_done)
        return max(0.0, left - (time.monotonic() - self.updated))


class PlainDisplay:
    """At most one line per phase and tenth of its networks.

    Args:
      console: where to print.
      num_trials: N, if the user gave it.
      noun: what trains.
    """

    def __init__(self, console: Console, num_trials: int | None, noun: str = "networks") -> None:
        self._console, self._num_trials, self._noun = console, num_trials, noun
        self._seen = ("", 0, -1)
        self._pace = Pace()

    def update(self, progress: "Progress") -> None:
        """Print a line if a tenth has passed since the last."""
        self._pace.update(progress)
        tenth = 10 * progress.jobs_done // max(1, progress.jobs_total)
        phase, total, last = self._seen
        if (phase, total) == (progress.phase, progress.jobs_total) and tenth <= last:
            return
        self._seen = (progress.phase, progress.jobs_total, tenth)
        name = _PHASES.get(progress.phase, progress.phase)
        done = f"{progress.jobs_done}/{progress.jobs_total} {self._noun}"
        line = f"{name}: {done}, {describe(progress, self._num_trials)}"
        left = self._pace.seconds_left(progress)
        self.say(line if left is None else f"{line}, these in {duration(left)}")

    def say(self, text: str) -> None:
        """Print one line."""
        self._console.print(text, soft_wrap=True)
        self._console.file.flush()


class LiveDisplay:
    """Two lines that stay at the bottom: a bar for the phase, and what is known so far.

    Args:
      console: a terminal.
      num_trials: N, if the user gave it.
      noun: what trains.
    """

    def __init__(self, console: Console, num_trials: int | None, noun: str = "networks") -> None:
        self._console, self._num_trials, self._noun = console, num_trials, noun
        self._progress: Progress | None = None
        self._begun = time.monotonic()
        self._first: tuple[float, int] | None = None  # when the first wave was done, and trials
        self._pace = Pace()

    def update(self, progress: "Progress") -> None:
        """Remember how far the work is; the display reads it four times a second."""
        now = time.monotonic()
        if self._first is None:
            self._first = now, _done(progress)
        self._pace.update(progress)
        self._progress = progress

    def say(self, text: str) -> None:
        """Print one line above the display."""
        self._console.print(text)

    def __rich__(self) -> Group:
        elapsed = time.monotonic() - self._begun
        if self._progress is None:
            return Group(
                Text(f"compiling and training the first {self._noun}, {duration(elapsed)}")
            )
        now = self._progress
        line = Table.grid(padding=(0, 1), expand=True)
        for ratio in (None, 1, None):
            line.add_column(ratio=ratio, no_wrap=True)
        line.add_row(
            Text(_PHASES.get(now.phase, now.phase), style="bold"),
            ProgressBar(total=max(1, now.jobs_total), completed=now.jobs_done),
            Text(f"{now.jobs_done}/{now.jobs_total} {self._noun}"),
        )
        since, trials_before = self._first or (0.0, 0)
        rate = (_done(now) - trials_before) / max(self._pace.updated - since, 1e-9)
        parts = [describe(now, self._num_trials), duration(elapsed)]
        if rate:
            parts.insert(1, f"{short(rate, 2)} trials/s")
        left = self._pace.seconds_left(now)
        if left is not None:
            parts.append(f"phase done in {duration(left)}")
        return Group(line, Text(", ".join(parts), style="dim", no_wrap=True, overflow="ellipsis"))


def _done(progress: "Progress") -> int:
    return sum(progress.counts.values()) - progress.counts.get(Status.PENDING, 0)


@contextlib.contextmanager
def display(console: Console, num_trials: int | None, noun: str = "networks") -> Iterator[Display]:
    """The display that fits the console, for as long as the work takes."""
    if not console.is_terminal:
        yield PlainDisplay(console, num_trials, noun)
        return
    shown = LiveDisplay(console, num_trials, noun)
    with Live(shown, console=console, transient=True, refresh_per_second=4):
        yield shown
