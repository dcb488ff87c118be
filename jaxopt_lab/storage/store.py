"""One SQLite file per study: settings, decisions, trials, members and their curves.

Every finished wave is one transaction, so a process killed at any moment loses at most the waves
in the making; a machine that loses power, those of the last half second, too. Nothing is pickled:
JSON for small things, raw little-endian float32 for arrays.
"""

import json
import sqlite3
import time
import weakref
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from jaxopt_lab.core.errors import UserError
from jaxopt_lab.core.status import Config, Status
from jaxopt_lab.spaces.values import plain
from jaxopt_lab.storage import locks
from jaxopt_lab.storage.connection import connect_to_read, connect_to_write, leave
from jaxopt_lab.storage.files import check_regular, explain, refuse_link
from jaxopt_lab.storage.packing import pack_curves, unpack_curves
from jaxopt_lab.storage.rows import Member, MemberKey, PackedMember, TrainedMember, Trial, WaveCost
from jaxopt_lab.storage.schema import MORE, SCHEMA, TABLES
from jaxopt_lab.storage.texts import read_alike, texts_of

FILE_NAME, LOCK_NAME = "study.sqlite", ".lock"
#: Seconds within which what was committed is forced to the disk. To wait for the disk at every
#: commit takes as long as a wave of small networks; without it SQLite's file is as consistent.
#: https://www.sqlite.org/pragma.html#pragma_synchronous
_SYNC_SECONDS = 0.5
#: The numbers in a JSON list, however many: SQLite bounds the number of arguments.
_LISTED = "(SELECT value FROM json_each(?))"


#: Studies that this process writes, by file: opened again, as a notebook's cell run twice does, a
#: study is taken over from the object that had it.
_WRITERS: weakref.WeakValueDictionary[Path, "Store"] = weakref.WeakValueDictionary()


class NoStudy(UserError):
    """There is no study yet where one is to be read."""


