"""Words of Keras, Optax, PyTorch and scikit-learn for one thing: what a hint looks up first."""

from collections.abc import Iterable

#: Names of one thing, folded as `fold` does; ours stands first, but a user's may be any.
GROUPS: tuple[tuple[str, ...], ...] = (
    (
        "learning_rate",
        "lr",
        "learning_rate_init",
        "init_lr",
        "initial_learning_rate",
        "peak_lr",
        "max_lr",
        "peak_value",
        "init_value",
        "eta",
        "eta0",
        "step_size",
    ),
    ("b1", "beta1", "beta_1", "adam_beta1"),
    ("b2", "beta2", "beta_2", "adam_beta2"),
    ("eps", "epsilon", "adam_epsilon"),
    ("weight_decay", "wd", "decoupled_weight_decay"),
    ("l1", "l1_penalty", "l1_reg", "l1_regularization"),
    ("l2", "l2_penalty", "l2_reg", "l2_regularization", "kernel_regularizer"),
    (
        "clip_norm",
        "clipnorm",
        "global_clipnorm",
        "max_grad_norm",
        "max_norm",
        "grad_clip",
        "gradient_clip",
        "gradient_clip_norm",
        "gradient_clip_val",
    ),
    ("clip_value", "clipvalue", "gradient_clip_value"),
    (
        "hidden_size",
        "units",
        "num_units",
        "n_units",
        "hidden_units",
        "hidden_dim",
        "hidden_layer_sizes",
        "neurons",
        "num_neurons",
        "n_neurons",
        "width",
    ),
    ("num_layers", "layers", "n_layers", "depth", "hidden_layers", "num_hidden_layers"),
    ("dropout", "dropout_rate", "drop_rate", "dropout_prob", "p_dropout"),
    ("batch_size", "batch", "bs", "minibatch", "minibatch_size", "mini_batch_size"),
    ("optimizer", "optimiser", "optim", "solver"),
    ("activation", "act", "activation_fn", "activation_function", "nonlinearity"),
    (
        "initialization",
        "initialisation",
        "init",
        "initializer",
        "kernel_initializer",
        "kernel_init",
    ),
    ("schedule", "scheduler", "lr_schedule", "lr_scheduler", "learning_rate_schedule"),
    ("warmup_fraction", "warmup", "warmup_ratio", "warmup_steps", "warmup_epochs"),
    ("final_fraction", "end_value"),
    ("plateau_floor", "min_scale"),
    ("min_lr", "minimum_learning_rate", "min_learning_rate"),
    ("plateau_factor", "factor"),
    ("plateau_patience", "patience"),
    ("plateau_cooldown", "cooldown"),
    ("plateau_min_delta", "min_delta", "threshold"),
    ("early_stopping_patience", "n_iter_no_change"),
    ("ema", "use_ema", "swa", "polyak_averaging"),
    ("ema_decay", "ema_momentum", "polyak_decay"),
    ("ensemble_size", "num_members", "n_members", "tabm_k"),
    ("precision", "dtype", "mixed_precision", "dtype_policy"),
    ("trials", "num_trials", "n_trials", "max_trials", "n_iter", "num_samples"),
    ("epochs", "num_epochs", "n_epochs", "max_epochs", "max_iter"),
    ("folds", "num_folds", "n_folds", "n_splits", "cv"),
    ("seed", "random_state", "random_seed", "rng_seed"),
    ("test_fraction", "test_size", "validation_split"),
)
_GROUP_OF = {name: group for group in GROUPS for name in group}


def fold(name: str) -> str:
    """A name without case, leading dashes, and the difference of `-` and `_`."""
    return name.strip().lstrip("-").replace("-", "_").replace(" ", "_").casefold()


def synonym(name: str, known: Iterable[str]) -> str | None:
    """The known name that means the same as another in other libraries, if there is one.

    Args:
      name: what was typed.
      known: the names that exist.

    Examples:
      >>> synonym("beta_1", ["b1", "b2"])
      'b1'
      >>> synonym("weight-decay", ["weight_decay"])
      'weight_decay'
    """
    folded = {fold(candidate): candidate for candidate in known}
    typed = fold(name)
    if typed in folded:
        return folded[typed]
    return next((folded[word] for word in _GROUP_OF.get(typed, ()) if word in folded), None)
