"""Our studies as Optuna's, finished or while they run, and Optuna's as ours (extra `optuna`)."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from jaxopt_lab.core.errors import MachineError, UserError
from jaxopt_lab.core.status import Status
from jaxopt_lab.integrations.identity import (
    Identity,
    identity_of,
    is_over,
    mean_curves,
    objective_curve,
    thinned_units,
)
from jaxopt_lab.spaces.distributions import (
    Choice,
    Distribution,
    IntUniform,
    LogIntUniform,
    LogUniform,
    Uniform,
)
from jaxopt_lab.spaces.space import SearchSpace
from jaxopt_lab.storage.rows import Trial
from jaxopt_lab.study.callbacks import Callback, WaveEnd
from jaxopt_lab.study.outside import Finished, adopt
from jaxopt_lab.study.trials import sign_of

if TYPE_CHECKING:
    import optuna

#: Points of a trial's curve at most: a database of Optuna's takes a transaction for each.
MAX_POINTS = 20
_KEY, _TRIAL, _SPACE = "jaxopt_lab study", "jaxopt_lab trial", "jaxopt_lab space"
#: A range of Optuna's with steps becomes a choice of its values up to so many.
_MAX_STEPS = 64


def needed() -> Any:
    """Optuna.

    Raises:
      MachineError: if it is not installed.
    """
    try:
        import optuna
    except ImportError:
        raise MachineError("Optuna is missing: pip install 'jaxopt-lab[optuna]'") from None
    return optuna


class OptunaMirror(Callback):
    """Writes a study into a storage of Optuna's while it runs: `optuna-dashboard URL` shows it.

    A trial has the same number there. It is running from its first stored wave on (one that a time
    limit stopped stays so, since it may go on), then complete, pruned or failed; its intermediate
    values are the objective's curve, averaged over splits and seeds. A study that goes on in a new
    process is found again, and no trial is written twice.

    Args:
      storage: URL such as "sqlite:///x.db", or a storage of Optuna's; None keeps it in memory.
      name: of the study there; that of the study's directory by default, with a number where
        another study has it.

    Raises:
      MachineError: if Optuna is not installed.
      UserError: if the storage cannot be opened.

    Examples:
      >>> mirror = OptunaMirror()
      >>> mirror.study is None  # until a study begins
      True
    """

    def __init__(self, storage: Any = None, name: Any = None) -> None:
        optuna = needed()
        self._name, self._study_id = name, -1
        #: Optuna's study, once ours has begun.
        self.study: Any = None
        self._written: dict[int, _Written] = {}
        with _quiet(optuna):
            try:
                self._storage = optuna.storages.get_storage(storage)
            except Exception as error:
                reason = str(error).splitlines()[0] if str(error) else type(error).__name__
                raise UserError(
                    f"Optuna cannot open the storage {storage!r} ({reason}); give a URL such as "
                    "sqlite:///x.db"
                ) from None

    def on_study_begin(self, study: Any) -> None:
        """Find the study there, or make it, and write what is missing."""
        optuna = needed()
        with _quiet(optuna):
            self.study = self._open(optuna, study, identity_of(study))
            self._study_id = self._storage.get_study_id_from_name(self.study.study_name)
            for trial in self.study.get_trials(deepcopy=False):
                if _TRIAL in trial.user_attrs:
                    done = trial.state.is_finished()
                    number = trial.user_attrs[_TRIAL]
                    self._written[number] = _Written(trial._trial_id, done, trial.last_step or 0)
            rows = study.store.trials()
            begun = {m.trial_id for m in study.store.members()}
            ready = [t.trial_id for t in rows if t.trial_id in begun or is_over(t)]
            self._write(study, ready)

    def on_wave_end(self, study: Any, wave: WaveEnd) -> None:
        """Write how far the trials of a wave have come."""
        with _quiet(needed()):
            self._write(study, sorted({trial_id for trial_id, _, _ in wave.members}))

    def on_trial_end(self, study: Any, trial: Trial) -> None:
        """Write what a trial came to."""
        written = self._written.get(trial.trial_id)
        if written is not None and written.done:
            return
        with _quiet(needed()):
            self._write(study, [trial.trial_id])

    def _open(self, optuna: Any, study: Any, identity: Identity) -> Any:
        """The study of this identity there: by its name, or the first such name that is free."""
        name, number = self._name or identity.name, 1
        direction = study.problem.objective.direction
        while True:
            tried = name if number == 1 else f"{name}-{number}"
            found = optuna.create_study(
                storage=self._storage, study_name=tried, direction=direction, load_if_exists=True
            )
            attrs = found.user_attrs
            if attrs.get(_KEY) == identity.key:
                return found
            if not attrs and not found.get_trials(deepcopy=False):
                found.set_user_attr(_KEY, identity.key)
                found.set_user_attr(_SPACE, json.dumps(study.space.to_dict()))
                found.set_user_attr("objective", study.problem.objective.metric)
                return found
            number += 1

    def _write(self, study: Any, trial_ids: Sequence[int]) -> None:
        """Bring trials up to date; those of lower numbers come first, so that numbers agree."""
        if not trial_ids:
            return
        rows, sign = study.store.trials(), sign_of(study.store)
        for row in rows[: max(trial_ids) + 1]:
            written = self._written.get(row.trial_id)
            if written is None:
                frozen = frozen_of(study, row, sign, MAX_POINTS)
                number = self._storage.create_new_trial(self._study_id, template_trial=frozen)
                done = frozen.state.is_finished()
                self._written[row.trial_id] = _Written(number, done, frozen.last_step or 0)
            elif row.trial_id in trial_ids and not written.done:
                self._written[row.trial_id] = self._go_on(study, row, sign, written)

    def _go_on(self, study: Any, row: Trial, sign: int, written: "_Written") -> "_Written":
        """Write what is new of a running trial."""
        frozen, store = frozen_of(study, row, sign, MAX_POINTS), self._storage
        for step, value in frozen.intermediate_values.items():
            if step > written.last_step or frozen.state.is_finished():
                store.set_trial_intermediate_value(written.number, step, value)
        if frozen.state.is_finished():
            for key, value in frozen.user_attrs.items():
                store.set_trial_user_attr(written.number, key, value)
            store.set_trial_state_values(written.number, frozen.state, frozen.values)
        last = max(written.last_step, frozen.last_step or 0)
        return _Written(written.number, frozen.state.is_finished(), last)


class _Written(NamedTuple):
    """What is in a storage of a trial.

    Attributes:
      number: by which the storage knows it.
      done: whether it is finished there.
      last_step: of its intermediate values.
    """

    number: int
    done: bool
    last_step: int


@contextmanager
def _quiet(optuna: Any) -> Iterator[None]:
    """Without a line for each study and trial."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


