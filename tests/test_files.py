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

from jaxopt_lab.core.errors import MachineError
from jaxopt_lab.core.status import Status
from jaxopt_lab.storage.files import explain, write_file, write_output
from jaxopt_lab.storage.store import FILE_NAME, LOCK_NAME, Store


<<<<<<< HEAD
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
=======
def excel(title: bool = False) -> bytes:
    content = io.BytesIO()
    with pd.ExcelWriter(content, engine="openpyxl") as book:
        pd.DataFrame(RECORDS).to_excel(book, index=False, startrow=2 * title)
        if title:
            book.book.active["A1"] = "Sales report 2024"
    return content.getvalue()


def zipped() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("houses.csv", CSV)
    return content.getvalue()


ARFF = (
    "% made up\n@relation houses\n\n@attribute size numeric\n"
    "@attribute kind {flat,house,loft,barn}\n@attribute price numeric\n@data\n"
)

READ = {
    "csv": CSV.encode(),
    "sep line": ("sep=;\n" + CSV.replace(",", ";")).encode(),
    "comment": ("# exported 2024-01-01\n" + CSV).encode(),
    "title": ("Sales report 2024\n\n" + CSV).encode(),
    "two titles": ("Sales report 2024,,\n,,\nall sales,,\n" + CSV).encode(),
    "blanks": CSV.replace(",", " ").encode(),
    "aligned": "".join(
        "".join(f"{field:<12}" for field in line.split(",")) + "\n" for line in CSV.splitlines()
    ).encode(),
    "trailing blank lines": (CSV + "\n\n  \n").encode(),
    "gzip": gzip.compress(CSV.encode()),
    "two gzip members": gzip.compress(CSV[:50].encode()) + gzip.compress(CSV[50:].encode()),
    "bzip2": bz2.compress(CSV.encode()),
    "xz": lzma.compress(CSV.encode()),
    "zip": zipped(),
    "excel": excel(),
    "excel with a title": excel(title=True),
    "json": json.dumps(RECORDS).encode(),
    "json of columns": json.dumps({"size": SIZES, "kind": KINDS, "price": PRICES}).encode(),
    "json about rows": json.dumps({"count": ROWS, "rows": RECORDS}, indent=1).encode(),
    "json lines": "".join(json.dumps(row) + "\n" for row in RECORDS).encode(),
    "arff": (ARFF + "\n".join(LINES) + "\n").encode(),
    "utf-16 without a mark": CSV.encode("utf-16-le"),
    "utf-16 big-endian": CSV.encode("utf-16-be"),
    "old Macintosh lines": CSV.replace("\n", "\r").encode(),
    "quoted": CSV.replace("flat", '"flat"').encode(),
}


@pytest.mark.parametrize("case", READ)
def test_formats_read_as_the_csv(tmp_path, case):
    path = tmp_path / "houses.dat"
    path.write_bytes(READ[case])
    table = load_table(path, "price", task="regression")
    np.testing.assert_array_equal(table.target, PRICES)
    np.testing.assert_array_equal(table.frame["size"], SIZES)
    assert table.frame["kind"].tolist() == KINDS
    assert list(table.frame.columns) == ["size", "kind"]
    assert len(load_frame(path, wanted=["size", "kind"])) == ROWS


