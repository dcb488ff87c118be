"""Attributes that are not there: what other libraries call them, and what they are called here."""

from collections.abc import Iterable, Mapping

from jaxopt_lab.core.errors import did_you_mean


def missing(
    owner: str, name: str, known: Iterable[str], words: Mapping[str, str]
) -> AttributeError:
    """The error of an attribute that is not there, with what was probably meant.

    Args:
      owner: what was asked, for the message.
      name: that was asked for.
      known: the names that there are.
      words: name elsewhere -> how it is written here; case and underscores do not matter.

    Examples:
      >>> missing("a study", "best_value", ["best"], {"best_value": "study.best.score"})
      AttributeError("a study has no attribute 'best_value'; write study.best.score")
    """
    written = words.get(name) or {_squeezed(word): here for word, here in words.items()}.get(
        _squeezed(name)
    )
    if written is not None:
        hint = f"; write {written}"
    else:
        near = did_you_mean(name, [n for n in known if not n.startswith("_")])
        hint = f".{near}" if near and not name.startswith("_") else ""
    return AttributeError(f"{owner} has no attribute {name!r}{hint}")


def _squeezed(name: str) -> str:
    return name.replace("_", "").casefold()
