"""The lock that a process holds on a study: given up when it ends, however it ends.

POSIX: `flock` on a file that is never emptied and reached through no link. Elsewhere `filelock`.
"""

import os
from collections.abc import Callable
from pathlib import Path

from jaxopt_lab.storage.files import open_lock

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


def take(path: Path) -> Callable[[], None]:
    """Take a lock, or fail at once.

    Args:
      path: of the lock file, which is made if it is not there and stays.

    Returns:
      What gives the lock up.

    Raises:
      BlockingIOError: if somebody else holds it.
      OSError: if the file cannot be opened, as where the name is a link.
    """
    if fcntl is None:
        return _take_portably(path)
    handle = open_lock(path)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(handle)
        raise
    return lambda: os.close(handle)


def _take_portably(path: Path) -> Callable[[], None]:
    import filelock

    # Whichever thread forgets a study gives its lock up.
    lock = filelock.FileLock(path, thread_local=False)
    try:
        lock.acquire(blocking=False)
    except filelock.Timeout:
        raise BlockingIOError(f"{path} is locked") from None
    return lock.release
