"""One thread that writes while a study trains, in the order in which it is told."""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

Result = TypeVar("Result")

#: Calls that may wait: what an interruption leaves to be written before the process ends.
MOST_WAITING = 32


class Background:
    """Calls functions one after another on a thread of its own.

    The first error ends it: what still waits is dropped, and the error is raised at the next call,
    once. At the end of the process the thread finishes what waits.

    Args:
      most: calls that may wait; one more waits for room, so that a slow library slows a study down
        and does not fill the memory.

    Examples:
      >>> found = []
      >>> background = Background()
      >>> background.do(found.append, 1)
      >>> background.ask(lambda: len(found))
      1
      >>> background.finish()
    """

    def __init__(self, most: int = MOST_WAITING) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="jaxopt_lab writes")
        self._room = threading.Semaphore(most)
        self._error: BaseException | None = None

    def do(self, function: Callable[..., Any], *arguments: Any) -> None:
        """Call a function later.

        Raises:
          BaseException: what an earlier call raised.
        """
        self._submit(function, *arguments)

    def ask(self, function: Callable[..., Result], *arguments: Any) -> Result:
        """Call a function behind those that wait, and wait for what it returns.

        Raises:
          BaseException: what it or an earlier call raised.
        """
        found: Result = self._wait(self._submit(function, *arguments))
        self._check()
        return found

    def finish(self) -> None:
        """Wait until everything is done, and end the thread.

        Raises:
          BaseException: what a call raised.
          KeyboardInterrupt: on a second Ctrl-C; what waits is dropped.
        """
        try:
            self.ask(lambda: None)
        finally:
            self._thread.shutdown(wait=False)

    def _submit(self, function: Callable[..., Any], *arguments: Any) -> "Future[Any]":
        self._check()
        self._room.acquire()
        return self._thread.submit(self._call, function, *arguments)

    def _call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return function(*arguments) if self._error is None else None
        except BaseException as error:
            self._error = error
            return None
        finally:
            self._room.release()

    def _wait(self, future: "Future[Any]") -> Any:
        try:
            return future.result()
        except BaseException:
            self._thread.shutdown(wait=False, cancel_futures=True)
            raise

    def _check(self) -> None:
        if self._error is not None:
            self._thread.shutdown(wait=False)
            raise self._error