def to_optuna(study: Any, storage: Any = None, name: Any = None) -> "optuna.Study":
    """A study as one of Optuna's.

    Args:
      study: the `Study`.
      storage: URL such as "sqlite:///x.db", or a storage of Optuna's; None keeps it in memory.
      name: of the study there; that of the study's directory by default.

    Returns:
      Optuna's study: every trial with its distributions, parameters, value, state and the
      objective's curve as intermediate values; what is fixed is left out. Written into a storage
      again, it gets what is new.

    Raises:
      MachineError: if Optuna is not installed.
      UserError: if the storage cannot be opened.
    """
    mirror = OptunaMirror(storage, name)
    mirror.on_study_begin(study)
    with _quiet(needed()):
        mirror._write(study, list(range(study.store.num_trials())))
    return mirror.study


def frozen_of(study: Any, row: Trial, sign: int, max_points: int) -> "optuna.trial.FrozenTrial":
    """A trial as Optuna writes it down.

    Args:
      study: the `Study`.
      row: of the trial.
      sign: -1 where the objective is maximised.
      max_points: of its curve, at most.
    """
    from optuna.trial import TrialState, create_trial

    states = {
        Status.COMPLETED: TrialState.COMPLETE,
        Status.STOPPED: TrialState.PRUNED,
        Status.INFEASIBLE: TrialState.FAIL,
    }
    state = states.get(row.status, TrialState.RUNNING) if is_over(row) else TrialState.RUNNING
    members = study.store.member_arrays(row.trial_id)
    curves = mean_curves(members, study.training.num_members) if members else {}
    curve = objective_curve(curves, study.problem.objective.metric)
    if study.store.settings().get("budget", 1) < 2:  # one value is no curve
        curve = curve[:0]
    kept = thinned_units(len(curve), max_points) if len(curve) else np.zeros(0, int)
    attrs = {
        _TRIAL: row.trial_id,
        "phase": row.phase,
        **({"reason": row.reason} if row.reason else {}),
        **({} if row.standard_error is None else {"standard error": row.standard_error}),
    }
    params, distributions = _params(study.space, row.config)
    has_value = state in (TrialState.COMPLETE, TrialState.PRUNED) and row.score is not None
    return create_trial(
        state=state,
        value=sign * row.score if has_value and row.score is not None else None,
        params=params,
        distributions=distributions,
        user_attrs=attrs,
        intermediate_values={int(i) + 1: float(curve[i]) for i in kept},
    )


