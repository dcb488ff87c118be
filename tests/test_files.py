"""Files in a directory that may be somebody else's: links, limits, media that cannot be written."""

import contextlib
import errno
import gzip
import os
import resource
import signal
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from jaxopt_lab.core.errors import MachineError, UserError
from jaxopt_lab.core.status import Status
from jaxopt_lab.storage.files import explain, read_file, write_file, write_output
from jaxopt_lab.storage.store import FILE_NAME, LOCK_NAME, Store


@contextlib.contextmanager
def nobody(folder: Path) -> Iterator[None]:
    """Act as a user who may read a folder but not write it."""
    names = [folder, *folder.rglob("*")]
    for path in folder.parents:
        if path.stat().st_uid == os.geteuid() and path != Path("/"):
            path.chmod(path.stat().st_mode | 0o055)
    for path in names:
        path.chmod(0o555 if path.is_dir() else 0o444)
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)
        for path in names:
            path.chmod(0o755 if path.is_dir() else 0o644)


def small_study(folder: Path) -> Store:
    store = Store.open(folder)
    with store.transaction():
        store.add_trial(0, "wide", {"learning_rate": 0.1})
        store.set_trial(0, Status.COMPLETED, 0.25, 0.01)
    return store


def scores(folder: Path) -> list[float | None]:
    store = Store.open(folder, read_only=True)
    found = [row.score for row in store.trials()]
    store.close()
    return found


def test_a_link_is_replaced_and_its_target_left_alone(tmp_path: Path) -> None:
    mine = tmp_path / "mine.txt"
    mine.write_bytes(b"mine")
    strange = tmp_path / "study"
    strange.mkdir()
    for name in ("report.html", ".report.html.part"):
        (strange / name).symlink_to(mine)
    write_file(strange / "report.html", b"page")
    assert mine.read_bytes() == b"mine"
    assert (strange / "report.html").read_bytes() == b"page"
    assert not (strange / "report.html").is_symlink()


def test_a_lock_that_is_a_link_is_refused_and_no_lock_is_emptied(tmp_path: Path) -> None:
    mine, strange = tmp_path / "mine.txt", tmp_path / "study"
    mine.write_bytes(b"mine")
    strange.mkdir()
    (strange / LOCK_NAME).symlink_to(mine)
    with pytest.raises(MachineError, match=r"\.lock leads through a symbolic link"):
        Store.open(strange)
    assert mine.read_bytes() == b"mine"
    (strange / LOCK_NAME).unlink()
    os.link(mine, strange / LOCK_NAME)
    Store.open(strange).close()
    assert mine.read_bytes() == b"mine"


@pytest.mark.parametrize("there", [True, False], ids=["a study of mine", "nothing yet"])
def test_a_study_that_is_a_link_is_not_written(tmp_path: Path, there: bool) -> None:
    mine, strange = tmp_path / "mine", tmp_path / "study"
    strange.mkdir()
    mine.mkdir()
    if there:
        small_study(mine).close()
    (strange / FILE_NAME).symlink_to(mine / FILE_NAME)
    with pytest.raises(MachineError, match="symbolic link"):
        Store.open(strange)
    assert (mine / FILE_NAME).exists() == there


def test_a_replaced_file_keeps_its_mode_and_a_new_one_gets_the_usual(tmp_path: Path) -> None:
    usual = tmp_path / "usual"
    usual.write_bytes(b"")
    write_file(tmp_path / "new", b"x")
    assert (tmp_path / "new").stat().st_mode == usual.stat().st_mode
    (tmp_path / "new").chmod(0o640)
    write_file(tmp_path / "new", b"y")
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o640


def test_an_interrupted_write_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(handle: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_file(tmp_path / "file", b"x")
    assert list(tmp_path.iterdir()) == []


# Outputs that the user names.


def test_an_output_follows_links_and_compresses(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "out.csv").symlink_to(tmp_path / "real" / "out.csv")
    write_output(tmp_path / "out.csv", b"first")
    write_output(tmp_path / "out.csv", b"second")
    assert (tmp_path / "out.csv").is_symlink()
    assert (tmp_path / "real" / "out.csv").read_bytes() == b"second"
    write_output(tmp_path / "out.csv.gz", b"text")
    assert gzip.decompress((tmp_path / "out.csv.gz").read_bytes()) == b"text"


def test_an_output_is_written_into_pipes_and_devices(tmp_path: Path) -> None:
    pipe, found = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: found.append(pipe.read_bytes()))
    reader.start()
    write_output(pipe, b"text")
    reader.join()
    assert found == [b"text"]
    assert pipe.is_fifo()
    write_output("/dev/null", b"text")
    assert not Path("/dev/null").is_file()


