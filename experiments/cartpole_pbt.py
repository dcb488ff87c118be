"""Balance a pole by PPO: a population that learns its schedule against random search.

Learning rate, clipping and entropy coefficient are searched twice from the same initial values:
each member keeps them, or the population is trained by population-based training. What is compared
is after how many environment steps of each member the best one's mean return reaches 475.

    python experiments/cartpole_pbt.py [--trials P] [--units U] [--every K] [--seeds S]

The last line printed is JSON: `steps_to_475` is the mean over seeds; a search that does not get
there counts as its whole budget. Of members that were overwritten only their lineages' curves are
left, so that the population's steps are an upper bound.

As it stands it shows no difference: with 8 members both ways had one at 475 after 3, 5, 4 and 5
units on seeds 0 to 3 (17,408 steps in the mean; the fifth seed was not run). The best of eight
random configurations gets there before copies have had two generations to learn in.

Source: Jaderberg et al. 2017, arXiv:1711.09846; the task is that of `cartpole_ppo.py`.
"""

import argparse
import json
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
from cartpole_ppo import build

import jaxopt_lab as lab

ENOUGH = 475.0
#: Environment steps of a unit: 4 rollouts of 64 steps in 16 environments.
STEPS = 4096
problem = lab.from_steps(build, objective="episode_return", direction="maximize")
space = lab.SearchSpace(
    learning_rate=lab.LogUniform(1e-4, 1e-2),
    clip_eps=lab.Uniform(0.1, 0.4),
    ent_coef=lab.LogUniform(1e-4, 3e-2),
    gae_lambda=0.95,
    gamma=0.99,
    vf_coef=0.5,
    max_grad_norm=0.5,
)


def units_to(curves: np.ndarray, enough: float, budget: int) -> int:
    """Units after which the best of some curves [members, units] reaches a value; else all."""
    reached = np.flatnonzero((curves >= enough).any(axis=0))
    return int(reached[0]) + 1 if len(reached) else budget


def search(seed: int, arguments: argparse.Namespace) -> dict[str, int]:
    """Units to the aim, of both ways, from the same initial values and weights."""
    found, size = {}, arguments.trials
    population = lab.schedulers.population_based_training(every=arguments.every)
    for name, scheduler in (("random search", None), ("population", population)):
        with lab.Study(problem, space, seed=seed) as study:
            study.optimize("random", size, budget=arguments.units, scheduler=scheduler)
            curves = study.metrics("episode_return")[:, 0]
        found[name] = units_to(curves, ENOUGH, arguments.units)
    return found


def main(argv: Sequence[str] | None = None) -> dict[str, Any]:
    arguments = parse(argv)
    lab.use_all_cores()
    started = time.monotonic()
    found = []
    for seed in range(arguments.seeds):
        found.append(search(seed, arguments))
        print(f"seed {seed}: units to {ENOUGH:g}: {found[-1]}", flush=True)
    means = {name: STEPS * float(np.mean([f[name] for f in found])) for name in found[0]}
    result = {
        "steps_to_475": means,
        "units": arguments.units,
        "seconds": round(time.monotonic() - started),
    }
    print(json.dumps(result))
    return result


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=8, help="members of the population")
    parser.add_argument("--units", type=int, default=16, help="of 4096 environment steps each")
    parser.add_argument("--every", type=int, default=2, help="units of a generation")
    parser.add_argument("--seeds", type=int, default=5, help="searches of each kind")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