def _params(space: SearchSpace, config: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Parameters and distributions of a configuration: what is searched and active in it.

    A value that a refined search found outside of its range widens that for its own trial; Optuna
    has no word for a value outside of a choice, which is left out.
    """
    params, distributions = {}, {}
    for name, dist in space.parameters.items():
        if name not in config:
            continue
        value = config[name]
        if isinstance(dist, Choice):
            if value in dist.values:
                params[name] = _readable(value)
                distributions[name] = distribution_of(dist)
            continue
        params[name] = value
        distributions[name] = distribution_of(dist, value)
    return params, distributions


def _readable(value: Any) -> Any:
    """A value of a choice as Optuna can hold it: a list becomes its JSON."""
    return json.dumps(value) if isinstance(value, tuple) else value


def distribution_of(dist: Distribution, value: Any = None) -> Any:
    """Optuna's distribution with the values that people read.

    Args:
      dist: ours.
      value: that it holds in any case.

    Examples:
      >>> distribution_of(Choice([128, 64]))
      CategoricalDistribution(choices=(64, 128))
    """
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(dist, Choice):
        return CategoricalDistribution(tuple(_readable(v) for v in dist.ranked))
    low, high = dist.extremes
    if value is not None:
        low, high = min(low, value), max(high, value)
    if isinstance(dist, IntUniform):
        return IntDistribution(int(low), int(high), log=isinstance(dist, LogIntUniform))
    return FloatDistribution(float(low), float(high), log=isinstance(dist, LogUniform))


def space_from(theirs: "optuna.Study") -> SearchSpace:
    """The space of a study of Optuna's, from the distributions of its trials.

    That of a study of ours that was written there comes back as it was. A parameter that not every
    trial has needs a condition, which Optuna does not write down.

    Raises:
      UserError: if there are no trials, or a parameter is missing from some, naming it.
    """
    known = theirs.user_attrs.get(_SPACE)
    if known:
        return SearchSpace.from_dict(json.loads(known))
    trials = [t for t in theirs.get_trials(deepcopy=False) if t.distributions]
    if not trials:
        raise UserError(
            "this study of Optuna's has no trials; give a space: from_optuna(space=...)"
        )
    found: dict[str, list[Any]] = {}
    for trial in trials:
        for name, dist in trial.distributions.items():
            found.setdefault(name, []).append(dist)
    partial = [name for name, dists in found.items() if len(dists) < len(trials)]
    if partial:
        raise UserError(
            f"{partial[0]!r} is not in every trial of this study of Optuna's, and when it is is "
            "not written there; give a space: from_optuna(space=...), with conditions in it"
        )
    return SearchSpace(**{name: _ours(dists) for name, dists in found.items()})


def _ours(dists: Sequence[Any]) -> Distribution:
    """Our distribution of Optuna's for one parameter, as wide as the widest."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution

    first = dists[-1]
    if isinstance(first, CategoricalDistribution):
        return Choice(list(first.choices))
    low, high = min(d.low for d in dists), max(d.high for d in dists)
    step = first.step
    if isinstance(first, FloatDistribution):
        if step is not None:
            return _stepped(low, high, step)
        return Choice([low]) if low == high else (LogUniform if first.log else Uniform)(low, high)
    if low == high:
        return Choice([low])
    if step not in (None, 1):
        return _stepped(low, high, step)
    return (LogIntUniform if first.log else IntUniform)(low, high)


def _stepped(low: Any, high: Any, step: Any) -> Distribution:
    """A range with steps: a choice of its values; without the steps where these are many."""
    num = math.floor((high - low) / step + 1e-9) + 1
    if num <= _MAX_STEPS:
        return Choice([low + i * step for i in range(num)])
    return (Uniform if isinstance(step, float) else IntUniform)(low, high)


def trials_from(theirs: "optuna.Study", space: SearchSpace) -> tuple[list[Finished], int]:
    """The finished trials of a study of Optuna's that lie in a space.

    A pruned one counts with its value, else its last intermediate value; one without either is
    left out.

    Args:
      theirs: Optuna's study.
      space: of ours.

    Returns:
      The trials in their order, and how many are left out.
    """
    from optuna.trial import TrialState

    found, left_out = [], 0
    for trial in theirs.get_trials(deepcopy=False):
        if not trial.state.is_finished():
            continue
        value = trial.value
        if value is None and trial.intermediate_values and trial.state == TrialState.PRUNED:
            value = trial.intermediate_values[max(trial.intermediate_values)]
        config = {**space.fixed, **_config(space, trial.params)}
        is_known = value is not None and math.isfinite(value)
        if space.why_outside(config) or (trial.state == TrialState.PRUNED and not is_known):
            left_out += 1
        elif trial.state == TrialState.FAIL or not is_known:
            reason = trial.user_attrs.get("reason") or "failed in Optuna"
            found.append(Finished(trial.number, config, Status.INFEASIBLE, None, str(reason)))
        elif trial.state == TrialState.PRUNED:
            reason = trial.user_attrs.get("reason") or "pruned in Optuna"
            found.append(Finished(trial.number, config, Status.STOPPED, value, str(reason)))
        else:
            found.append(Finished(trial.number, config, Status.COMPLETED, value, ""))
    return found, left_out


def _config(space: SearchSpace, params: Mapping[str, Any]) -> dict[str, Any]:
    """Optuna's parameters as a configuration: lists back from their JSON."""
    config = {}
    for name, value in params.items():
        dist = space.parameters.get(name)
        if isinstance(dist, Choice):
            by_text = {_readable(v): v for v in dist.values}
            value = by_text.get(value, value)
        if dist is not None:
            config[name] = value
    return config


def take_over(study: Any, theirs: "optuna.Study", say: Any = print) -> None:
    """Write the finished trials of a study of Optuna's into ours, where samplers learn from them.

    Args:
      study: the `Study`; trials that it took over before are left out.
      theirs: Optuna's, of one objective.
      say: takes a line if trials lie outside the space.
    """
    found, left_out = trials_from(theirs, study.space)
    adopt(study.store, found, study.problem.objective.sign)
    if left_out:
        say(f"{left_out} of Optuna's trials lie outside the space or have no value: left out")


def check_direction(theirs: "optuna.Study", direction: str) -> None:
    """Refuse a study of Optuna's that optimises something else.

    Raises:
      UserError: for several objectives, or another direction than the problem's.
    """
    given = [d.name.lower() for d in theirs.directions]
    if given != [direction]:
        raise UserError(
            f"this study of Optuna's {' and '.join(f'{d}s' for d in given)}, the problem "
            f"{direction}s its objective: give one that does the same"
        )
