"""Studies in TensorBoard (extra `tensorboard`): scalars, hyperparameters, texts."""

import io
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from jaxopt_lab.core.status import Status
from jaxopt_lab.integrations.tracking import (
    StudyRun,
    Tracker,
    TrialRun,
    finite,
    missing,
    points_by_unit,
)

_EVENTS = "events.out.tfevents"


class TensorBoard(Tracker):
    """Writes event files: `tensorboard --logdir DIRECTORY` shows them, parameters under HPARAMS.

    A trial's file is there whole or not at all, under a name of its own, so that nothing is written
    twice.

    Args:
      directory: where the study's folder is made: its name and its key.

    Raises:
      MachineError: if the package `tensorboard` is not installed.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        super().__init__()
        try:
            from tensorboard.plugins.hparams import summary_v2
            from tensorboard.summary.writer.record_writer import RecordWriter
        except ImportError:
            raise missing("TensorBoard", "tensorboard") from None
        self._hparams, self._writer_of = summary_v2, RecordWriter
        self._directory, self._metric = Path(directory).expanduser(), ""
        self._folder = self._directory
        self._live: Any = None

    def open(self, run: StudyRun) -> set[int]:
        """Make or find the study's folder; a file for this process."""
        identity, self._metric = run.identity, str(run.facts["objective"])
        self._folder = self._directory / f"{identity.name}-{identity.key}"
        self._folder.mkdir(parents=True, exist_ok=True)
        number = len(list(self._folder.glob(f"{_EVENTS}.*")))
        self._live = open(self._folder / f"{_EVENTS}.{number:010d}.study", "xb")  # noqa: SIM115
        words = self._hparams
        names = [words.HParam(name) for name in run.space]
        metrics = [words.Metric("score", display_name=self._metric)]
        facts = "\n".join(
            f"- {name}: {value}" for name, value in {**run.facts, **run.space}.items()
        )
        config = words.hparams_config_pb(names, metrics)
        self._add(
            self._live, [self._first(), self._event(config), self._event(_text("study", facts))]
        )
        parts = (path.parent.name for path in self._folder.glob(f"trial-*/{_EVENTS}.*.trial"))
        return {int(name.removeprefix("trial-")) for name in parts}

    def write_trial(self, run: TrialRun) -> None:
        """One file: hyperparameters, curves, score."""
        status = "FAILURE" if run.status == Status.INFEASIBLE else "SUCCESS"
        events = [
            self._first(),
            self._event(self._hparams.hparams_pb(run.hyperparameters, run.name)),
        ]
        events += [self._scalars(values, unit) for unit, values in points_by_unit(run)]
        events.append(self._scalars(run.scores, 0))
        if run.reason:
            events.append(self._event(_text("reason", run.reason)))
        events.append(self._event(_session_end(status)))
        folder = self._folder / run.name
        folder.mkdir(exist_ok=True)
        content, part = io.BytesIO(), folder / ".part"
        self._add(content, events)
        part.write_bytes(content.getvalue())
        part.replace(folder / f"{_EVENTS}.{run.trial_id:010d}.trial")

    def write_progress(self, step: int, values: dict[str, float]) -> None:
        """A point of each curve in the study's own run."""
        self._add(self._live, [self._scalars(values, step)])

    def write_best(self, content: str) -> None:
        """As text, and as a file beside the events."""
        self._add(self._live, [self._event(_text("best", f"```json\n{content}\n```"))])
        (self._folder / "best.json").write_text(content, encoding="utf-8")

    def close(self) -> None:
        """Close the file of this process."""
        self._live.close()

    def _add(self, file: Any, events: Iterable[Any]) -> None:
        writer = self._writer_of(file)
        for event in events:
            writer.write(event.SerializeToString())
        writer.flush()

    def _first(self) -> Any:
        from tensorboard.compat.proto.event_pb2 import Event

        return Event(wall_time=time.time(), file_version="brain.Event:2")

    def _event(self, summary: Any, step: int = 0) -> Any:
        from tensorboard.compat.proto.event_pb2 import Event

        return Event(wall_time=time.time(), step=step, summary=summary)

    def _scalars(self, values: dict[str, float], step: int) -> Any:
        from tensorboard.compat.proto.summary_pb2 import Summary

        known = finite(values).items()
        found = [Summary.Value(tag=name, simple_value=value) for name, value in known]
        return self._event(Summary(value=found), step)


def _text(tag: str, text: str) -> Any:
    from tensorboard.plugins.text.summary_v2 import text_pb

    return text_pb(tag, text)


def _session_end(status: str) -> Any:
    """What ends a trial in the table of hyperparameters.

    Built of messages: TensorBoard's own helper for it imports TensorFlow.
    """
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

    code = api_pb2.Status.Value(f"STATUS_{status}")
    info = plugin_data_pb2.SessionEndInfo(status=code, end_time_secs=time.time())
    found = metadata.create_summary_metadata(
        plugin_data_pb2.HParamsPluginData(session_end_info=info)
    )
    value = Summary.Value(
        tag=metadata.SESSION_END_INFO_TAG, metadata=found, tensor=metadata.NULL_TENSOR
    )
    return Summary(value=[value])
