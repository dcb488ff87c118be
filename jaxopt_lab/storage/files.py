"""Files that are there whole or not at all, and what goes wrong with files in one line."""

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from jaxopt_lab.core.errors import MachineError, UserError


def write_file(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all, also after a power cut.

    Raises:
      MachineError: if the disk is full or the directory cannot be written.
    """
    temporary = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(temporary, "wb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise explain(error, path) from None


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


def explain(error: Exception, path: Path | None) -> Exception:
    """One clear line for a failure of the file or the machine."""
    text = str(error).lower()
    if isinstance(error, OSError) and error.strerror:
        text = error.strerror.lower()
    if "full" in text or "no space" in text or "disk i/o" in text:
        return MachineError(f"the disk is full: cannot write {path}; make room and run it again")
    if "locked" in text or "busy" in text:
        return MachineError(f"{path} is in use by another process; wait for it or stop it")
    if "not a database" in text or "malformed" in text or "encrypted" in text:
        return UserError(f"{path} is corrupt and was left as it is; give another directory")
    return MachineError(f"cannot write {path}: {text}; choose another directory")
