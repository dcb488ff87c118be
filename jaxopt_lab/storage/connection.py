"""How a study's SQLite file is opened and left: reading changes nothing and needs no permission.

A study that nobody writes is one file in rollback mode, without a write-ahead log. Readers open it
as immutable: no lock, no file beside it, so a read-only medium or somebody else's study will do.
"""

import shutil
import sqlite3
import tempfile
from contextlib import suppress
from pathlib import Path

#: Seconds that a writer waits for readers, who are done soon.
_PATIENCE = 10.0


def connect_to_write(path: Path) -> sqlite3.Connection:
    """Open or make a database."""
    return _connect(path, "mode=rwc")


def connect_to_read(path: Path) -> sqlite3.Connection:
    """Open a database without changing anything.

    Raises:
      sqlite3.Error: if it cannot be read.
    """
    log, index = (path.with_name(f"{path.name}-{kind}") for kind in ("wal", "shm"))
    is_left_alone = not _size(log) and not index.exists()
    if is_left_alone:
        return _connect(path, "mode=ro&immutable=1")
    database = _connect(path, "mode=ro")
    try:
        database.execute("SELECT 1 FROM sqlite_master LIMIT 1")
        return database
    except sqlite3.OperationalError:  # the index of the log cannot be made or locked here
        database.close()
    except BaseException:
        database.close()
        raise
    return _copy_of(path, log) if _size(log) else _connect(path, "mode=ro&immutable=1")


def leave(database: sqlite3.Connection) -> None:
    """Move the write-ahead log into the database and end it, unless others are reading."""
    with suppress(sqlite3.Error):
        database.execute("PRAGMA busy_timeout=0")
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        database.execute("PRAGMA journal_mode=DELETE")


def _connect(path: Path, options: str) -> sqlite3.Connection:
    uri = f"{path.absolute().as_uri()}?{options}"
    return sqlite3.connect(uri, uri=True, isolation_level=None, timeout=_PATIENCE)


def _copy_of(path: Path, log: Path) -> sqlite3.Connection:
    """A process that was killed left a log that nobody may move: read a copy, log included."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        shutil.copyfile(path, copy)
        shutil.copyfile(log, copy.with_name(log.name))
        moved = _connect(copy, "mode=rw")
        try:
            moved.execute("SELECT 1 FROM sqlite_master LIMIT 1")
            leave(moved)
        finally:
            moved.close()
        # The open file outlives its name.
        return _connect(copy, "mode=ro&immutable=1")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
