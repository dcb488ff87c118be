"""Predict house prices: wide random search, refined search, a winner held against baselines.

The mission's first task from top to bottom, with the parts that `jaxopt-lab tune` joins.

    python experiments/house_prices.py [--trials N] [--epochs E] [--rows R]
"""

import argparse
import json
from typing import Any

import jaxopt_lab as lab
from jaxopt_lab import analysis
from jaxopt_lab.datasets.baselines import fit_baselines


def main() -> None:
    arguments = parse()
    lab.use_all_cores()

    # 1. The table: sales in Lucas County, Ohio, 1993-98. The price is learned on a log scale.
    table = lab.datasets.load_table("lucas_houses", target="price")
    if arguments.rows:
        table = table.take(range(arguments.rows))
    task = lab.tasks.tabular(table, test_fraction=0.2)

    # 2. Where to look. Bare values are fixed, everything else is searched.
    space = lab.SearchSpace(
        learning_rate=lab.LogUniform(3e-4, 2e-2),
        batch_size=lab.Choice([64, 128, 256]),
        num_layers=lab.Choice([2, 3, 4]),
        hidden_size=lab.Choice([128, 256]),
        dropout=lab.Uniform(0.0, 0.4),
        weight_decay=lab.LogUniform(1e-5, 1.0),
        activation=lab.Choice(["relu", "gelu", "silu"]),
        schedule="cosine",
        warmup_fraction=0.05,
    )
    study = lab.Study(task, space, directory=arguments.out, seed=arguments.seed)

    # 3. Wide: half of the trials anywhere. One fold first, the better half on the others.
    half = arguments.trials // 2
    options = {"num_epochs": arguments.epochs, "num_folds": 3, "race": True}
    study.optimize(lab.search.random(), half, phase="wide", **options)

    # 4. Analysis: what mattered, and do the best trials crowd a bound?
    trials = study.trials
    configs = [{k: row[k] for k in space.names} for _, row in trials.iterrows()]
    scores, bad = trials["score"].to_numpy(float), (trials["status"] == "infeasible").to_numpy()
    for name, share in analysis.importance(space, configs, scores, bad).items():
        print(f"importance of {name}: {share:.0%}")
    for finding in analysis.boundary_findings(space, configs, scores, bad):
        print(finding.text)

    # 5. Refined: the other half where the best ones were.
    refined = analysis.refine(space, configs, scores, bad)
    study.optimize(lab.search.random(), half, phase="refined", space=refined, **options)

    # 6. The winner as one network, refitted on all rows but the test rows.
    best = study.best
    training: Any = study.training
    rows = training.prepared
    test = table.take(rows.test)
    print(f"trial {best.trial_id}: {best.hyperparameters}")
    found = {"network": task.scores(test.target, best.predict(test.frame))}
    found.update(fit_baselines(table.take(rows.development), test, arguments.seed))
    print(json.dumps({name: round(scores["log_rmse"], 4) for name, scores in found.items()}))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=16, help="configurations in all")
    parser.add_argument("--epochs", type=int, default=40, help="of each network")
    parser.add_argument("--rows", type=int, help="use only the first rows, for a quick look")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", help="keep the study in this directory")
    return parser.parse_args()


if __name__ == "__main__":
    main()
