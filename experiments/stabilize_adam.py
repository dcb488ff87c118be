"""A validation loss that fluctuates under Adam: find out why, and what calms it.

The mission's second task from top to bottom, as `jaxopt-lab stabilize` does it.

    python experiments/stabilize_adam.py [--rows R] [--epochs E] [--out DIR]
"""

import argparse

import jaxopt_lab as lab


def main() -> None:
    arguments = parse()
    lab.use_all_cores()

    # 1. A network on house prices whose Adam has thirty times the rate it should have.
    table = lab.datasets.load_table("lucas_houses", target="price")
    task = lab.tasks.tabular(table.take(range(arguments.rows)))
    hparams = {
        "optimizer": "adam",
        "learning_rate": 0.03,
        "batch_size": 32,
        "num_layers": 2,
        "hidden_size": 64,
    }

    # 2. Observe it, probe it, try every cure on the same seeds and minibatches, confirm the best.
    found = lab.stabilize(task, hparams, num_epochs=arguments.epochs, say=print)

    # 3. How much it fluctuates, and how sure that is over seeds.
    spread = found.fluctuation
    print(f"fluctuation {spread.value:.1%} (95 % interval {spread.low:.1%} to {spread.high:.1%})")
    print(f"of it, owed to few validation rows: {found.evidence.noise_floor:.1%}")

    # 4. Why.
    for cause in found.causes:
        print(f"{cause.name}, confidence {cause.confidence:.2f}: {cause.evidence}")

    # 5. What each cure did, calmest first.
    for cure in sorted(found.remedies.values(), key=lambda r: r.fluctuation.value):
        print(f"{cure.name}: fluctuation x{cure.fluctuation.value:.2f}, "
              f"best loss x{cure.loss.value:.3f}: {cure.why}")  # fmt: skip

    # 6. What to do about it.
    print(found.sentence)
    print(found.optax)
    if arguments.out:
        print(found.save(arguments.out))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=4000, help="of the table")
    parser.add_argument("--epochs", type=int, default=30, help="of each training")
    parser.add_argument("--out", help="write diagnosis.json there")
    return parser.parse_args()


if __name__ == "__main__":
    main()
