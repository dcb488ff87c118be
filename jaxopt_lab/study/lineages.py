"""Who learnt on from whom: the generations of a population as they are stored, and schedules."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from jaxopt_lab.core.status import Config
from jaxopt_lab.spaces.values import plain
from jaxopt_lab.storage.store import Store

if TYPE_CHECKING:
    import pandas as pd

#: Kinds of decisions.
POPULATION, GENERATION = "population", "generation"


class Generation(NamedTuple):
    """One generation of a population, over.

    Attributes:
      phase: of its trials.
      population: its number in the phase.
      generation: its number, from 0.
      unit: units trained before it.
      units: that it trained.
      trials: those that trained in it.
      parents: for each, the trial whose state goes on in its place.
      scores: for each, what is minimised at its end; None if not finite.
      configs: for each, the values that it trained with.
    """

    phase: str
    population: int
    generation: int
    unit: int
    units: int
    trials: tuple[int, ...]
    parents: tuple[int, ...]
    scores: tuple[float | None, ...]
    configs: tuple[Config, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON."""
        return self._asdict()

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Generation":
        """Read what `to_dict` wrote."""
        lists: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in content.items()
        }
        configs = ({name: plain(v) for name, v in c.items()} for c in content["configs"])
        return cls(**{**lists, "configs": tuple(configs)})


class Stage(NamedTuple):
    """A part of a schedule: values that a state was trained with.

    Attributes:
      trial_id: in whose place it was.
      generation: which one.
      unit: units trained before.
      units: trained with these values.
      score: what is minimised at its end; None if not finite.
      config: the values.
    """

    trial_id: int
    generation: int
    unit: int
    units: int
    score: float | None
    config: Config


def generations_of(store: Store) -> list[Generation]:
    """All generations of a study, in the order in which they ended."""
    return [Generation.from_dict(content) for content in store.decisions(GENERATION)]


def first_values(store: Store) -> dict[int, Config]:
    """Trial -> the values that it began with, of trials that have been in a population."""
    found: dict[int, Config] = {}
    for generation in generations_of(store):
        if generation.generation == 0:
            found.update(zip(generation.trials, generation.configs, strict=True))
    return found


def schedule_of(
    generations: Sequence[Generation],
    trial_id: int,
    config: Config,
    score: float | None,
    units: int,
) -> list[Stage]:
    """The values that the state of a trial was trained with, from its root on.

    Args:
      generations: of the study.
      trial_id: whose state.
      config: its values, of a trial that is in no population.
      score: its score, likewise.
      units: that it has trained, likewise.
    """
    mine = [g for g in generations if trial_id in g.trials]
    if not mine:
        return [Stage(trial_id, 0, 0, units, score, config)]
    same = [
        g
        for g in generations
        if (g.phase, g.population) == (mine[0].phase, mine[0].population)
        and g.generation <= mine[-1].generation
    ]
    stages, at = [], trial_id
    for g in reversed(same):
        at = g.parents[g.trials.index(at)]
        place = g.trials.index(at)
        stages.append(Stage(at, g.generation, g.unit, g.units, g.scores[place], g.configs[place]))
    return stages[::-1]


def schedule_frame(stages: Sequence[Stage], sign: int) -> "pd.DataFrame":
    """A schedule as a table: one row per generation, hyperparameters as columns."""
    import pandas as pd

    rows = [
        {
            **{k: v for k, v in stage._asdict().items() if k not in ("config", "score")},
            "score": None if stage.score is None else sign * stage.score,
            **stage.config,
        }
        for stage in stages
    ]
    return pd.DataFrame(rows)


def to_frame(store: Store, sign: int) -> "pd.DataFrame":
    """All members of all generations as a table: whom each began from, its values, its score."""
    import pandas as pd

    rows: list[dict[str, Any]] = []
    began: dict[tuple[str, int], dict[int, int]] = {}
    for g in generations_of(store):
        parents = began.get((g.phase, g.population), {})
        facts = {k: getattr(g, k) for k in ("phase", "population", "generation", "unit", "units")}
        for trial_id, score, config in zip(g.trials, g.scores, g.configs, strict=True):
            rows.append(
                {
                    **facts,
                    "trial_id": trial_id,
                    "parent": parents.get(trial_id, trial_id),
                    "score": None if score is None else sign * score,
                    **config,
                }
            )
        began[g.phase, g.population] = dict(zip(g.trials, g.parents, strict=True))
    columns = ("phase", "population", "generation", "unit", "units", "trial_id", "parent", "score")
    return pd.DataFrame(rows, columns=None if rows else list(columns))
