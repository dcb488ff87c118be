"""A study: search space and task in, trained and scored trials out, every wave on disk."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

from jaxopt_lab import hyperparameters, programs, trials
from jaxopt_lab.errors import UserError
from jaxopt_lab.plan import Job, Wave
from jaxopt_lab.predictor import Network, Predictor, Weights
from jaxopt_lab.runner import Result, Runner, WaveReport
from jaxopt_lab.search.base import MAX_PROPOSALS, History, Sampler
from jaxopt_lab.signature import Signature
from jaxopt_lab.space import SearchSpace
from jaxopt_lab.store import Store
from jaxopt_lab.tasks import Prepared, TabularTask
from jaxopt_lab.types import Config, Params, Status

if TYPE_CHECKING:
    import pandas as pd

#: A trial is infeasible if its loss exceeds this many times a constant predictor's.
INFEASIBLE_RATIO = 10.0
#: Trials whose weights are kept for ensembles.
KEPT_TRIALS = 20


class Progress(NamedTuple):
    """What a running study tells about itself after each wave."""

    phase: str
    jobs_done: int
    jobs_total: int
    counts: dict[Status, int]
    best: float | None
    metric: str
    seconds: float


@dataclass(frozen=True)
class Incumbent:
    """The best trial so far.

    Attributes:
      trial_id: its number.
      hyperparameters: what the sampler chose; `complete` fills in the defaults.
      score: mean over folds of the study's metric; lower is better.
      standard_error: over folds; NaN for one fold.
      folds: score of each fold.
      curves: per fold, name -> float32 [num_epochs].
    """

    trial_id: int
    hyperparameters: Config
    score: float
    standard_error: float
    folds: list[float]
    curves: list[dict[str, np.ndarray]]
    _study: "Study"

    @property
    def complete(self) -> Config:
        """All hyperparameters, defaults included."""
        return hyperparameters.complete(self.hyperparameters)

    def predict(self, frame: "pd.DataFrame") -> np.ndarray:
        """Predict with one network refitted on all training rows (made at the first call).

        Returns:
          [n] in the target's units, or class labels.
        """
        return self._study.refit(self.trial_id).predict(frame)


class Study:
    """Trains configurations of a space on a task, and remembers everything.

    Args:
      task: from `tasks.tabular`.
      space: search space; names are those of `hyperparameters.REGISTRY`.
      directory: where to keep the study; None keeps it in memory.
      seed: of splits, proposals, initial weights, data order and noise.
      devices: JAX devices; all local ones by default.

    Raises:
      UserError: if the directory holds a study with other settings, naming them.
    """

    def __init__(
        self,
        task: TabularTask,
        space: SearchSpace,
        directory: str | Path | None = None,
        seed: int = 0,
        devices: Sequence[jax.Device] | None = None,
    ) -> None:
        self.task, self.space, self.seed = task, space, seed
        self.directory = None if directory is None else Path(directory)
        check_space(space)
        self._devices = list(devices or jax.local_devices())
        self.store = Store.open(directory)
        self.weights = Weights(directory)
        self._runner: Runner | None = None
        self._prepared: Prepared | None = None
        self._started = time.monotonic()
        #: What earlier processes spent on this study's waves.
        self._seconds_before = sum(w["seconds"] for w in self.store.waves())
        #: Whether this process has trained anything.
        self.trained = False
        identity = {
            "task": task.describe(),
            "space": space.to_dict(),
            "seed": seed,
            "num_devices": len(self._devices),
            "device": self._devices[0].platform,
        }
        try:
            self._agree(identity)
        except BaseException:
            self.store.close()
            raise

    @classmethod
    def load(cls, directory: str | Path, devices: Sequence[jax.Device] | None = None) -> "Study":
        """Open a study again; its table is read from where it was.

        Raises:
          UserError: if there is no study, or the table has moved or changed.
        """
        from jaxopt_lab import datasets, tasks

        store = Store.open(directory, read_only=True)
        settings = store.settings()
        store.close()
        known = settings["task"]
        table = datasets.load_table(
            known["source"],
            target=known["target"],
            task=known["task"],
            log_target="yes" if known["log_target"] else "no",
        )
        if table.sha256 != known["sha256"]:
            raise UserError(f"{known['source']} has changed since the study in {directory} began")
        options = {k: known[k] for k in ("test_fraction", "numeric", "num_bins")}
        space = SearchSpace.from_dict(settings["space"])
        return cls(tasks.tabular(table, **options), space, directory, settings["seed"], devices)

    def close(self) -> None:
        """Close the study's file."""
        self.store.close()

    def _agree(self, wanted: dict[str, Any]) -> None:
        """Store settings, or refuse if they differ from those stored."""
        stored = self.store.settings()
        differing = [k for k, v in wanted.items() if k in stored and stored[k] != v]
        if differing:
            name = differing[0]
            old, new = _difference(stored[name], wanted[name])
            others = f" (and {', '.join(differing[1:])})" if differing[1:] else ""
            raise UserError(
                f"the study in {self.directory} has another {name}{others}: {old} there, {new} "
                "now; give the same settings, or another directory"
            )
        with self.store.transaction():
            for name in wanted.keys() - stored.keys():
                self.store.set(name, wanted[name])

    @property
    def num_folds(self) -> int:
        """K, once `optimize` has been called."""
        return int(self.store.settings()["num_folds"])

    @property
    def prepared(self) -> Prepared:
        """Splits, encoders and arrays, once `optimize` has been called."""
        if self._prepared is None:
            self._prepared = self.task.prepare(self.num_folds, self.seed)
        return self._prepared

    @property
    def runner(self) -> Runner:
        """What trains networks; its cohort widths are the stored ones."""
        if self._runner is None:
            self._runner = Runner(
                self.prepared.arrays, self.task.objective, self.seed, {}, self._devices
            )
        return self._runner

    def configure(self, num_epochs: int, num_folds: int) -> None:
        """Fix the budget of every trial, or check that it is the one the study began with."""
        if num_epochs < 1:
            raise UserError(f"the number of epochs must be at least 1, got {num_epochs}")
        if num_folds < 1:
            raise UserError(f"the number of folds must be at least 1, got {num_folds}")
        self.task.prepare(num_folds, self.seed)
        self._agree({"num_epochs": num_epochs, "num_folds": num_folds})

    def _fix_programs(self, num_trials: int) -> None:
        """Choose the programs before the first wave, once: they are part of the results."""
        if "programs" in self.store.settings():
            return
        arrays, settings = self.prepared.arrays, self.store.settings()
        load = programs.Load(
            num_trials=num_trials,
            num_epochs=settings["num_epochs"],
            num_folds=self.num_folds,
            num_rows=int(arrays.num_train[0]),
            num_features=int(np.prod(arrays.inputs.shape[2:])),
            num_devices=len(self._devices),
        )
        on_cpu = self._devices[0].platform == "cpu"
        chosen = programs.choose(self.space, load, programs.Costs(), on_cpu)
        self._agree({"programs": chosen.to_dict()})

    @property
    def programs(self) -> programs.Programs:
        """Which shapes trials are rounded up to, once `optimize` has been called."""
        return programs.Programs.from_dict(self.store.settings()["programs"])

    def optimize(
        self,
        sampler: Sampler,
        num_trials: int,
        num_epochs: int,
        num_folds: int = 5,
        *,
        time_limit: float | None = None,
        race: bool = False,
        phase: str = "search",
        space: SearchSpace | None = None,
        round_size: int | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> None:
        """Propose and train until the phase has `num_trials` trials; goes on where it stopped.

        Args:
          sampler: from `search`.
          num_trials: configurations of this phase in all, finished ones included.
          num_epochs: epochs of each.
          num_folds: K of the cross-validation; 1 is one hold-out split.
          time_limit: seconds after which no wave is started; the rest is marked stopped.
          race: train on one fold first, and only the better half on the others.
          phase: a name for this search.
          space: search here instead of in the study's space.
          round_size: proposals at a time, between which the sampler sees results; default all.
          progress: called after each wave.

        Raises:
          UserError: for settings other than those the study began with.
        """
        if num_trials < 1:
            raise UserError(f"the number of trials must be at least 1, got {num_trials}")
        self.configure(num_epochs, num_folds)
        self._agree({f"sampler of {phase}": sampler.name, f"race of {phase}": race})
        self._fix_programs(num_trials)
        watch = _Watch(self, phase, time_limit, progress)
        self._revive(time_limit)
        while True:
            mine = [t for t in self.store.trials() if t["phase"] == phase]
            waiting = [t for t in mine if t["status"] == Status.PENDING]
            if waiting:
                self._train(waiting, race and num_folds > 1, watch)
                continue
            missing = num_trials - len(mine)
            if missing < 1:
                return
            batch = min(missing, round_size or MAX_PROPOSALS, MAX_PROPOSALS)
            if not self._propose(sampler, phase, space or self.space, batch):
                return

    def _propose(self, sampler: Sampler, phase: str, space: SearchSpace, n: int) -> int:
        """Write n proposals as pending, in one transaction; the number really proposed."""
        known = self.store.trials()
        mine = [t for t in known if t["phase"] == phase]
        values = [math.nan if t["score"] is None else t["score"] for t in mine]
        history = History.from_configs(
            space,
            [t["config"] for t in mine],
            values,
            infeasible=[t["status"] == Status.INFEASIBLE for t in mine],
            noise=[t["standard_error"] or 0.0 for t in mine],
        )
        key = jax.random.key(self.seed, impl="threefry2x32")
        key = jax.random.fold_in(key, sum(phase.encode()))
        configs = sampler.propose(key, space, history, n)
        with self.store.transaction():
            for i, config in enumerate(configs):
                self.store.add_trial(len(known) + i, phase, config)
        return len(configs)

    def _train(self, waiting: list[dict[str, Any]], race: bool, watch: "_Watch") -> None:
        """Train pending trials on the folds they still lack."""
        folds = range(self.num_folds)
        if race:
            self._run(self._jobs(waiting, [0]), watch)
            waiting = self._promote(waiting)
        self._run(self._jobs(waiting, folds), watch)
        if watch.struck:
            ids = [t["trial_id"] for t in self.store.trials() if t["status"] == Status.PENDING]
            with self.store.transaction():
                self.store.decide("time limit", {"seconds": watch.limit, "stopped": ids})
                for trial_id in ids:
                    self.store.set_trial(trial_id, Status.STOPPED, reason=trials.TIME_LIMIT)

    def _promote(self, racing: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """After fold 0: those that go on; a decision taken before an interruption holds."""
        raced = {i for race in self.store.decisions("race") for i in race["trials"]}
        phases = {t["phase"] for t in racing if t["trial_id"] not in raced}
        field = [
            t["trial_id"]
            for t in self.store.trials()
            if t["phase"] in phases
            and t["trial_id"] not in raced
            and t["status"] in (Status.PENDING, Status.INFEASIBLE)
        ]
        if field:
            self._race(field)
        promoted = {i for race in self.store.decisions("race") for i in race["promoted"]}
        return [t for t in racing if t["trial_id"] in promoted]

    def _race(self, field: list[int]) -> None:
        """Stop the worse half of trials, the infeasible among them, once all have run fold 0."""
        scores = {
            m["trial_id"]: m["score"]
            for m in self.store.members()
            if m["fold"] == 0 and m["replicate"] == 0
        }
        if any(trial_id not in scores for trial_id in field):
            return
        finite = {i: scores[i] for i in field if scores[i] is not None}
        ranked = sorted(finite, key=lambda i: (finite[i], i))
        promoted = ranked[: max(1, math.ceil(len(field) / 2))]
        with self.store.transaction():
            self.store.decide("race", {"trials": field, "promoted": sorted(promoted)})
            for trial_id in ranked[len(promoted) :]:
                reason = "in the worse half after one fold"
                self.store.set_trial(trial_id, Status.STOPPED, finite[trial_id], None, reason)

    def _revive(self, time_limit: float | None) -> None:
        """Trials stopped by an earlier, shorter time limit go on."""
        for decision in self.store.decisions("time limit"):
            if time_limit is not None and time_limit <= decision["seconds"]:
                continue
            with self.store.transaction():
                for row in self.store.trials():
                    if row["reason"] == trials.TIME_LIMIT:
                        self.store.set_trial(row["trial_id"], Status.PENDING)

    def _jobs(self, rows: Sequence[dict[str, Any]], folds: Sequence[int]) -> list[Job]:
        """The members that these trials still lack on these folds, fold by fold."""
        done = {(m["trial_id"], m["fold"], m["replicate"]) for m in self.store.members()}
        return [
            self.job(row["trial_id"], row["config"], fold)
            for fold in folds
            for row in rows
            if (row["trial_id"], fold, 0) not in done
        ]

    def job(
        self, trial_id: int, config: Config, fold: int, replicate: int = 0, num_epochs: int = 0
    ) -> Job:
        """One network to train, within this study's budget."""
        budget = int(self.store.settings()["num_epochs"])
        full = hyperparameters.complete(config)
        signature = self.programs.signature(full)
        return Job(trial_id, fold, replicate, full, signature, num_epochs or budget, budget)

    def plan(self, rows: Sequence[dict[str, Any]]) -> list[Wave]:
        """The waves that trials would train in."""
        return self.runner.plan(self._jobs(rows, range(self.num_folds)))

    def _run(self, jobs: list[Job], watch: "_Watch") -> None:
        """Train jobs; each finished wave is one transaction."""
        if not jobs or watch.struck:
            return
        watch.begin(len(jobs))
        self._fix_widths(jobs)
        for report in self.runner.run(jobs, watch.go_on):
            self._record(report, watch.phase)
            watch.after(report)

    def _fix_widths(self, jobs: Sequence[Job]) -> None:
        """Write the cohort width of each new program before its first wave; reuse stored ones."""
        stored = self.store.settings().get("widths", {})
        signatures: dict[Signature, None] = dict.fromkeys(job.signature for job in jobs)
        for signature in signatures:
            if str(signature) in stored:
                self.runner.widths[signature] = stored[str(signature)]
            stored[str(signature)] = self.runner.width(signature)
        with self.store.transaction():
            self.store.set("widths", stored)

    def _record(self, report: WaveReport, phase: str) -> None:
        """Weights first, then one transaction with members, trials and the wave's cost."""
        self.trained = True
        for result in report.results:
            job = result.job
            self.weights.put((job.trial_id, job.fold, job.replicate), result.params)
        epochs = sum(r.job.num_epochs for r in report.results)
        with self.store.transaction():
            for result in report.results:
                self._record_member(result)
            for trial_id in dict.fromkeys(r.job.trial_id for r in report.results):
                trials.settle(self.store, trial_id, self.num_folds)
            self.store.add_wave(
                phase,
                report.seconds,
                report.compile_seconds,
                len(report.results),
                epochs,
                str(report.results[0].job.signature),
            )
        best = trials.ranking(self.store)[:KEPT_TRIALS]
        unfinished = [t["trial_id"] for t in self.store.trials() if t["status"] == Status.PENDING]
        self.weights.keep_only([*best, *unfinished])

    def _record_member(self, result: Result) -> None:
        job, loss = result.job, result.curves["loss"]
        kept = np.flatnonzero(result.keep)
        epoch = int(kept[-1]) if len(kept) else len(loss) - 1
        is_refit = job.fold == self.num_folds
        final = float(result.curves["train_loss"][epoch] if is_refit else loss[epoch])
        limit = INFEASIBLE_RATIO * self.prepared.constant_losses[job.fold]
        reason = trials.why_infeasible(final, result.diverged_at, result.last_loss, limit)
        score = None if reason else self.task.score(final, job.fold, self.prepared)
        self.store.add_member(
            job.trial_id,
            job.fold,
            job.replicate,
            score,
            reason,
            epoch,
            result.curves,
            result.outputs,
        )

    def recall(self, kind: str, decide: Callable[[], Any], again: bool = False) -> Any:
        """A decision taken before, or taken now and stored; `again` replaces it."""
        known = self.store.decisions(kind)
        if known and not again:
            return known[-1]
        value = decide()
        if not known or known[-1] != value:
            with self.store.transaction():
                self.store.decide(kind, value)
        return value

    def rerun(
        self,
        trial_ids: Sequence[int],
        replicate: int,
        time_limit: float | None = None,
        progress: Callable[[Progress], None] | None = None,
    ) -> None:
        """Train trials once more on every fold with other seeds: other weights, other order."""
        done = {(m["trial_id"], m["fold"], m["replicate"]) for m in self.store.members()}
        rows = self.store.trials()
        jobs = [
            self.job(i, rows[i]["config"], fold, replicate)
            for fold in range(self.num_folds)
            for i in trial_ids
            if (i, fold, replicate) not in done
        ]
        self._run(jobs, _Watch(self, "rerun", time_limit, progress))

    def refit(self, trial_id: int) -> Predictor:
        """A predictor with one network of a trial's configuration; see `refit_params`."""
        config = hyperparameters.complete(self.store.trials()[trial_id]["config"])
        params = self.refit_params(trial_id)
        return self.predictor([(config, params, self.num_folds)], [1.0])

    def refit_params(self, trial_id: int) -> Params:
        """Weights of a trial's configuration trained on all rows that are no test rows.

        With early stopping it trains for the mean of the folds' best epochs: no row is left to
        validate on. `reduce_on_plateau` then watches the training loss.
        """
        last = self.num_folds
        member = (trial_id, last, 0)
        if not self.weights.has(member):
            config = self.store.trials()[trial_id]["config"]
            epochs = 0
            if hyperparameters.complete(config)["early_stopping"]:
                mine = [m for m in self.store.members_of(trial_id) if m["fold"] < last]
                epochs = round(float(np.mean([m["best_epoch"] + 1 for m in mine])))
            job = self.job(trial_id, config, last, num_epochs=epochs)
            self._run([job], _Watch(self, "refit", None, None))
        return self.weights.get(member)

    def predictor(
        self, networks: Sequence[tuple[Config, Any, int]], weights: Sequence[float]
    ) -> Predictor:
        """Put trained networks (configuration, weights, fold) into a `Predictor`."""
        folds = sorted({fold for _, _, fold in networks})
        table, ready = self.task.table, self.prepared
        return Predictor(
            task=table.task,
            target_name=table.target_name,
            classes=table.classes,
            encoders=tuple(ready.encoders[f] for f in folds),
            transforms=tuple(ready.transforms[f] for f in folds) if ready.transforms else (),
            networks=tuple(
                Network(trials.architecture(c, self.task.objective.num_outputs), p, folds.index(f))
                for c, p, f in networks
            ),
            ensemble=tuple(weights),
        )

    @property
    def trials(self) -> "pd.DataFrame":
        """One row per trial in `trial_id` order: phase, status, score, ..., hyperparameters."""
        return trials.to_frame(self.store)

    @property
    def best(self) -> Incumbent:
        """The completed trial with the lowest score.

        Raises:
          MachineError: if every trial diverged or none is complete.
        """
        trial_id = trials.best_trial(self.store)
        row = self.store.trials()[trial_id]
        members = [
            m
            for m in self.store.member_arrays(trial_id)
            if m["fold"] < self.num_folds and m["replicate"] == 0
        ]
        error = row["standard_error"]
        return Incumbent(
            trial_id,
            row["config"],
            row["score"],
            math.nan if error is None else error,
            [m["score"] for m in members],
            [m["curves"] for m in members],
            self,
        )


class _Watch:
    """Time limit and progress of one phase."""

    def __init__(
        self,
        study: Study,
        phase: str,
        limit: float | None,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        self.phase, self.limit, self.struck = phase, limit, False
        self._study, self._progress = study, progress
        self._done = self._total = 0
        self._slowest = 0.0

    @property
    def seconds(self) -> float:
        return self._study._seconds_before + time.monotonic() - self._study._started

    def begin(self, num_jobs: int) -> None:
        self._done, self._total = 0, num_jobs

    def go_on(self, num_waves_left: int) -> bool:
        if self.limit is not None and self.seconds + self._slowest > self.limit:
            self.struck = True
        return not self.struck

    def after(self, report: WaveReport) -> None:
        self._done += len(report.results)
        self._slowest = max(self._slowest, report.seconds - report.compile_seconds)
        if self._progress:
            store = self._study.store
            best = trials.ranking(store)[:1]
            rows = store.trials()
            counts = {s: sum(t["status"] == s for t in rows) for s in Status}
            score = rows[best[0]]["score"] if best else None
            self._progress(
                Progress(
                    self.phase,
                    self._done,
                    self._total,
                    counts,
                    score,
                    self._study.task.metric,
                    self.seconds,
                )
            )


def check_space(space: SearchSpace) -> None:
    """Check the names and values of a space against the hyperparameters.

    Raises:
      UserError: naming the hyperparameter and what would be right.
    """
    for name, values in space.extremes().items():
        for value in values:
            hyperparameters.check_value(name, value)


def _difference(old: Any, new: Any) -> tuple[Any, Any]:
    """The first part in which two settings differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *new]:
            if old.get(key) != new.get(key):
                return f"{key} = {old.get(key)!r}", f"{new.get(key)!r}"
    return repr(old), repr(new)
