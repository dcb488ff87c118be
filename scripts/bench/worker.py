"""One process of one system: sets up cases and trains on request, over JSON lines.

    python -m bench.worker SYSTEM CORE

`CORE` is the core to stay on, or -1 for all. Requests: `{"do": "prepare", "case": {...}}`,
`{"do": "run", "case": name, "trials": [first, end]}`, `{"do": "score", "case": name}`.
"""

import json
import os
import sys
import traceback
from typing import TextIO

from bench.cases import Case, Unavailable
from bench.systems import SYSTEMS, Reply, Spec, System


def serve(spec: Spec, requests: TextIO, replies: TextIO) -> None:
    """Answer requests until the input ends."""
    systems: dict[str, System] = {}
    for line in requests:
        try:
            reply = _answer(spec, systems, json.loads(line))
        except ImportError as error:
            reply = {"error": f"not installed: {error}"}
        except Unavailable as error:
            reply = {"error": str(error)}
        except Exception as error:
            traceback.print_exc()
            reply = {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
        print(json.dumps(reply), file=replies, flush=True)


def _answer(spec: Spec, systems: dict[str, System], request: Reply) -> Reply:
    if request["do"] == "device":
        return {"device": _start_jax(spec)}
    if request["do"] == "prepare":
        case = Case(**request["case"])
        made = systems[case.name] = spec.make(case)
        width = getattr(made, "width", None)
        return {"compile_seconds": made.compile_seconds, "quantum": made.quantum, "width": width}
    system = systems[request["case"]]
    if request["do"] == "run":
        system.run(range(*request["trials"]))
        return {}
    return {"score": system.score()}


def _start_jax(spec: Spec) -> str:
    """Start JAX as the system wants it; name the device."""
    import jax

    if spec.devices:
        from jaxopt_lab.core.devices import use_all_cores

        use_all_cores()
    if jax.default_backend() == "cpu":
        return f"cpu, {os.cpu_count()} cores"
    # In float32 unless it says otherwise, as PyTorch and our engine are by themselves.
    jax.config.update("jax_default_matmul_precision", spec.precision)
    return jax.devices()[0].device_kind


def main() -> None:
    # What libraries print must not get between the replies.
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    name, core = sys.argv[1], int(sys.argv[2])
    if core >= 0 and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})
    serve(SYSTEMS[name], sys.stdin, replies)


if __name__ == "__main__":
    main()
