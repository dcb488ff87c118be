"""The study's file: whole transactions, exact arrays, one writer."""

import json
import sqlite3
import subprocess
import sys
from pathlib import Path

import hypothesis.extra.numpy as hnp
import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxopt_lab.core.errors import MachineError, UserError
from jaxopt_lab.core.status import Status
from jaxopt_lab.storage.files import write_file
from jaxopt_lab.storage.packing import pack_curves, pack_curves_of, pack_state, unpack_state
from jaxopt_lab.storage.rows import Member, TrainedMember, Trial, WaveCost
from jaxopt_lab.storage.store import NoStudy, Store
from jaxopt_lab.storage.texts import texts_of

FULL, NORMAL = 2, 1  # of SQLite's synchronous
VALUES = st.one_of(
    st.floats(), st.integers(), st.booleans(), st.none(), st.text(), st.tuples(st.integers())
)
FLOATS = hnp.arrays(np.float32, (3, 2), elements=st.floats(width=32, allow_nan=True))


@given(FLOATS, FLOATS)
def test_arrays_come_back_bit_for_bit(curve: np.ndarray, outputs: np.ndarray) -> None:
    store = Store.open(None)
    curves = {"loss": curve[:, 0], "train_loss": curve[:, 1]}
    store.add_members([TrainedMember(7, 1, 0, 0.5, "", 2, 5, curves, outputs)])
    (found,) = store.member_arrays(7)
    (alone,) = store.members()
    store.close()
    assert alone == Member(7, 1, 0, 0.5, "", 2, 5)
    assert alone.key == (7, 1, 0)
    assert found[: len(alone)] == alone
    assert found.outputs.tobytes() == outputs.tobytes()
    for name, values in curves.items():
        assert found.curves[name].tobytes() == np.ascontiguousarray(values).tobytes()
    assert (found.fold, found.score, found.best_unit, found.num_units) == (1, 0.5, 2, 5)


@given(hnp.arrays(np.float32, (4, 3), elements=st.floats(width=32, allow_nan=True)))
def test_many_curves_are_packed_as_one_is(values: np.ndarray) -> None:
    half = np.zeros((4, 2, 2), ml_dtypes.bfloat16)
    for curves in (
        {"loss": values, "train_loss": values[:, ::-1]},
        {"loss": values, "keep": values > 0, "by_class": half},
        {"loss": values[:, :0]},
        {},
    ):
        alone = [pack_curves({name: x[i] for name, x in curves.items()}) for i in range(4)]
        assert pack_curves_of(curves, 4) == alone


@given(st.lists(st.dictionaries(st.sampled_from(["a", 'b%"', "c,"]), VALUES), max_size=4))
def test_configurations_are_written_as_json_writes_them(configs: list[dict]) -> None:
    assert texts_of(configs) == [json.dumps(config) for config in configs]


def test_a_transaction_is_whole_or_nothing(tmp_path: Path) -> None:
    store = Store.open(tmp_path)

    def stop_midway() -> None:
        with store.transaction():
            store.add_trial(0, "wide", {"learning_rate": 0.1})
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        stop_midway()
    assert store.trials() == []
    with store.transaction():
        store.add_trial(0, "wide", {"learning_rate": 0.1})
        store.set_trial(0, Status.COMPLETED, 0.25, 0.01)
    store.close()
    again = Store.open(tmp_path, read_only=True)
    (row,) = again.trials()
    again.close()
    expected = Trial(0, "wide", Status.COMPLETED, 0.25, 0.01, "", {"learning_rate": 0.1})
    assert row == expected
    assert type(row.status) is Status


def test_what_waves_cost_comes_back_in_their_order() -> None:
    store = Store.open(None)
    store.add_wave("wide", 3.5, 1.25, 8, 40, "a program")
    store.add_wave("refined", 2.0, 0.0, 4, 20, "another")
    assert store.waves() == [
        WaveCost("wide", 3.5, 1.25, 8, 40, "a program"),
        WaveCost("refined", 2.0, 0.0, 4, 20, "another"),
    ]
    store.close()


def test_a_configuration_that_is_read_may_be_changed() -> None:
    store = Store.open(None)
    store.add_trial(0, "wide", {"learning_rate": 0.1})
    store.trials()[0].config["learning_rate"] = 1.0
    assert store.trials()[0].config == {"learning_rate": 0.1}
    store.close()


