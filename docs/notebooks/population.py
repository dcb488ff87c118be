# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # A population that learns while it trains
#
# Population-based training (Jaderberg et al. 2017, arXiv:1711.09846): after each generation the
# worse trials go on from the state of better ones, with their hyperparameters changed. What comes
# out is a schedule, not a value.
#
# The problem: follow a minimum that stands far away at first, with noise in every step. Far away a
# large rate is best, near it a small one.

# %%
import jax
import jax.numpy as jnp

import jaxopt_lab as lab


def build():
    def init(key, hparams):
        return jnp.full(8, 4.0)

    def step(x, hparams, shared):
        noise = jax.random.normal(shared.key, x.shape)
        x = x - hparams["learning_rate"] * (x + 2.0 * noise)
        return x, {"loss": jnp.mean(x**2)}

    return lab.Trainable(init, step)


problem = lab.from_steps(build, objective="loss", budget=24)
space = lab.SearchSpace(learning_rate=lab.LogUniform(1e-3, 1.0))

# %%
study = lab.Study(problem, space, seed=0)
study.optimize("random", num_trials=16, scheduler=lab.schedulers.population_based_training(every=4))
study.best

# %% [markdown]
# The learning rate of the winner, generation by generation, its ancestors' values included:

# %%
study.best.schedule

# %%
study.plot.curves("loss")

# %%
study.close()
