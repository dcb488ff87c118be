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
      words: name elsewhere -> how it is written here.

    Examples:
      >>> missing("a study", "best_value", ["best"], {"best_value": "study.best.score"})
      AttributeError("a study has no attribute 'best_value'; write study.best.score")
    """
    if name in words:
        hint = f"; write {words[name]}"
    else:
        near = did_you_mean(name, [n for n in known if not n.startswith("_")])
        hint = f".{near}" if near and not name.startswith("_") else ""
    return AttributeError(f"{owner} has no attribute {name!r}{hint}")
