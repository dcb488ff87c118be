"""Run waves on workers: the driver's side. Study and store stay here."""

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from jaxopt_lab.core.client import Client
from jaxopt_lab.core.cohorts import Job, Wave
from jaxopt_lab.core.errors import MachineError
from jaxopt_lab.core.results import Result
from jaxopt_lab.core.runner import Begin, MakeProbe, Runner, WaveReport
from jaxopt_lab.core.workers import Order, Trained, Transport

#: Orders that a worker has at a time: one that it trains, and one for when that is done.
DEPTH = 2
#: How often a wave may be lost with its worker before it is given up.
MAX_LOSSES = 3


class _Sent(NamedTuple):
    wave: Wave
    worker: str
    lost: int


class RemoteRunner(Runner):
    """A runner whose waves are trained by workers, several at a time.

    Waves come back in the order in which they are finished. Which worker trains one changes no
    number: a wave is the same program of the same width on as many devices everywhere.

    Args:
      client: what is trained.
      seed: the study's seed.
      widths: program -> V.
      devices: those of one worker.
      transport: to the workers.
    """

    def __init__(
        self,
        client: Client,
        seed: int,
        widths: Mapping[Any, int] | None,
        devices: Sequence[Any],
        transport: Transport,
    ) -> None:
        super().__init__(client, seed, widths, devices)
        self._transport = transport
        self._number = 0
        self._sent: dict[int, _Sent] = {}
        #: Programs that a worker has trained, and so compiled.
        self._known: dict[str, set[Any]] = {}

    def expect(self, waves: Sequence[Wave]) -> None:
        """Nothing: programs are compiled where they run."""
        del waves

    def stream(
        self,
        take: Callable[[], Wave | None],
        load: Callable[[Job], list[np.ndarray]] | None = None,
        probe: MakeProbe | None = None,
        begin: Begin | None = None,
        num_probed: int | None = None,
    ) -> Iterator[WaveReport]:
        """Train waves as they come; yield each when it is finished. Arguments as for `Runner`; a
        wave always begins from its jobs' states.

        Raises:
          MachineError: if a wave was lost with `MAX_LOSSES` workers.
        """
        del begin, num_probed
        if probe is not None:
            raise NotImplementedError("workers measure nothing besides training")
        again: deque[tuple[Wave, int]] = deque()
        self._sent = {}
        try:
            while True:
                is_all = self._give_out(take, load, again)
                if is_all and not self._sent:
                    return
                answer = self._transport.wait()
                sent = self._sent.pop(answer.number, None) if answer else None
                if answer is None or sent is None:  # of a run that was interrupted
                    continue
                if answer.trained is None:
                    again.append((sent.wave, _counted(sent)))
                else:
                    yield _report(sent, answer.trained)
        finally:
            self._sent = {}

    def _give_out(
        self,
        take: Callable[[], Wave | None],
        load: Callable[[Job], list[np.ndarray]] | None,
        again: deque[tuple[Wave, int]],
    ) -> bool:
        """Send waves until every worker has its share, or (True) there is no wave to send."""
        while True:
            load_of = Counter(sent.worker for sent in self._sent.values())
            free = [worker for worker in self._transport.workers if load_of[worker] < DEPTH]
            if not free:
                return False
            wave, lost = again.popleft() if again else (take(), 0)
            if wave is None:
                return True
            # Those with nothing to do first; among them who has compiled the program.
            worker = min(
                free, key=lambda w: (load_of[w], wave.program not in self._known.get(w, ()))
            )
            self._known.setdefault(worker, set()).add(wave.program)
            states = None
            if wave.cohorts[0].start:
                assert load is not None
                states = [load(job) for job in wave.jobs]
            self._number += 1
            order = Order(self._number, wave, self.width(wave.program), states)
            self._sent[self._number] = _Sent(wave, worker, lost)
            self._transport.send(worker, order)

    def close(self) -> None:
        """Let the workers go."""
        self._transport.close()


def _counted(sent: _Sent) -> int:
    """How often a wave has been lost now."""
    if sent.lost + 1 >= MAX_LOSSES:
        raise MachineError(
            f"{MAX_LOSSES} workers were lost with the same wave ({sent.wave.program}); is there "
            "memory enough for it? Smaller cohorts need less: --cohort-width"
        )
    return sent.lost + 1


def _report(sent: _Sent, trained: Trained) -> WaveReport:
    results = [
        Result(job, part.curves, part.info, partial(getattr, part, "params"), {}, part.state)
        for job, part in zip(sent.wave.jobs, trained.parts, strict=True)
    ]
    return WaveReport(
        sent.wave, results, trained.seconds, trained.compile_seconds, worker=sent.worker
    )