REFUSED = {
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n", "Git LFS"),
    "html": (b"<!DOCTYPE html>\n<html><body>Sign in</body></html>", "HTML page"),
    "html without doctype": (b"\n <html lang=en><body>x,y\n1,2</body></html>", "HTML page"),
    "xml": (b"<?xml version='1.0'?>\n<rows><row a='1'/></rows>", "XML"),
    "pdf": (b"%PDF-1.7\n1 0 obj\n", "PDF"),
    "xls": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(99), "old Excel"),
    "sqlite": (b"SQLite format 3\0" + bytes(99), "SQLite"),
    "json scalar": (b"[1, 2, 3", "valid JSON|no table|no column"),
    "json nested": (b'{"a": {"b": 1}, "c": 2}', "no table"),
    "json broken": (b'[{"a": 1}, {"a": ]', "not valid JSON"),
    "json lines broken": (b'{"a": 1}\n{"a": 2}\n{"a"\n', "line 3"),
    "arff": (b"@relation x\n@attribute a string\n@data\nfoo\n", "ARFF"),
    "headless": (CSV.split("\n", 1)[1].encode(), "first line looks like data"),
    "quote": (CSV.replace("house", '"house', 1).encode(), "never closed"),
    "damaged bzip2": (bz2.compress(CSV.encode())[:40], "damaged or incomplete bzip2"),
    "damaged xlsx": (excel()[:400], "damaged zip or Excel"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_table_is_named(tmp_path, case):
    data, message = REFUSED[case]
    path = tmp_path / "t.csv"
    path.write_bytes(data)
    with pytest.raises(UserError, match=message) as caught:
        load_table(path, "price")
    assert "\n" not in str(caught.value)


def test_encodings_are_detected(tmp_path):
    def read(text, encoding):
        path = tmp_path / "t.csv"
        path.write_bytes(text.encode(encoding))
        return load_table(path, "price")

    euros = "size,price\n" + "".join(f'{k},"{k},830 €"\n' for k in range(100, 140))
    table = read(euros, "cp1252")
    np.testing.assert_array_equal(table.target, [1000.0 * k + 830.0 for k in range(100, 140)])
    assert "Windows-1252" in table.notes[0]
    curly = CSV.replace("flat", "“flat”").replace("loft", "café").replace("barn", "barn – big")
    assert set(read(curly, "cp1252").frame["kind"]) == {"“flat”", "house", "café", "barn – big"}
    russian = CSV.replace("flat", "квартира").replace("house", "дом").replace("loft", "чердак")
    assert "квартира" in set(read(russian, "cp1251").frame["kind"])
    japanese = CSV.replace("flat", "平屋").replace("house", "部屋").replace("size", "面積")
    assert "平屋" in set(read(japanese, "shift_jis").frame["kind"])


def test_one_row_for_each_data_line(tmp_path):
    path = tmp_path / "new.csv"
    path.write_text("x\n138.28\n75.86\n\n32.81\n\n")
    assert load_frame(path)["x"].tolist() == ["138.28", "75.86", "", "32.81", ""]
    path.write_text("x,y\n1,2\n\n3,4\n\n")
    frame = load_frame(path)
    assert len(frame) == 3
    assert frame["x"].tolist() == ["1", "", "3"]


def test_prediction_needs_column_names(tmp_path):
    path = tmp_path / "new.csv"
    path.write_text("138.28,flat\n75.86,house\n")
    with pytest.raises(UserError, match="first line looks like data"):
        load_frame(path, wanted=["size", "kind"])


def test_long_fields_are_valid(tmp_path):
    long = '"' + "POLYGON " * 40_000 + '"'
    path = tmp_path / "t.csv"
    path.write_text(CSV.replace("flat", long, 1))
    table = load_table(path, "price", task="regression")
    assert max(map(len, table.frame["kind"])) > 300_000


def test_backslashes_before_quotes(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(CSV.replace("flat", '"say \\"hi\\", go"'))
    assert 'say "hi", go' in set(load_table(path, "price", task="regression").frame["kind"])


def test_names_are_one_in_every_unicode_form(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(CSV.replace("price", "Pre\u0301cio").replace("size", "Gro\u0308\u00dfe"))
    table = load_table(path, "Pr\u00e9cio")
    assert list(table.frame.columns) == ["Gr\u00f6\u00dfe", "kind"]
    assert load_table(path, "Pre\u0301cio").target_name == "Pr\u00e9cio"


def test_more_columns_than_can_be_used_are_refused_before_they_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "MAX_COLUMNS", 50)
    monkeypatch.setattr(reading, "_pandas_csv", None)
    path = tmp_path / "t.csv"
    row = ",".join(str(k) for k in range(51))
    path.write_text(",".join(f"c{k}" for k in range(51)) + "\n" + f"{row}\n" * 20)
    with pytest.raises(UserError, match="51 columns; at most 50"):
        load_table(path, "c50")


def test_a_bomb_is_refused_after_a_bounded_part(tmp_path):
    limit = 2**20
    path = tmp_path / "bomb.csv.gz"
    path.write_bytes(gzip.compress(CSV.encode() + b"1.5,flat,2\n" * 10**7))
    tracemalloc.start()
>>>>>>> data
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
    found = [row["score"] for row in store.trials()]
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
    with pytest.raises(MachineError, match="symbolic link"):
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