class Store:
    """The study's file. Use `Store.open`.

    Args:
      connection: an open database.
      path: its file, or None in memory.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path | None) -> None:
        self._db, self.path = connection, path
        self._configs: dict[str, Config] = {}
        #: What callers found out about stored trials: name -> trial -> value. Not on disk.
        self.memory: dict[str, dict[int, Any]] = {}
        self._synced = -_SYNC_SECONDS
        self._open_files = ExitStack()
        self._open_files.callback(connection.close)
        # A study that nobody closed gives up its lock when it is forgotten.
        self._finalizer = weakref.finalize(self, _close, self._open_files)

    @classmethod
    def open(cls, directory: str | Path | None, read_only: bool = False) -> "Store":
        """Open or make the study in a directory (None: in memory, gone with the process).

        Raises:
          UserError: if there is none to read (`NoStudy`), or the file is corrupt or of a later
            version; it is then left as it is.
          MachineError: if the directory cannot be written or another process uses the study.
        """
        if directory is None:
            database = sqlite3.connect(":memory:", isolation_level=None)
            database.executescript(TABLES + MORE)
            return cls(database, None)
        path = Path(directory) / FILE_NAME
        if read_only and not path.exists():
            raise NoStudy(f"no study in {directory}: there is no {FILE_NAME}")
        if not read_only and (earlier := _WRITERS.get(path.resolve())) is not None:
            earlier.close()
        try:
            if path.exists():
                check_regular(path)
            if read_only:
                database = connect_to_read(path)
            else:
                refuse_link(path)
                path.parent.mkdir(parents=True, exist_ok=True)
                database = connect_to_write(path)
            store = cls(database, path)
            try:
                store._prepare(read_only)
            except BaseException:
                store.close()
                raise
        except (sqlite3.Error, OSError) as error:
            raise explain(error, path, reading=read_only) from None
        if not read_only:
            _WRITERS[path.resolve()] = store
        return store

    def _prepare(self, read_only: bool) -> None:
        if not read_only:
            self._lock()
        if self._has_tables():
            self._check_schema()
        elif read_only:
            raise NoStudy(f"no study in {self.path}: it is empty")
        if read_only:
            return
        self._open_files.callback(leave, self._db)  # at the end, before the lock is given up
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("BEGIN EXCLUSIVE")
        if not self._has_tables():
            for statement in TABLES.split(";"):
                self._db.execute(statement)
            self._db.execute(f"PRAGMA user_version={SCHEMA}")
        for statement in MORE.split(";"):
            self._db.execute(statement)
        self._db.execute("COMMIT")

    def _has_tables(self) -> bool:
        return bool(self._db.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone())

    def _check_schema(self) -> None:
        """Only reads, so that a file of somebody else stays as it is."""
        found = self._db.execute("PRAGMA user_version").fetchone()[0]
        if found > SCHEMA:
            raise UserError(
                f"{self.path} was written by a later version of jaxopt-lab (schema {found}, this "
                f"one reads {SCHEMA}); upgrade jaxopt-lab, or give another directory"
            )
        if 0 < found < SCHEMA:
            raise UserError(
                f"{self.path} was written by an earlier version of jaxopt-lab (schema {found}, "
                f"this one reads {SCHEMA}); begin in another directory"
            )
        if found < SCHEMA:
            raise UserError(f"{self.path} is not a study of jaxopt-lab; give another directory")

    def _lock(self) -> None:
        """Keep other writers out for as long as the study is open; readers may look on."""
        assert self.path is not None
        try:
            self._open_files.callback(locks.take(self.path.with_name(LOCK_NAME)))
        except BlockingIOError:
            raise sqlite3.OperationalError("locked") from None

    def close(self) -> None:
        """Close the file and give up the lock."""
        self._finalizer()

    def _closed(self) -> UserError:
        return UserError(
            f"this study is closed, or was opened again in this process: go on with the newer "
            f"object, or open {self.path or 'it'} again"
        )

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All writes inside are in the file at the end, or none is."""
        if not self._finalizer.alive:
            raise self._closed()
        try:
            is_due = time.monotonic() - self._synced >= _SYNC_SECONDS
            self._db.execute(f"PRAGMA synchronous={'FULL' if is_due else 'NORMAL'}")
            self._db.execute("BEGIN IMMEDIATE")
            yield
            self._db.execute("COMMIT")
            if is_due:  # the log is one file: earlier commits are on the disk now, too
                self._synced = time.monotonic()
        except BaseException as error:
            if self._db.in_transaction:  # SQLite may have rolled back, as on a full disk
                with suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise explain(error, self.path) from None
            raise

    def _rows(self, query: str, arguments: Iterable[Any] = ()) -> list[tuple[Any, ...]]:
        try:
            return self._db.execute(query, tuple(arguments)).fetchall()
        except sqlite3.ProgrammingError:
            raise self._closed() from None
        except sqlite3.Error as error:
            raise explain(error, self.path, reading=True) from None

    def settings(self) -> dict[str, Any]:
        """All settings by name."""
        return {n: json.loads(v) for n, v in self._rows("SELECT name, value FROM settings")}

    def setting(self, name: str) -> Any:
        """One setting; `KeyError` if it is not there."""
        for (value,) in self._rows("SELECT value FROM settings WHERE name = ?", [name]):
            return json.loads(value)
        raise KeyError(name)

    def set(self, name: str, value: Any) -> None:
        """Write one setting."""
        self._db.execute("REPLACE INTO settings VALUES (?, ?)", (name, json.dumps(value)))

    def decisions(self, kind: str) -> list[Any]:
        """Decisions of one kind, in the order in which they were taken."""
        query = "SELECT value FROM decisions WHERE kind = ? ORDER BY number"
        return [json.loads(value) for (value,) in self._rows(query, [kind])]

    def decide(self, kind: str, value: Any) -> None:
        """Record a decision, so that a resumed run takes the same one."""
        text = json.dumps(value)
        self._db.execute("INSERT INTO decisions (kind, value) VALUES (?, ?)", (kind, text))

    def add_trial(self, trial_id: int, phase: str, config: Config) -> None:
        """Write a proposed trial as pending."""
        self.add_trials(trial_id, phase, [config])

    def add_trials(self, first: int, phase: str, configs: Sequence[Config]) -> None:
        """Write proposed trials as pending, numbered from `first` on."""
        texts, pending = texts_of(configs), str(Status.PENDING)
        for text, config in zip(texts, configs, strict=True):
            if read_alike(config):
                self._configs[text] = dict(config)
        self._db.executemany(
            "INSERT INTO trials (trial_id, phase, status, config) VALUES (?, ?, ?, ?)",
            [(first + i, phase, pending, text) for i, text in enumerate(texts)],
        )

    def set_config(self, trial_id: int, config: Config) -> None:
        """Write the values with which a trial goes on; what callers found out about it is void."""
        for known in self.memory.values():
            known.pop(trial_id, None)
        text = json.dumps(config)
        self._db.execute("UPDATE trials SET config = ? WHERE trial_id = ?", (text, trial_id))

    def set_trial(
        self,
        trial_id: int,
        status: Status,
        score: float | None = None,
        standard_error: float | None = None,
        reason: str = "",
    ) -> None:
        """Write what became of a trial."""
        self.set_trials([(status, score, standard_error, reason, trial_id)])

    def set_trials(
        self, rows: Sequence[tuple[Status, float | None, float | None, str, int]]
    ) -> None:
        """Write what became of trials: status, score, standard error, reason, trial."""
        self._db.executemany(
            "UPDATE trials SET status=?, score=?, standard_error=?, reason=? WHERE trial_id=?",
            [(str(status), *others) for status, *others in rows],
        )

    def trials(
        self,
        phase: str | None = None,
        status: Status | None = None,
        among: Sequence[int] | None = None,
    ) -> list[Trial]:
        """Trials in `trial_id` order.

        Args:
          phase: only those of a phase.
          status: only those with a status.
          among: only those of these numbers.
        """
        listed = None if among is None else json.dumps(list(among))
        wanted = {"phase = ?": phase, "status = ?": status, f"trial_id IN {_LISTED}": listed}
        given = {words: value for words, value in wanted.items() if value is not None}
        where = f"WHERE {' AND '.join(given)} " if given else ""
        query = f"SELECT {', '.join(Trial._fields)} FROM trials {where}ORDER BY trial_id"
        rows, known, read = self._rows(query, given.values()), self._configs, self._config
        return [
            Trial(i, of, _status(code), score, error, reason, dict(known.get(text) or read(text)))
            for i, of, code, score, error, reason, text in rows
        ]

    def _config(self, text: str) -> Config:
        """Read a configuration; each text is read once."""
        if text not in self._configs:
            self._configs[text] = {
                name: plain(value) if isinstance(value, list) else value
                for name, value in json.loads(text).items()
            }
        return self._configs[text]

    def num_trials(self, phase: str | None = None) -> int:
        """Of a phase, or of all."""
        where, arguments = ("", []) if phase is None else (" WHERE phase = ?", [phase])
        return int(self._rows(f"SELECT COUNT(*) FROM trials{where}", arguments)[0][0])

    def trials_with(self, status: Status, among: Sequence[int] | None = None) -> list[int]:
        """The numbers of the trials with a status (only those among some), ascending."""
        where = "" if among is None else f" AND trial_id IN {_LISTED}"
        query = f"SELECT trial_id FROM trials WHERE status = ?{where} ORDER BY trial_id"
        listed = [] if among is None else [json.dumps(among)]
        return [trial_id for (trial_id,) in self._rows(query, [status, *listed])]

    def counts(self) -> dict[Status, int]:
        """How many trials have each status."""
        found = dict(self._rows("SELECT status, COUNT(*) FROM trials GROUP BY status"))
        return {status: found.get(status, 0) for status in Status}

    def best_trials(self, n: int) -> list[int]:
        """The n completed trials with the least scores, ties by number."""
        query = "SELECT trial_id FROM trials WHERE status = ? ORDER BY score, trial_id LIMIT ?"
        return [trial_id for (trial_id,) in self._rows(query, [Status.COMPLETED, n])]

    def best_scores(self, n: int) -> list[float]:
        """Their scores."""
        query = "SELECT score FROM trials WHERE status = ? ORDER BY score LIMIT ?"
        return [score for (score,) in self._rows(query, [Status.COMPLETED, n])]

    def best_score(self) -> float | None:
        """The least score of a completed trial."""
        return self._rows("SELECT MIN(score) FROM trials WHERE status = 'completed'")[0][0]

    def add_members(self, trained: Iterable[TrainedMember]) -> None:
        """Write trained networks of trials, in place of what was written of them before."""
        self.add_packed([packed(member) for member in trained])

    def add_packed(self, rows: Iterable[PackedMember]) -> None:
        """`add_members` of what is packed already."""
        self._db.executemany(
            "REPLACE INTO members VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                (*member[:6], curves, outputs, num_outputs, member[6])
                for member, curves, outputs, num_outputs in rows
            ],
        )

    def members(self, first: int = 0) -> list[Member]:
        """All members by (trial, fold, replicate), without arrays, from trial `first` on."""
        return self._members("WHERE trial_id >= ?", (first,))

    def members_of(self, *trial_ids: int) -> list[Member]:
        """The members of some trials by (trial, fold, replicate), without arrays."""
        return self._members(f"WHERE trial_id IN {_LISTED}", (json.dumps(trial_ids),))

    def member_arrays(self, trial_id: int) -> list[TrainedMember]:
        """The members of one trial by (fold, replicate), with their arrays."""
        columns = (*TrainedMember._fields, "num_outputs")
        rows = self._member_rows(columns, "WHERE trial_id = ?", (trial_id,))
        return [
            TrainedMember(
                *Member._make(facts),
                unpack_curves(curves),
                np.frombuffer(outputs, "<f4").reshape(-1, num_outputs),
            )
            for *facts, curves, outputs, num_outputs in rows
        ]

    def _members(self, where: str, arguments: tuple[Any, ...]) -> list[Member]:
        return [Member._make(row) for row in self._member_rows(Member._fields, where, arguments)]

    def _member_rows(
        self, columns: Sequence[str], where: str, arguments: tuple[Any, ...]
    ) -> list[tuple[Any, ...]]:
        query = f"SELECT {', '.join(columns)} FROM members {where}"
        return self._rows(f"{query} ORDER BY trial_id, fold, replicate", arguments)

    def keep(self, kind: str, member: MemberKey, content: bytes) -> None:
        """Keep arrays of a network (trial, fold, replicate), in place of what was kept before."""
        self._db.execute("REPLACE INTO arrays VALUES (?, ?, ?, ?, ?)", (kind, *member, content))

    def kept(self, kind: str, member: MemberKey) -> bytes:
        """What `keep` was given; `KeyError` if there is nothing."""
        where = "kind = ? AND trial_id = ? AND fold = ? AND replicate = ?"
        for (content,) in self._rows(f"SELECT content FROM arrays WHERE {where}", (kind, *member)):
            return bytes(content)
        raise KeyError((kind, *member))

    def kept_members(self, kind: str) -> frozenset[MemberKey]:
        """The networks of which there are arrays of a kind."""
        query = "SELECT trial_id, fold, replicate FROM arrays WHERE kind = ?"
        found: list[Any] = self._rows(query, (kind,))
        return frozenset(found)

    def drop(self, kind: str, trial_ids: Iterable[int]) -> None:
        """Forget what was kept of trials."""
        rows = [(kind, trial_id) for trial_id in trial_ids]
        self._db.executemany("DELETE FROM arrays WHERE kind = ? AND trial_id = ?", rows)

    def add_wave(
        self,
        phase: str,
        seconds: float,
        compile_seconds: float,
        jobs: int,
        units: int,
        program: str,
    ) -> None:
        """Write what a wave cost."""
        self._db.execute(
            "INSERT INTO waves (phase, seconds, compile_seconds, jobs, units, program) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            (phase, seconds, compile_seconds, jobs, units, program),
        )

    def waves(self) -> list[WaveCost]:
        """What each wave cost, in the order in which they finished."""
        rows = self._rows(f"SELECT {', '.join(WaveCost._fields)} FROM waves ORDER BY number")
        return [WaveCost._make(row) for row in rows]


#: Quicker than the enumeration.
_status = cache(Status)


def packed(trained: TrainedMember) -> PackedMember:
    """A member as it is written."""
    content = np.ascontiguousarray(trained.outputs, "<f4").tobytes()
    curves, num_outputs = pack_curves(trained.curves), trained.outputs.shape[-1]
    return PackedMember(Member._make(trained[:-2]), curves, content, num_outputs)


def _close(files: ExitStack) -> None:
    with suppress(sqlite3.Error, OSError):
        files.close()
