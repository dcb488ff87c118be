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
# # Bring your own Flax module
#
# Any linen or NNX module, any Optax chain. What is searched goes where you put it: keywords of the
# module's builder change its shape, all else is read from `h` and compiled once for all trials.

# %%
import flax.linen as nn
import numpy as np
import optax
from sklearn.datasets import load_digits

import jaxopt_lab as lab

images, labels = load_digits(return_X_y=True)
images = (images[:600] / 16).astype(np.float32)
labels = labels[:600].astype(np.int32)


# %%
class Classifier(nn.Module):
    width: int = 32

    @nn.compact
    def __call__(self, x):
        return nn.Dense(10)(nn.relu(nn.Dense(self.width)(x)))


problem = lab.supervised(
    Classifier,
    (images, labels),
    loss=optax.softmax_cross_entropy_with_integer_labels,
    metrics={"accuracy": lab.metrics.accuracy},
    objective="accuracy",
    direction="maximize",
    optimizer=lambda h: optax.chain(
        optax.clip_by_global_norm(h["clip_norm"]), optax.adam(h["learning_rate"])
    ),
    batch_size=64,
    budget=6,
)
space = lab.SearchSpace(
    learning_rate=lab.LogUniform(1e-4, 1e-1), clip_norm=lab.LogUniform(0.1, 10.0)
)

# %%
study = lab.Study(problem, space, seed=0)
study.optimize("quasi_random", num_trials=12)
study.best

# %% [markdown]
# All twelve learning rates and clipping norms trained in one compiled program.

# %%
study.plot.curves("accuracy")

# %%
study.plot.slice("learning_rate")

# %% [markdown]
# The best trial's module and weights are Flax's own:

# %%
outputs = study.best.module.apply(study.best.variables, images[:5])
np.asarray(outputs).argmax(axis=1), labels[:5]

# %%
study.close()