# What reads does not write.


def test_a_closed_study_is_one_file_that_anybody_can_read(tmp_path: Path) -> None:
    small_study(tmp_path / "study").close()
    names = {FILE_NAME, LOCK_NAME}
    assert {p.name for p in (tmp_path / "study").iterdir()} == names
    with nobody(tmp_path / "study"):
        assert scores(tmp_path / "study") == [0.25]
    assert {p.name for p in (tmp_path / "study").iterdir()} == names


@pytest.mark.parametrize("with_index", [True, False])
def test_a_killed_study_is_read_with_its_log_where_nothing_can_be_written(
    tmp_path: Path, with_index: bool
) -> None:
    """The log of a process that was killed holds what is not in the database yet."""
    store, copy = small_study(tmp_path / "study"), tmp_path / "copy"
    copy.mkdir()
    for path in (tmp_path / "study").iterdir():
        if with_index or not path.name.endswith("-shm"):
            (copy / path.name).write_bytes(path.read_bytes())
    store.close()
    assert (copy / f"{FILE_NAME}-wal").stat().st_size > 0
    before = {p.name: p.read_bytes() for p in copy.iterdir()}
    with nobody(copy):
        assert scores(copy) == [0.25]
    assert {p.name: p.read_bytes() for p in copy.iterdir()} == before


def test_a_study_that_is_written_is_read_up_to_date(tmp_path: Path) -> None:
    store = small_study(tmp_path)
    assert scores(tmp_path) == [0.25]
    with store.transaction():
        store.set_trial(0, Status.COMPLETED, 0.125, 0.01)
    assert scores(tmp_path) == [0.125]
    store.close()
    assert scores(tmp_path) == [0.125]


# What goes wrong, in one line.


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "quota"),
        (errno.EFBIG, "limit on the size of a file"),
        (errno.EROFS, "read-only file system"),
        (errno.ELOOP, "symbolic link"),
    ],
)
def test_each_failure_has_its_words(number: int, words: str) -> None:
    found = explain(OSError(number, os.strerror(number)), Path("a/file"))
    assert words in str(found)
    assert ("the disk is full" in str(found)) == (number == errno.ENOSPC)


def test_words_of_a_damaged_file_are_not_taken_for_those_of_sqlite() -> None:
    error = sqlite3.OperationalError("Could not decode to UTF-8 column 'curves' with text 'full'")
    found = explain(error, Path("x/study.sqlite"))
    assert isinstance(found, UserError)
    assert str(found) == "x/study.sqlite is corrupt and was left as it is; give another directory"


def test_a_limit_on_file_sizes_is_not_a_full_disk(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    store = Store.open(tmp_path)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**17, before[1]))
        with pytest.raises(MachineError, match="limit on the size of a file"):
            write_file(tmp_path / "large", b"x" * 2**18)
        with pytest.raises(MachineError, match="limit on the size of a file"), store.transaction():
            store.keep("weights", (0, 0, 0), b"x" * 2**18)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
        store.close()
    assert not list(tmp_path.glob("*large*"))


def test_an_unreadable_study_is_not_said_to_be_unwritable(tmp_path: Path) -> None:
    error = sqlite3.OperationalError("unable to open database file")
    assert str(explain(error, tmp_path, reading=True)).startswith("cannot read")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_in_a_study_is_not_waited_for(tmp_path):
    pipe = tmp_path / FILE_NAME
    os.mkfifo(pipe)
    with pytest.raises(OSError, match="no regular file"):
        read_file(pipe)
    for read_only in (True, False):
        with pytest.raises(MachineError, match="no regular file"):
            Store.open(tmp_path, read_only=read_only)
    (tmp_path / "file").write_bytes(b"content")
    assert read_file(tmp_path / "file") == b"content"
    with pytest.raises(IsADirectoryError):
        read_file(tmp_path)
