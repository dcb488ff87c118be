"""Studies in MLflow (extra `mlflow`): a parent run, and one nested in it for each trial."""

import logging
import time
from pathlib import Path
from typing import Any

from jaxopt_lab.core.errors import UserError
from jaxopt_lab.core.status import Status
from jaxopt_lab.integrations.tracking import BEST, StudyRun, Tracker, TrialRun, finite, missing

_STUDY, _TRIAL = "jaxopt_lab.study", "jaxopt_lab.trial"
#: MLflow's own limits for one call, and for a parameter.
_BATCH, _LONGEST = 1000, 500
#: Runs that are asked for at a time.
_PAGE = 1000


class MLflow(Tracker):
    """Writes runs through MLflow's client; neither its active run nor its settings are touched.

    Args:
      uri: of the tracking store, such as "sqlite:///mlflow.db" or "http://localhost:5000".
      experiment: its name there; that of the study by default.

    Raises:
      MachineError: if MLflow is not installed (`mlflow-skinny` is enough).
      UserError: if the store cannot be opened.
    """

    def __init__(self, uri: str = "sqlite:///mlflow.db", experiment: str | None = None) -> None:
        super().__init__()
        try:
            from mlflow import MlflowClient
        except ImportError:
            raise missing("MLflow", "mlflow") from None
        for name in ("mlflow", "alembic"):  # a new database is many lines of information
            logging.getLogger(name).setLevel(logging.WARNING)
        self._uri, self._experiment, self._run = uri, experiment, ""
        try:
            self._client = MlflowClient(tracking_uri=uri)
            self._client.search_experiments(max_results=1)
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"MLflow cannot open {uri!r}: {reason}") from None

    def open(self, run: StudyRun) -> set[int]:
        """Find the parent run by its tag, or make it."""
        client, identity = self._client, run.identity
        name = self._experiment or identity.name
        found = client.get_experiment_by_name(name)
        self._id = client.create_experiment(name, _place(self._uri)) if found is None else (
            found.experiment_id
        )  # fmt: skip
        runs = self._search(f"tags.`{_STUDY}` = '{identity.key}'")
        parents = [r for r in runs if _TRIAL not in r.data.tags]
        if parents:
            self._run = parents[0].info.run_id
            client.update_run(self._run, status="RUNNING")
        else:
            tags = {_STUDY: identity.key}
            self._run = client.create_run(self._id, tags=tags, run_name=identity.name).info.run_id
            self._log(self._run, {**run.facts, **run.space}, [])
        ended = [r for r in runs if _TRIAL in r.data.tags and r.info.status != "RUNNING"]
        self._half = {
            int(r.data.tags[_TRIAL]): r.info.run_id
            for r in runs
            if _TRIAL in r.data.tags and r.info.status == "RUNNING"
        }
        self._key = identity.key
        return {int(r.data.tags[_TRIAL]) for r in ended}

    def write_trial(self, run: TrialRun) -> None:
        """A nested run: parameters, curves, score, and how it ended."""
        client, now = self._client, int(time.time() * 1000)
        tags = {
            _STUDY: self._key,
            _TRIAL: str(run.trial_id),
            "mlflow.parentRunId": self._run,
            "phase": run.phase,
            "status": run.status,
            **({"reason": run.reason} if run.reason else {}),
        }
        unfinished = self._half.pop(run.trial_id, None)  # by a process that was killed
        if unfinished is not None:
            client.delete_run(unfinished)
        number = client.create_run(self._id, tags=tags, run_name=run.name).info.run_id
        points = [(name, value, now, 0) for name, value in finite(run.scores).items()]
        for name, (units, values) in run.curves.items():
            points += [
                (name, value, now, unit)
                for unit, value in zip(units.tolist(), values.tolist(), strict=True)
                if value == value
            ]
        self._log(number, run.hyperparameters, points)
        ended = "FAILED" if run.status == Status.INFEASIBLE else "FINISHED"
        client.set_terminated(number, ended)

    def write_progress(self, step: int, values: dict[str, float]) -> None:
        """A point of each curve in the parent run."""
        now = int(time.time() * 1000)
        self._log(self._run, {}, [(k, v, now, step) for k, v in finite(values).items()])

    def write_best(self, content: str) -> None:
        """As an artefact of the parent run."""
        self._client.log_text(self._run, content, BEST)

    def close(self) -> None:
        """Finish the parent run."""
        self._client.set_terminated(self._run, "FINISHED")

    def _log(self, run_id: str, params: dict[str, Any], points: list[Any]) -> None:
        from mlflow.entities import Metric, Param

        texts = {name: str(value)[:_LONGEST] for name, value in params.items()}
        given = [Param(name, text) for name, text in texts.items()]
        metrics = [Metric(*point) for point in points]
        self._client.log_batch(run_id, params=given, metrics=metrics[: _BATCH - len(given)])
        for start in range(_BATCH - len(given), len(metrics), _BATCH):
            self._client.log_batch(run_id, metrics=metrics[start : start + _BATCH])

    def _search(self, words: str) -> list[Any]:
        found: list[Any] = []
        token = None
        while True:
            page = self._client.search_runs([self._id], words, max_results=_PAGE, page_token=token)
            found += page
            token = page.token
            if not token:
                return found


def _place(uri: str) -> str | None:
    """Where artefacts go: beside a SQLite file, else where the server has them."""
    if not uri.startswith("sqlite:///"):
        return None
    path = Path(uri.removeprefix("sqlite:///")).resolve()
    return (path.parent / "mlartifacts").as_uri()
