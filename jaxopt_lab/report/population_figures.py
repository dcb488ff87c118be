"""Populations over time: who went on from whom, and with which values."""

from collections.abc import Sequence
from typing import Any

from jaxopt_lab.report import words
from jaxopt_lab.report.contents import Contents
from jaxopt_lab.report.figures import Figure, axis, line, paint, place, points, value_axis
from jaxopt_lab.spaces.distributions import Distribution

#: Members of a population that are drawn, at most; the winner's lineage always is.
MAX_MEMBERS = 128


class Told:
    """One population as its generations tell it.

    Args:
      rows: its generations, in their order, from `Contents.generations`.
      winner: the trial that won, or None.
    """

    def __init__(self, rows: Sequence[dict[str, Any]], winner: int | None) -> None:
        self.rows = list(rows)
        self.members = list(self.rows[0]["trials"])[:MAX_MEMBERS]
        self.num_members = len(self.rows[0]["trials"])
        self.lineage = self._lineage(winner)

    def _lineage(self, winner: int | None) -> list[int]:
        """In whose place the winner's state was, generation by generation; [] if it is none of
        theirs."""
        if winner is None or winner not in self.rows[-1]["trials"]:
            return []
        at, found = winner, []
        for row in reversed(self.rows):
            at = row["parents"][row["trials"].index(at)]
            found.append(at)
        return found[::-1]

    def began(self, number: int) -> dict[int, int]:
        """Trial -> whose state it began a generation from."""
        if number == 0:
            return {}
        row = self.rows[number - 1]
        return dict(zip(row["trials"], row["parents"], strict=True))


def populations(contents: Contents) -> list[Told]:
    """All populations of a study, those of its phases one after the other."""
    found: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for row in contents.generations:
        found.setdefault((row["phase"], row["population"]), []).append(row)
    return [Told(rows, contents.winner) for rows in found.values()]


def tree(contents: Contents, told: Told, key: str) -> Figure:
    """A line per member; a copy's begins at its parent's. The winner's lineage in front."""
    height = {trial_id: i for i, trial_id in enumerate(told.members)}
    for trial_id in told.lineage:
        height.setdefault(trial_id, len(height))
    stays: tuple[list[Any], list[Any]] = ([], [])
    copies: tuple[list[Any], list[Any]] = ([], [])
    x: list[Any] = []
    y: list[Any] = []
    text: list[Any] = []
    for number, row in enumerate(told.rows):
        began, end = told.began(number), row["unit"] + row["units"]
        for trial_id, score in zip(row["trials"], row["scores"], strict=True):
            if trial_id not in height:
                continue
            parent = began.get(trial_id, trial_id)
            if parent != trial_id and parent in height:
                _add(copies, [row["unit"], row["unit"]], [height[parent], height[trial_id]])
            _add(stays, [row["unit"], end], [height[trial_id]] * 2)
            x.append(end)
            y.append(height[trial_id])
            shown = "diverged" if score is None else words.number(contents.shown(score))
            text.append(words.html("trial {}<br>{} {}", trial_id, contents.metric, shown))
    data = [
        line(*stays, paint("muted"), name="members", line={"width": 1}, hoverinfo="skip"),
        line(*copies, paint("second"), name="copies", line={"width": 1.2}, hoverinfo="skip"),
        points(
            x, y, paint("muted"), name="end of a generation", text=text, hoverinfo="text",
            marker={"size": 4},
        ),
    ]  # fmt: skip
    if told.lineage:
        path_x, path_y = _path(told, [height[i] for i in told.lineage])
        data.append(line(path_x, path_y, paint("good"), name="winner's lineage", line={"width": 3}))
    step = max(1, len(height) // 16)
    ticks = [i for i in range(len(height)) if i % step == 0]
    names = list(height)
    layout = {
        "xaxis": axis(contents.unit.capitalize()),
        "yaxis": axis("Trial", tickvals=ticks, ticktext=[str(names[i]) for i in ticks]),
    }
    return Figure(f"lineage-{key}", data, layout, min(900, 240 + 9 * len(height)))


def over_time(contents: Contents, told: Told, key: str) -> list[Figure]:
    """One chart per hyperparameter that changed: all members, the winner's lineage in front."""
    space = contents.space
    assert space is not None
    found: list[Figure] = []
    for name, dist in space.parameters.items():
        mine: tuple[list[Any], list[Any]] = ([], [])
        path: list[Any] = []
        for number, row in enumerate(told.rows):
            end = row["unit"] + row["units"]
            values = dict(zip(row["trials"], row["configs"], strict=True))
            for trial_id in told.members:
                height = _height(dist, values.get(trial_id, {}).get(name))
                if height is not None:
                    _add(mine, [row["unit"], end], [height, height])
            if told.lineage:
                path.append(_height(dist, values[told.lineage[number]].get(name)))
        if len({value for value in mine[1] if value is not None}) < 2:
            continue
        data = [
            line(*mine, paint("muted"), name="members", opacity=0.5, hoverinfo="skip",
                 line={"width": 1})
        ]  # fmt: skip
        if path:
            data.append(
                line(*_path(told, path), paint("good"), name="winner's lineage", line={"width": 3})
            )
        layout = {
            "xaxis": axis(contents.unit.capitalize()),
            "yaxis": value_axis(name, dist),
            "showlegend": False,
        }
        found.append(Figure(f"over-time-{key}-{len(found)}", data, layout, 260))
    return found


def _add(trace: tuple[list[Any], list[Any]], x: list[Any], y: list[Any]) -> None:
    """Add a piece of line that is joined to no other."""
    trace[0].extend([*x, None])
    trace[1].extend([*y, None])


def _path(told: Told, heights: Sequence[Any]) -> tuple[list[Any], list[Any]]:
    """A line over the generations that stays as high in each as it is told."""
    x = [end for row in told.rows for end in (row["unit"], row["unit"] + row["units"])]
    return x, [height for height in heights for _ in range(2)]


def _height(dist: Distribution, value: Any) -> Any:
    """Where a value stands on its axis; None if it has no place there."""
    is_number = isinstance(value, int | float)
    return place(dist, value) if is_number or value in dist.extremes else None
