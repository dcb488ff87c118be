"""Live progress from Python: in a notebook, in a terminal, or as plain lines."""

from collections.abc import Callable
from contextlib import ExitStack
from io import StringIO
from typing import Any

from rich.console import Console

from jaxopt_lab.cli.progress import Display, LiveDisplay, display
from jaxopt_lab.study.callbacks import Callback, Progress, WaveEnd

#: Characters of a line in a notebook.
_WIDTH = 100
_LINES = "<pre style='white-space:pre;line-height:1.3;margin:0'>{code}</pre>"


class ProgressBar(Callback):
    """Shows how far a study is: `study.optimize(..., callbacks=[lab.ProgressBar()])`.

    In Jupyter the cell's output is replaced after each wave, without widgets; a terminal has a live
    display; elsewhere, in Marimo too, a line is printed for each tenth of the work.

    Args:
      num_trials: configurations in all, if that is to be shown.
    """

    def __init__(self, num_trials: int | None = None) -> None:
        self._num_trials, self._open = num_trials, ExitStack()
        self._shown: Display | None = None

    def on_study_begin(self, study: Any) -> None:
        """Open the display."""
        console = Console(markup=False, highlight=False, emoji=False)
        if console.is_jupyter:
            from IPython.display import HTML
            from IPython.display import display as show

            self._shown = NotebookDisplay(show, HTML, self._num_trials)
        else:
            shown = display(console, self._num_trials, "trainings")
            self._shown = self._open.enter_context(shown)

    def on_wave_end(self, study: Any, wave: WaveEnd) -> None:
        """Show how far it is."""
        if self._shown is not None:
            self._shown.update(wave.progress)

    def on_study_end(self, study: Any) -> None:
        """Close the display."""
        self._open.close()


class NotebookDisplay:
    """One output of a cell that is replaced after each wave.

    Args:
      show: `IPython.display.display`.
      html: `IPython.display.HTML`.
      num_trials: configurations in all, if known.
    """

    def __init__(
        self, show: Callable[..., Any], html: Callable[[str], Any], num_trials: int | None
    ) -> None:
        self._live, self._html = LiveDisplay(Console(), num_trials, "trainings"), html
        self._handle = show(html(self._drawn()), display_id=True)

    def update(self, progress: Progress) -> None:
        """Replace the output."""
        self._live.update(progress)
        self._handle.update(self._html(self._drawn()))

    def say(self, text: str) -> None:
        """Print one line below."""
        print(text)

    def _drawn(self) -> str:
        console = Console(file=StringIO(), record=True, width=_WIDTH, force_jupyter=False)
        console.print(self._live)
        return console.export_html(inline_styles=True, code_format=_LINES)
