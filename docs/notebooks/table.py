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
# # Tune a table
#
# Predict how far a patient's diabetes has progressed in a year from ten numbers. A few trials of
# few epochs, so that the page runs in seconds; leave `num_trials` and `num_epochs` out for a real
# search.

# %%
from sklearn.datasets import load_diabetes
from sklearn.model_selection import train_test_split

from jaxopt_lab.sklearn import TunedRegressor

X, y = load_diabetes(return_X_y=True, as_frame=True)
X_train, X_test, y_train, y_test = train_test_split(X, y, random_state=0)

# %%
model = TunedRegressor(
    num_trials=6,
    num_epochs=15,
    cv=2,
    ensemble_size=3,
    space={"learning_rate": {"log_uniform": [1e-3, 3e-2]}, "hidden_size": 16, "num_layers": 2},
    random_state=0,
)
model.fit(X_train, y_train)

# %% [markdown]
# R² of rows that nothing was fitted to, and what was found:

# %%
round(model.score(X_test, y_test), 3), model.best_params_

# %% [markdown]
# The study behind it shows itself, and draws what the report draws:

# %%
model.study_

# %%
model.study_.plot.history()

# %% [markdown]
# On the command line the same is `jaxopt-lab tune diabetes.csv --target y`.
