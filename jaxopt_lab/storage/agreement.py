"""Settings that a study keeps for ever: stored once, compared ever after."""

from pathlib import Path
from typing import Any

from jaxopt_lab.core.errors import UserError
from jaxopt_lab.core.tracing.naming import without_addresses
from jaxopt_lab.storage.store import Store


def agree(store: Store, wanted: dict[str, Any], directory: Path | None) -> None:
    """Store settings, or refuse if they differ from those stored.

    Addresses in memory, which the `repr` of a function has, are no difference.

    Args:
      store: of the study.
      wanted: name -> JSON-like value.
      directory: of the study, for the message.

    Raises:
      UserError: naming the first setting that differs, and how.
    """
    stored, wanted = _lasting(store.settings()), _lasting(wanted)
    begun = "this study" if directory is None else f"the study in {directory}"
    another = "another study" if directory is None else "another directory"
    differing = [k for k, v in wanted.items() if k in stored and stored[k] != v]
    if differing:
        name = differing[0]
        if _other_table(stored[name], wanted[name]):
            raise UserError(
                f"the table has changed since {begun} began; give it as it was, or {another}"
            )
        old, new = _difference(stored[name], wanted[name])
        others = f" (and {', '.join(differing[1:])})" if differing[1:] else ""
        raise UserError(
            f"{begun} has another {name}{others}: {old} there, {new} now; give the same settings, "
            f"or {another}"
        )
    with store.transaction():
        for name in wanted.keys() - stored.keys():
            store.set(name, wanted[name])


def _lasting(value: Any) -> Any:
    """A JSON-like value as any process would give it."""
    if isinstance(value, dict):
        return {name: _lasting(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_lasting(part) for part in value]
    return without_addresses(value) if isinstance(value, str) else value


def _other_table(old: Any, new: Any) -> bool:
    """Whether two descriptions of a task differ in the content of their table."""
    both = isinstance(old, dict) and isinstance(new, dict)
    return both and "sha256" in old and old["sha256"] != new.get("sha256")


def _difference(old: Any, new: Any) -> tuple[Any, Any]:
    """The first part in which two settings differ."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in [*old, *new]:
            if old.get(key) != new.get(key):
                return f"{key} = {old.get(key)!r}", f"{new.get(key)!r}"
    return repr(old), repr(new)
