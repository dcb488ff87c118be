"""Files that are there whole or not at all, and what goes wrong with files in one line.

A study's directory may come from somebody else: `write_file`, for files that we name in it, follows
no symbolic link and opens nothing that is there already. `write_output`, for a file that the user
names, does as a shell would.
"""

import errno
import gzip
import os
import secrets
import sqlite3
import stat
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

from jaxopt_lab.core.errors import MachineError, UserError

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

#: Follow no link, leave nothing open to children, change no byte; where a platform has such flags.
_SAFELY = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
#: Do not wait for somebody to write into a pipe.
_AT_ONCE = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
#: Writes to standard output, as the name of an output.
STDOUT = "-"


def write_file(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all, also after a power cut.

    A symbolic link of this name is replaced, not followed.

    Raises:
      MachineError: if the disk is full or the directory cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, content)
    except OSError as error:
        raise explain(error, path) from None


def write_output(name: str | Path, content: bytes) -> None:
    """Write what a command was asked for: `-` is standard output, `.gz` compresses.

    Links are followed, a regular file is replaced in one step, and what is no regular file (a pipe,
    a device) is written to as it is.

    Args:
      name: as the user gave it.
      content: uncompressed.

    Raises:
      MachineError: if it cannot be written.
      BrokenPipeError: if nobody reads the pipe any more.
    """
    if str(name) == STDOUT:
        sys.stdout.flush()
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
        return
    path = Path(name)
    if path.suffix == ".gz":
        content = gzip.compress(content, mtime=0)
    try:
        if is_stream(path):
            with open(path, "wb") as handle:
                handle.write(content)
            return
        target = Path(os.path.realpath(path))
        target.parent.mkdir(parents=True, exist_ok=True)
        _replace(target, content)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise explain(error, path) from None


def read_file(path: Path) -> bytes:
    """Read a file of a study: a pipe or a device of that name, which may never end, is refused.

    Raises:
      OSError: if it cannot be read, or is no regular file.
    """
    handle = os.open(path, os.O_RDONLY | _AT_ONCE)
    with open(handle, "rb") as file:
        check_regular(path, os.fstat(handle))
        return file.read()


def check_regular(path: Path, found: os.stat_result | None = None) -> None:
    """Refuse what is there, but is no regular file.

    Raises:
      OSError: if it is a folder, a pipe or a device.
    """
    found = found or os.stat(path)
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "It is no regular file", str(path))


def is_stream(name: str | Path) -> bool:
    """Whether an output is standard output, a pipe or a device: nothing that is kept as a file."""
    if str(name) == STDOUT:
        return True
    path = Path(name)
    return path.exists() and not path.is_file() and not path.is_dir()


def _replace(path: Path, content: bytes) -> None:
    """Write beside `path` under a name of our own, then rename; the old file's mode stays."""
    temporary = path.with_name(f".{path.name[:100]}.{secrets.token_hex(8)}.part")
    # Exclusively and without following links, so that nobody can have laid the name out for us.
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _SAFELY
    handle = os.open(temporary, flags, 0o666)
    try:
        with open(handle, "wb") as file:
            file.write(content)
            file.flush()
            with suppress(OSError):
                before = os.lstat(path)
                if stat.S_ISREG(before.st_mode) and hasattr(os, "fchmod"):
                    os.fchmod(file.fileno(), before.st_mode & 0o777)
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(temporary)
        raise


def open_lock(path: Path) -> int:
    """Open a lock file, made if it is not there: never emptied, no link followed.

    Returns:
      A file descriptor.

    Raises:
      OSError: if it cannot be opened, as where the name is a link.
    """
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NONBLOCK | _SAFELY, 0o666)


def refuse_link(path: Path) -> None:
    """Refuse to write through a symbolic link in a study's directory.

    Raises:
      MachineError: if there is one of this name.
    """
    if path.is_symlink():
        raise MachineError(
            f"{path} is a symbolic link, and nothing of a study is written through one; remove "
            "the link, or choose another directory"
        )


def check_folder(path: Path) -> None:
    """Make a folder, and see that files can be made in it.

    Raises:
      MachineError: if not.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
    except OSError as error:
        raise explain(error, path) from None


def explain(error: Exception, path: Path | None, reading: bool = False) -> Exception:
    """One clear line for a failure of the file or the machine.

    Args:
      error: an `OSError` or `sqlite3.Error`.
      path: of the file.
      reading: whether it was only to be read.
    """
    text = str(error).lower()
    if isinstance(error, OSError) and error.strerror:
        text = error.strerror.lower()
    corrupt = UserError(f"{path} is corrupt and was left as it is; give another directory")
    if text.startswith("could not decode"):  # what follows are words of the file, not of SQLite
        return corrupt
    if _at_limit(error, path):
        return MachineError(
            f"cannot write {path}: the limit on the size of a file is reached; raise it "
            "(ulimit -f) and run it again"
        )
    if isinstance(error, OSError) and error.errno == getattr(errno, "EDQUOT", None):
        return MachineError(
            f"your disk quota is used up: cannot write {path}; make room and run it again"
        )
    if isinstance(error, OSError) and error.errno == errno.ELOOP:
        return MachineError(
            f"{error.filename or path} leads through a symbolic link, and nothing of a study is "
            "written through one; remove the link, or choose another directory"
        )
    if "full" in text or "no space" in text:
        return MachineError(f"the disk is full: cannot write {path}; make room and run it again")
    if "disk i/o" in text or "input/output" in text:
        return MachineError(
            f"the disk fails, or is full: cannot read or write {path}; look at it (df, dmesg) and "
            "run it again"
        )
    if "locked" in text or "busy" in text:
        return MachineError(f"{path} is in use by another process; wait for it or stop it")
    if "not a database" in text or "malformed" in text or "encrypted" in text:
        return corrupt
    if reading:
        return MachineError(f"cannot read {path}: {text}")
    return MachineError(f"cannot write {path}: {text}; choose another directory")


def _at_limit(error: Exception, path: Path | None) -> bool:
    """Whether a write failed at the limit on file sizes of this process."""
    if isinstance(error, OSError):
        return error.errno == errno.EFBIG
    if not isinstance(error, sqlite3.Error) or path is None or resource is None:
        return False
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    if limit == resource.RLIM_INFINITY or ("full" not in str(error) and "I/O" not in str(error)):
        return False
    # SQLite does not say why a write failed; it writes some pages at a time.
    files = (path, path.with_name(f"{path.name}-wal"))
    largest = max((file.stat().st_size for file in files if file.exists()), default=0)
    return largest + 2**20 > limit
