"""Finished trainings of a diagnosis on disk, so that one that was stopped goes on.

A training is found by what it is: rows, network, loss, configuration, seeds, epochs. What asks for
it again, and when, does not matter.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from jaxopt_lab.core.cohorts import Job
from jaxopt_lab.core.results import Result
from jaxopt_lab.core.tracing.naming import without_addresses
from jaxopt_lab.storage.files import check_folder, write_file

FOLDER = "finished"


class Finished:
    """Trainings in a folder of the directory that receives the diagnosis.

    Args:
      directory: of the diagnosis.
      arrays: rows that are trained on.
      setting: what else all trainings have in common, as plain values.

    Raises:
      MachineError: if nothing can be written to the directory; hours of training would be lost.
    """

    def __init__(
        self, directory: str | Path, arrays: Iterable[np.ndarray], setting: Mapping[str, Any]
    ) -> None:
        check_folder(Path(directory))
        self._folder = Path(directory) / FOLDER
        facts = without_addresses(json.dumps(setting, sort_keys=True))
        common = hashlib.sha256(facts.encode())
        for array in arrays:
            values = np.ascontiguousarray(array)
            common.update(f"{values.shape} {values.dtype}".encode())
            common.update(values.tobytes())
        self._common = common

    def _path(self, job: Job, probe: bool) -> Path:
        key = self._common.copy()
        facts = [job.config, job.replicate, job.num_units, probe, job.fold]
        key.update(json.dumps(facts, sort_keys=True, default=repr).encode())
        return self._folder / f"{key.hexdigest()[:32]}.safetensors"

    def put(self, result: Result, probe: bool) -> None:
        """Keep the curves of a training; on disk when this returns.

        Raises:
          MachineError: if they cannot be written.
        """
        arrays = {f"curves/{k}": v for k, v in result.curves.items()}
        arrays |= {f"probed/{k}": v for k, v in result.probed.items()}
        content = save({k: np.array(v, order="C") for k, v in arrays.items()})
        write_file(self._path(result.job, probe), content)

    def get(self, job: Job, probe: bool) -> Result | None:
        """A training kept before, without its weights and outputs; None if there is none."""
        try:
            arrays = load(self._path(job, probe).read_bytes())
        except (OSError, SafetensorError):
            return None
        curves, probed = (
            {k.removeprefix(kind): v for k, v in arrays.items() if k.startswith(kind)}
            for kind in ("curves/", "probed/")
        )
        return Result(job, curves, {}, dict, probed)
