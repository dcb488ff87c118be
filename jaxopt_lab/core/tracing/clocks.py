"""Clocks that go wrong while functions are traced a second time, so that what reads them shows."""

from __future__ import annotations

import builtins
import datetime
import sys
import time
from collections.abc import Callable
from types import ModuleType, TracebackType
from typing import Any

from jaxopt_lab.core.tracing.naming import is_users_module

#: Far enough for float32, and no two clocks agree in seconds, minutes, hours, days or weekdays.
_SHIFT = datetime.timedelta(days=2677, hours=5, minutes=17, seconds=23, microseconds=456789)
_CLOCKS = ("time", "time_ns", "perf_counter", "perf_counter_ns", "monotonic", "monotonic_ns")


class ShiftedClocks:
    """Shifts the clocks of the user's functions until it is left.

    These are what the user's modules hold, as globals, and what functions in them import.

    Attributes:
      read: the clock that was read first, as "time.time"; None if none was.
    """

    def __init__(self) -> None:
        self.read: str | None = None
        self._before: list[tuple[dict[str, Any], str, Any, Any]] = []
        self._import = builtins.__import__

    def __enter__(self) -> ShiftedClocks:
        shifted = self._shifted()
        for module in list(sys.modules.values()):
            if not is_users_module(module):
                continue
            for name, value in list(vars(module).items()):
                other = next((new for old, new in shifted if value is old), None)
                if other is not None:
                    self._before.append((vars(module), name, value, other))
                    vars(module)[name] = other
        self._import, builtins.__import__ = builtins.__import__, self._importing(shifted)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        builtins.__import__ = self._import
        for scope, name, value, other in self._before:
            if scope.get(name) is other:
                scope[name] = value
        self._before.clear()

    def _shifted(self) -> list[tuple[Any, Any]]:
        functions = [(getattr(time, name), self._function(name)) for name in _CLOCKS]
        classes: list[tuple[Any, Any]] = [
            (datetime.datetime, self._class(datetime.datetime, "now", "utcnow", "today")),
            (datetime.date, self._class(datetime.date, "today")),
        ]
        modules = [(time, _copy(time, functions)), (datetime, _copy(datetime, classes))]
        return [*functions, *classes, *modules]

    def _importing(self, shifted: list[tuple[Any, Any]]) -> Callable[..., Any]:
        """What `import` does meanwhile: modules of clocks are shifted for the user's functions.

        What a module itself imports stays as it is, for it would keep it.
        """
        before = builtins.__import__

        def importing(name: str, globals: Any = None, locals: Any = None, *rest: Any) -> Any:
            found = before(name, globals, locals, *rest)
            clock = next((new for old, new in shifted if found is old), None)
            if clock is None or globals is None or locals is globals:
                return found
            module = sys.modules.get(globals.get("__name__", ""))
            return clock if module is not None and is_users_module(module) else found

        return importing

    def _note(self, name: str) -> None:
        self.read = self.read or name

    def _function(self, name: str) -> Callable[[], Any]:
        clock = getattr(time, name)
        seconds = _SHIFT.total_seconds()
        shift = round(seconds * 1e9) if name.endswith("_ns") else seconds

        def shifted() -> Any:
            self._note(f"time.{name}")
            return clock() + shift

        return shifted

    def _class(self, kind: type, *names: str) -> type:
        """A class that passes for `kind`, some of whose constructors read a shifted clock."""

        class Alike(type):
            def __instancecheck__(cls, value: Any) -> bool:
                return isinstance(value, kind)

        def shifted(name: str) -> classmethod:
            def read(_: type, *arguments: Any) -> Any:
                self._note(f"{kind.__name__}.{name}")
                return getattr(kind, name)(*arguments) + _SHIFT

            return classmethod(read)

        return Alike(kind.__name__, (kind,), {name: shifted(name) for name in names})


def _copy(module: ModuleType, changes: list[tuple[Any, Any]]) -> ModuleType:
    copy = ModuleType(module.__name__)
    vars(copy).update(vars(module))
    for name, value in vars(module).items():
        for old, new in changes:
            if value is old:
                setattr(copy, name, new)
    return copy
