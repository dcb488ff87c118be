"""Train variants of a problem of any kind side by side."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxopt_lab.core.cohorts import Job
from jaxopt_lab.core.runner import Runner
from jaxopt_lab.core.tracing.naming import without_addresses
from jaxopt_lab.planning.costs import UNKNOWN_EPOCH
from jaxopt_lab.problems.general.programs import StaticProgram
from jaxopt_lab.stabilization import walk
from jaxopt_lab.stabilization.comparison import NUM_CONFIRMED
from jaxopt_lab.stabilization.finished import Finished
from jaxopt_lab.stabilization.general import decay, variants
from jaxopt_lab.stabilization.general.knobs import Knobs
from jaxopt_lab.stabilization.general.mended_rows import MendedRows
from jaxopt_lab.stabilization.general.noise import make_probe
from jaxopt_lab.stabilization.members import Member
from jaxopt_lab.stabilization.places import Group, best_width
from jaxopt_lab.stabilization.rows import SOUND
from jaxopt_lab.stabilization.side_by_side import SideBySide

#: Variants that train together, at most: a cohort shares its seed, and there are few in each.
_WIDTH, _ACCELERATOR_WIDTH = 8, 32


class Variants(SideBySide):
    """Variants of one configuration of a problem.

    Args:
      knobs: problem and configuration.
      num_units: of budget, of each training.
      seed: of initial states and of what variants share.
      devices: JAX devices; all local ones by default.
      directory: keeps finished trainings; None keeps nothing.
      rows: of the problem, with those that variants are trained on; None: as they are given.
    """

    def __init__(
        self,
        knobs: Knobs,
        num_units: int,
        seed: int,
        devices: Sequence[jax.Device] | None = None,
        directory: str | Path | None = None,
        rows: MendedRows | None = None,
    ) -> None:
        self.rows = rows or MendedRows(knobs.problem, (), SOUND, 0)
        self.knobs, self.base, self.num_epochs = knobs, knobs.base, num_units
        self.runner = Runner(knobs.training, seed, None, devices)
        self._own = knobs.program(self.base)
        most = _WIDTH if self.runner.on_cpu else _ACCELERATOR_WIDTH
        largest = min(self.runner.width(self._own), most)
        epoch = UNKNOWN_EPOCH[self.runner.on_cpu]
        width = best_width(self._groups(), largest, lambda _: epoch)
        self.runner.use_width(self._own, width)
        if directory is not None:
            setting = {
                "problem": knobs.problem.describe(),
                "program": _fingerprint(knobs),
                "base": {name: repr(value) for name, value in self.base.items()},
                "stream": [len(self.runner.devices), seed],
                "jax": jax.__version__,
            }
            arrays = [np.asarray(leaf) for leaf in jax.tree.leaves(knobs.problem.data)]
            self.finished = Finished(directory, arrays, setting)

    def _groups(self) -> list[Group]:
        """Of variants that can train together: those of the base's own program."""
        knobs, first = self.knobs, variants.ladder(self.knobs)
        tried = variants.cures(knobs)
        steps = walk.walked(walk.steps(variants.start(knobs)), [*first, *tried])
        second = [*tried, *walk.missing(steps)]
        configs = [[m.config(self.base) for m in stage] for stage in (first, second)]
        own = [sum(knobs.program(knobs.traced(c)) == self._own for c in stage) for stage in configs]
        others = [Group(1)] * len(self.rows.members)
        return [*map(Group, own), *others, Group(NUM_CONFIRMED + 1, is_fresh=True)]

    def job(self, number: int, member: Member, replicate: int) -> Job:
        """One training. Replicates go through the problem's splits and seeds in turn."""
        config = self.knobs.traced(member.config(self.base))
        program, most = self.knobs.program(config), self.knobs.problem.num_members
        most //= 1 + len(self.rows.members)
        fold = self.rows.fold(replicate % most, member)
        if program != self._own:
            self.runner.use_width(program, 1)
        units = (self.num_epochs, self.num_epochs)
        return Job(number, fold, replicate, config, program, *units, twin=0)

    @property
    def make_probe(self) -> Callable[[StaticProgram], Callable[..., Any]] | None:
        """The noise scale of gradients, of supervised problems."""
        setting = self.knobs.problem.extras.get("setting")
        if setting is None:
            return None
        keywords = self.knobs.training.declared.keywords

        def make(program: StaticProgram) -> Callable[..., Any]:
            made = make_probe(setting(**{k: program.values[k] for k in keywords}))
            return decay.probe_of(made) if self.knobs.has_decay else made

        return make


def _fingerprint(knobs: Knobs) -> str:
    """Of what the functions compute: a changed function is another training."""
    found = hashlib.sha256()
    for jaxpr in knobs.training.checked(knobs.program(knobs.base)).programs.values():
        found.update(without_addresses(str(jaxpr)).encode())
        for constant in jaxpr.consts:
            if not jax.dtypes.issubdtype(constant.dtype, jax.dtypes.prng_key):
                found.update(np.asarray(constant).tobytes())
    return found.hexdigest()
