"""A population in a study: every generation one transaction, every copy what it says it is."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxopt_lab as lab
from jaxopt_lab.cli.show import csv_of, table_rows
from jaxopt_lab.core.errors import MachineError, UserError
from jaxopt_lab.core.residents import Residents
from jaxopt_lab.storage.validation import settings_of
from jaxopt_lab.study.watch import Watch

PBT = lab.schedulers.population_based_training
TRACES = []


def build(*, momentum: float = 0.0) -> lab.Trainable:
    """Noisy descent on a bowl that tells what it was trained with."""

    def init(key: Any, hparams: Any) -> Any:
        start = {"x": jax.random.normal(key, (3,)), "v": jnp.zeros(3), "key": key}
        return {**start, "split": jnp.full((), -1)}

    def step(state: Any, hparams: Any, shared: lab.Shared) -> Any:
        TRACES.append(momentum)
        key, now = jax.random.split(state["key"])
        noise = jax.random.normal(now, (3,)) + jax.random.normal(shared.key, (3,))
        v = momentum * state["v"] - hparams.rate * (2 * state["x"] + 0.1 * noise)
        split = jnp.where(state["split"] < 0, shared.split, state["split"])
        state = {"x": state["x"] + v, "v": v, "key": key, "split": split}
        told = {"rate": hparams.rate, "strayed": split != shared.split}
        return state, {**told, "clip": hparams.clip * 1.0}

    def evaluate(state: Any, hparams: Any, shared: lab.Shared) -> Any:
        return {"gain": -jnp.sum(state["x"] ** 2)}

    return lab.Trainable(init, step, evaluate, result=lambda state: state["x"])


SPACE = lab.SearchSpace(
    rate=lab.LogUniform(1e-3, 0.3), clip=lab.IntUniform(1, 4), momentum=lab.Choice([0.0, 0.5])
)
#: Of 7 units, 2 to a generation, the last is a half.
SIZE, BUDGET, EVERY = 10, 7, 2


#: One program instead of two.
PLAIN = lab.SearchSpace(rate=lab.LogUniform(1e-3, 0.3), clip=lab.IntUniform(1, 4))
PROBLEM = lab.from_steps(build, objective="gain", direction="maximize", num_seeds=2)


def make(directory: Path | None = None, space: lab.SearchSpace = PLAIN, **options: Any) -> Any:
    return lab.Study(PROBLEM, space, directory, seed=3, **options)


def train(study: Any, scheduler: Any = None, **options: Any) -> Any:
    scheduler = scheduler or PBT(every=EVERY, exploit=lab.schedulers.truncation(0.4))
    study.optimize("random", SIZE, budget=BUDGET, scheduler=scheduler, **options)
    return study


def everything(study: Any) -> tuple[str, str, bytes]:
    """All that a study came to, clocks apart."""
    settings = settings_of(study.store)
    members = [study.store.member_arrays(i) for i in range(study.store.num_trials())]
    curves = [v.tobytes() for of in members for m in of for v in m.curves.values()]
    table = csv_of(table_rows(study.store, False), settings)
    return table, study.lineage.to_csv(), b"".join(curves)


@pytest.fixture(scope="module")
def trained() -> Any:
    """Of two programs, each a population of its own."""
    return train(make(space=SPACE))


@pytest.fixture(scope="module")
def whole() -> Any:
    """Of one program, in cohorts of four on two devices, never interrupted."""
    return everything(train(make(cohort_width=4)))


def test_a_population_keeps_its_size_and_all_end_complete(trained: Any) -> None:
    lineage = trained.lineage
    assert len(lineage) == SIZE * 4
    assert lineage.groupby("generation")["units"].first().tolist() == [2, 2, 2, 1]
    assert (trained.trials["status"] == "completed").all()
    assert trained.best.score == trained.trials["score"].max()
    assert (trained.members["num_units"] == BUDGET).all()
    assert trained.store.kept_members("state") == set()


def test_copies_come_from_better_members_of_the_same_program(trained: Any) -> None:
    lineage = trained.lineage
    copies = lineage[lineage["parent"] != lineage["trial_id"]]
    assert len(copies) > 3
    momentum = trained.trials.set_index("trial_id")["momentum"]
    assert (momentum[copies["parent"]].values == copies["momentum"].values).all()
    scores = lineage.set_index(["generation", "trial_id"])["score"]
    for row in copies.itertuples():
        before = row.generation - 1
        assert scores[before, row.parent] > scores[before, row.trial_id]
        parent = lineage.query("generation == @before and trial_id == @row.parent").iloc[0]
        assert row.rate != parent["rate"], "a copy explores"
        assert SPACE.why_outside({k: getattr(row, k) for k in SPACE.names}) is None
    stayed = lineage[(lineage["parent"] == lineage["trial_id"]) & (lineage["generation"] > 0)]
    for row in stayed.itertuples():
        before = row.generation - 1
        own = lineage.query("generation == @before and trial_id == @row.trial_id").iloc[0]
        assert row.rate == own["rate"]


def test_training_sees_the_explored_values_and_not_the_restored_ones(trained: Any) -> None:
    """The curves of a trial are its lineage's: they tell with which values each unit trained."""
    for trial_id in range(SIZE):
        stages = trained.schedule(trial_id)
        assert sum(stage.units for stage in stages) == BUDGET
        wanted = [s.config["rate"] for s in stages for _ in range(s.units)]
        clips = [s.config["clip"] for s in stages for _ in range(s.units)]
        for member in trained.store.member_arrays(trial_id):
            np.testing.assert_array_equal(member.curves["rate"], np.float32(wanted))
            np.testing.assert_array_equal(member.curves["clip"], np.float32(clips))
        assert trained.trials["rate"][trial_id] == stages[-1].config["rate"]
    assert any(len({s.trial_id for s in trained.schedule(i)}) > 1 for i in range(SIZE))


