"""Search spaces: distributions of hyperparameters, and the unit cube."""
