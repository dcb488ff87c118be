"""Words of other libraries for what has another name here: what a hint looks up first."""

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
    ("minimize", "min", "minimum", "lower"),
    ("maximize", "max", "maximum", "higher"),
    ("random", "random_search"),
    ("quasi_random", "sobol", "halton", "qmc", "lhs", "latin_hypercube"),
    ("bayesian", "tpe", "bo", "bayes", "bayesian_optimization", "gp", "gaussian_process", "smac"),
    ("successive_halving", "asha", "sha", "halving", "async_hyperband"),
    ("median_stopping", "median", "median_pruner", "median_stopping_rule"),
    ("population_based_training", "pbt", "population"),
)
_GROUP_OF = {name: group for group in GROUPS for name in group}

#: Names of one argument of functions, where a word may mean something else than among
#: hyperparameters (Hyperband's eta is no rate); which of them a function has, differs.
ARGUMENTS: tuple[tuple[str, ...], ...] = (
    ("num_trials", "n_trials", "trials", "max_trials", "max_evals", "n_iter", "num_samples"),
    (
        "budget",
        "num_epochs",
        "epochs",
        "n_epochs",
        "max_epochs",
        "max_iter",
        "max_t",
        "max_resource",
        "max_budget",
        "num_steps",
        "total_timesteps",
        "units",
    ),
    ("min_epochs", "min_resource", "min_budget", "min_t", "grace_period", "r_min", "warmup"),
    ("reduction", "eta", "reduction_factor", "factor"),
    ("every", "perturbation_interval", "interval", "ready", "generation"),
    ("fraction", "quantile_fraction"),
    ("resample", "resample_probability"),
    ("num_initial", "n_startup_trials", "n_initial_points", "num_initial_points", "num_init"),
    ("num_points", "points_per_range", "resolution"),
    ("scheduler", "pruner"),
    ("sampler", "search", "search_alg", "algorithm", "algo", "oracle", "tuner"),
    ("time_limit", "timeout", "max_time", "time_budget", "time_budget_s", "time_limit_s"),
    ("loss", "criterion", "loss_fn", "loss_function", "loss_func"),
    ("validation", "validation_data", "val_data", "eval_set", "valid"),
    (
        "splits",
        "num_folds",
        "cv",
        "n_splits",
        "num_splits",
        "n_folds",
        "folds",
        "k_folds",
        "validation_split",
        "val_fraction",
    ),
    ("test_fraction", "splits", "test_size"),
    ("objective", "metric", "monitor", "metric_name"),
    ("direction", "mode", "goal", "directions", "maximize"),
    ("num_seeds", "seeds", "n_seeds", "num_repeats", "n_repeats", "executions_per_trial"),
    ("seed", "random_state", "random_seed", "rng_seed", "rng"),
    (
        "directory",
        "dir",
        "path",
        "out",
        "output_dir",
        "log_dir",
        "logdir",
        "local_dir",
        "project_name",
    ),
    ("batch_size", "batch", "bs", "minibatch_size"),
    ("model", "module", "net", "network"),
    ("data", "dataset", "train_data", "training_data", "x_train"),
    ("sample_weight", "sample_weights", "weights"),
    ("callbacks", "callback", "loggers", "logger"),
    ("hparams", "config", "params", "hyperparameters"),
    ("space", "search_space", "param_space", "param_distributions", "param_grid", "distributions"),
    ("problem", "task", "trainable", "func"),
    ("target", "label", "y", "target_column", "label_column"),
    ("static", "constant", "is_static"),
    ("low", "min_value", "minval", "lower", "start", "min"),
    ("high", "max_value", "maxval", "upper", "stop", "max"),
    ("values", "choices", "options", "categories"),
)
#: From "trials" on the groups are of no hyperparameter of a network.
_OF_A_STUDY = GROUPS[[group[0] for group in GROUPS].index("trials") :]

#: What studies of other libraries have -> how it is written here.
STUDY_ATTRIBUTES = {
    **dict.fromkeys(("best_params", "best_config"), "study.best.hyperparameters"),
    **dict.fromkeys(("best_value", "best_score", "best_values"), "study.best.score"),
    **dict.fromkeys(("best_trial", "best_result"), "study.best"),
    "best_trials": "study.pareto([objective, other])",
    **dict.fromkeys(("trials_dataframe", "results", "results_df", "history"), "study.trials"),
    **dict.fromkeys(("enqueue_trial", "add_trial"), "study.enqueue([{...}])"),
    **dict.fromkeys(("run", "search", "fit", "train", "tune"), "study.optimize(...)"),
    "direction": "study.problem.objective.direction",
    "stop": "study.optimize(..., stopping=lab.stopping.target(score))",
}


def names_a_hyperparameter(word: str) -> bool:
    """Whether a word is one for a hyperparameter of a network, here or elsewhere.

    Examples:
      >>> names_a_hyperparameter("lr"), names_a_hyperparameter("n_trials")
      (True, False)
    """
    group = _GROUP_OF.get(fold(word))
    return group is not None and group not in _OF_A_STUDY


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