def test_copies_stay_within_their_split(trained: Any) -> None:
    assert not trained.metrics("strayed").any()


def test_the_winner_is_a_schedule_that_trains_alone(trained: Any) -> None:
    """Bit for bit: the same program, whatever the company."""
    for trial_id in (trained.best.trial_id, 0, SIZE - 1):
        found = trained.replay(trial_id)
        assert found.is_same, found.difference("gain")
        assert found.difference("gain") == 0.0
        np.testing.assert_array_equal(found.curves[1]["gain"], trained.metrics("gain")[trial_id, 1])
    schedule = trained.best.schedule
    assert schedule["unit"].tolist() == [0, 2, 4, 6]
    assert {"rate", "clip", "momentum", "score", "trial_id"} <= set(schedule.columns)
    assert schedule["score"].iloc[-1] == trained.best.score
    with pytest.raises(UserError, match="there is no trial 99"):
        trained.replay(99)


def test_one_program_serves_all_generations(whole: Any) -> None:
    """A generation traces nothing anew, however many there are and whatever is copied."""

    def traces(every: int) -> int:
        TRACES.clear()
        train(make(), PBT(every=every))
        return len(TRACES)

    assert traces(1) == traces(6)


def test_states_by_the_devices_or_by_the_host_are_the_same(
    whole: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In several cohorts and waves, on one device as on two, and where nothing stays on them."""
    begun = []
    begin = Residents.begin

    def noted(self: Residents, wave: Any) -> Any:
        found = begin(self, wave)
        begun.append(found is not None)
        return found

    monkeypatch.setattr(Residents, "begin", noted)
    one = {"devices": jax.local_devices()[:1], "cohort_width": 16}
    gathered = everything(train(make(**one)))
    assert begun.count(True) == 3 * 2, "each seed's cohort, in all generations but the first"
    monkeypatch.setattr(Residents, "begin", lambda self, wave: None)
    assert everything(train(make(**one))) == gathered
    assert everything(train(make(devices=jax.local_devices()[:1], cohort_width=4))) == whole


class Killed(Exception):
    """Stands for a kill."""


@pytest.mark.parametrize(
    ("name", "num_generations"),
    [("pbt", 1), ("pbt", 3), pytest.param("pb2", 2, marks=pytest.mark.slow)],
    ids=str,
)
def test_killed_anywhere_it_comes_to_the_same(
    tmp_path: Path, whole: Any, name: str, num_generations: int
) -> None:
    scheduler = None if name == "pbt" else lab.schedulers.pb2(every=EVERY)
    expected = whole if name == "pbt" else everything(train(make(cohort_width=4), scheduler))
    seen = 0

    def count(progress: Any) -> None:
        nonlocal seen
        seen += 1
        if seen == num_generations:
            raise Killed

    with make(tmp_path, cohort_width=4) as study, pytest.raises(Killed):
        train(study, scheduler, progress=count)
    with make(tmp_path, cohort_width=4) as study:
        assert study.lineage["generation"].max() == num_generations - 1
        train(study, scheduler)
        assert everything(study) == expected
        assert study.replay().is_same


def test_a_generation_is_written_as_a_whole(whole: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What fails in the midst of writing leaves nothing of a generation behind."""
    study = make(cohort_width=4)

    def fail(*args: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(type(study.store), "keep", fail)
        with pytest.raises(Killed):
            train(study)
    assert len(study.lineage) == 0
    assert len(study.members) == 0
    train(study)
    assert everything(study) == whole


def test_values_put_first_are_not_put_again() -> None:
    mine = {"rate": 1e-3, "clip": 1}
    study = make()
    study.enqueue([mine])
    train(study)
    assert study.trials["rate"][0] != mine["rate"], "it was among the worst"
    study.enqueue([mine])
    assert len(study.trials) == SIZE


def test_a_time_limit_keeps_generations_and_more_time_goes_on(
    whole: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, asked = make(cohort_width=4), []

    def expire(self: Watch, num_waves_left: int) -> bool:
        asked.append(num_waves_left)
        self.struck = len(asked) > 3  # proposals, two generations
        return not self.struck

    with monkeypatch.context() as patch:
        patch.setattr(Watch, "go_on", expire)
        train(study, time_limit=1.0)
    assert study.lineage["generation"].max() == 1
    assert (study.trials["status"] == "stopped").all()
    assert study.trials["score"].notna().all(), "scores so far are told"
    first = study.trials["score"].idxmax()
    with pytest.raises(MachineError, match=rf"the best so far is trial {first} with -?[\d.]+"):
        _ = study.best
    train(study)
    assert everything(study) == whole


WILD = lab.SearchSpace(rate=lab.LogUniform(1e-2, 1e30), clip=1)


def test_what_diverges_is_replaced_and_never_a_parent() -> None:
    study = train(make(space=WILD), PBT(every=2, explore=lab.schedulers.perturb(0.01, 0.0)))
    lineage = study.lineage
    first = lineage[lineage["generation"] == 0]
    lost = set(first["trial_id"][first["score"].isna()])
    assert 3 < len(lost) < SIZE
    second = lineage[lineage["generation"] == 1].set_index("trial_id")
    assert all(second["parent"][i] not in lost for i in lost)
    assert len(second) == SIZE
    assert lineage["generation"].value_counts().eq(SIZE).all()
    last = lineage[lineage["generation"] == 3].set_index("trial_id")["score"]
    ended = study.trials.set_index("trial_id")["status"]
    assert ((ended == "infeasible") == last.isna()).all(), "only what diverged in the end"
    assert (ended == "completed").sum() >= SIZE // 2


def test_a_population_of_which_all_diverged_says_so() -> None:
    study = train(make(space=lab.SearchSpace(rate=lab.Choice([1e30, 1e31]), clip=1)))
    assert (study.trials["status"] == "infeasible").all()
    assert study.lineage["generation"].max() == 0
    with pytest.raises(MachineError, match="every trial diverged"):
        _ = study.best


def test_a_budget_without_a_boundary_is_refused() -> None:
    study = make()
    with pytest.raises(UserError, match=r"holds one of 7; give every = 1"):
        train(study, PBT(every=7))
    assert not len(study.trials)
    assert "scheduler of search" not in study.store.settings(), "another one may be given"
    assert "budget" not in study.store.settings(), "or a longer budget"
    problem = lab.from_function(lambda key, hparams: {"loss": hparams["x"]})
    study = lab.Study(problem, lab.SearchSpace(x=lab.Uniform(0.0, 1.0)))
    with pytest.raises(UserError, match="a function is one whole run"):
        study.optimize("random", 4, scheduler="population_based_training")
    with pytest.raises(UserError, match="Did you mean 'pb2'"):
        study.optimize("random", 4, scheduler="pb3")


def start_only(*, reads: bool = False) -> lab.Trainable:
    """Descent at a rate that `init` puts into the state; `step` may read the noise."""

    def init(key: Any, hparams: Any) -> Any:
        return {"x": jnp.full((3,), 9.0), "rate": hparams.rate, "key": key}

    def step(state: Any, hparams: Any, shared: lab.Shared) -> Any:
        noise = jax.random.normal(jax.random.fold_in(state["key"], shared.unit), (3,))
        scale = hparams.noise if reads else 0.1
        x = state["x"] - state["rate"] * (2 * state["x"] + scale * noise)
        return {**state, "x": x}, {"loss": jnp.sum(x**2)}

    return lab.Trainable(init, step)


def test_what_only_init_reads_is_the_parents() -> None:
    """A new value would stand in the schedule, and the state would go on with the old one."""
    space = lab.SearchSpace(
        rate=lab.LogUniform(1e-3, 0.3), noise=lab.LogUniform(1e-3, 1.0), reads=lab.Choice([True])
    )
    study = lab.Study(lab.from_steps(start_only), space)
    study.optimize("random", 8, budget=12, scheduler=PBT(every=2))
    told = study.lineage
    copied = told[(told["trial_id"] != told["parent"]) & (told["generation"] > 0)]
    assert len(copied)
    before = told.set_index(["generation", "trial_id"])
    for row in copied.itertuples():
        parent = before.loc[(row.generation - 1, row.parent)]
        assert row.rate == parent.rate
    assert (copied["noise"].nunique()) > 1
    assert study.best.schedule["rate"].nunique() == 1


def test_a_population_of_what_only_init_reads_is_refused() -> None:
    study = lab.Study(lab.from_steps(start_only), lab.SearchSpace(rate=lab.LogUniform(1e-3, 0.3)))
    with pytest.raises(UserError, match="step reads none of rate: what only init reads"):
        study.optimize("random", 8, budget=12, scheduler=PBT(every=2))
    study.optimize("random", 4, budget=12)
    assert set(study.trials["status"]) == {"completed"}
