"""Configurations as JSON, many at a time."""

import json
from collections.abc import Sequence

from jaxopt_lab.core.status import Config

#: Values whose JSON holds no separator, and that JSON gives back as they were.
_NUMBERS = frozenset({int, float, bool, type(None)})
#: Values that JSON gives back as they were.
_READ_ALIKE = _NUMBERS | {str}


def texts_of(configs: Sequence[Config]) -> list[str]:
    """`json.dumps` of each: columns of plain values are written by one call.

    Examples:
      >>> texts_of([{"rate": 0.1, "rule": "adam"}, {"rate": 1.0, "rule": "adam"}])
      ['{"rate": 0.1, "rule": "adam"}', '{"rate": 1.0, "rule": "adam"}']
    """
    names = list(configs[0]) if configs else []
    if not names or any(list(config) != names for config in configs):
        return [json.dumps(config) for config in configs]
    columns = [_column([config[name] for config in configs]) for name in names]
    # Names are text in JSON, too; a percent sign would be read as a place.
    places = (json.dumps(name).replace("%", "%%") + ": %s" for name in names)
    row = "{" + ", ".join(places) + "}"
    return [row % values for values in zip(*columns, strict=True)]


def read_alike(config: Config) -> bool:
    """Whether JSON gives back all values as they were."""
    return _READ_ALIKE.issuperset(map(type, config.values()))


def _column(values: Sequence[object]) -> list[str]:
    if _NUMBERS.issuperset(map(type, values)):
        return json.dumps(values)[1:-1].split(", ")
    return [json.dumps(value) for value in values]