def test_one_writer_and_any_number_of_readers(tmp_path: Path) -> None:
    writer = Store.open(tmp_path)
    reader = Store.open(tmp_path, read_only=True)
    assert reader.trials() == []
    script = "import sys; from jaxopt_lab.storage.store import Store; Store.open(sys.argv[1])"
    other = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True
    )
    assert "in use by another process" in other.stderr
    with pytest.raises(MachineError), reader.transaction():
        reader.set("seed", 1)
    reader.close()
    writer.close()
    Store.open(tmp_path).close()


def test_a_forgotten_store_gives_up_its_lock(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    del store
    Store.open(tmp_path).close()


def test_a_study_opened_again_in_one_process_is_taken_over(tmp_path: Path) -> None:
    """As by a cell of a notebook that is run twice."""
    first = Store.open(tmp_path)
    with first.transaction():
        first.set("seed", 3)
    second = Store.open(tmp_path)
    assert second.setting("seed") == 3
    for use in (lambda: first.setting("seed"), lambda: first.transaction().__enter__()):
        with pytest.raises(UserError, match="opened again in this process"):
            use()
    with second.transaction():
        second.set("seed", 4)


def test_decisions_keep_their_order() -> None:
    store = Store.open(None)
    for value in ([2], [1], {"a": None}):
        store.decide("race", value)
    store.decide("other", 5)
    assert store.decisions("race") == [[2], [1], {"a": None}]
    store.close()


def test_there_must_be_a_study_to_read(tmp_path: Path) -> None:
    with pytest.raises(NoStudy, match="no study in"):
        Store.open(tmp_path, read_only=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("version", "message"), [(0, "not a study"), (1, "earlier version"), (99, "later version")]
)
def test_other_databases_are_left_alone(tmp_path: Path, version: int, message: str) -> None:
    path = tmp_path / "study.sqlite"
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE mine (x)")
    database.execute(f"PRAGMA user_version={version}")
    database.commit()
    database.close()
    before = path.read_bytes()
    with pytest.raises(UserError, match=message):
        Store.open(tmp_path)
    assert path.read_bytes() == before


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "model" / "weights"
    write_file(path, b"old")
    write_file(path, b"new")
    assert path.read_bytes() == b"new"
    (tmp_path / "blocked").write_bytes(b"a file, no folder")
    with pytest.raises(MachineError, match="cannot write"):
        write_file(tmp_path / "blocked" / "weights", b"x")
    assert [p.name for p in path.parent.iterdir()] == ["weights"]


def test_states_come_back_bit_for_bit() -> None:
    state = [
        np.array([[1.5, np.nan], [-0.0, np.inf]], np.float32),
        np.array(7, np.int32),
        np.array([True, False]),
        np.zeros((0, 3), np.uint16),
        np.array([1.5, -2.0], ml_dtypes.bfloat16),
    ]
    found = unpack_state(pack_state(state))
    for before, after in zip(state, found, strict=True):
        assert (before.dtype, before.shape) == (after.dtype, after.shape)
        assert before.tobytes() == after.tobytes()


def test_any_number_of_trials_can_be_asked_for() -> None:
    store = Store.open(None)
    with store.transaction():
        for i in range(3):
            store.add_trial(i, "search", {})
    assert store.trials_with(Status.PENDING, among=list(range(2, 100_000))) == [2]
    assert store.trials_with(Status.COMPLETED, among=[0]) == []
    assert store.members_of(*range(50_000)) == []
    store.close()


def test_arrays_are_kept_by_kind_and_network_and_dropped_by_trial(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    with store.transaction():
        store.keep("weights", (1, 0, 0), b"old")
        store.keep("weights", (1, 0, 0), b"new")
        store.keep("weights", (1, 1, 2), b"another")
        store.keep("weights", (2, 0, 0), b"of a trial that is dropped")
        store.keep("state", (2, 0, 0), b"of another kind")
        store.drop("weights", [2])
    store.close()
    store = Store.open(tmp_path)
    assert store.kept("weights", (1, 0, 0)) == b"new"
    assert store.kept_members("weights") == {(1, 0, 0), (1, 1, 2)}
    assert store.kept("state", (2, 0, 0)) == b"of another kind"
    with pytest.raises(KeyError):
        store.kept("weights", (2, 0, 0))
    store.close()


def test_commits_are_forced_to_the_disk_every_half_second(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [7.0]
    monkeypatch.setattr("jaxopt_lab.storage.store.time.monotonic", lambda: clock[-1])
    store = Store.open(tmp_path)
    found = []
    for now in (7.0, 7.1, 7.4, 7.6, 7.7, 9.0):
        clock.append(now)
        with store.transaction():
            found.append(store._db.execute("PRAGMA synchronous").fetchone()[0])
    store.close()
    assert found == [FULL, NORMAL, NORMAL, FULL, NORMAL, FULL]
