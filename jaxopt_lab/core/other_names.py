"""What modules of other libraries hold, and how it is written here: hints for missing names."""

from collections.abc import Mapping


def _table(*rows: tuple[str, str]) -> Mapping[str, str]:
    """Words of each row, separated by blanks -> its other half."""
    return {word: here for words, here in rows for word in words.split()}


_OWN_SCHEDULE = (
    "schedules of the rate (lab.schedules) into the optimizer, optimizer=lambda h, total_steps: "
    '..., or, for a table, into the space, schedule="cosine"'
)
_OWN_CALLBACK = "a callback of your own, a class derived from lab.Callback"
_ONE_MACHINE = "lab.Study(problem, space) without placement: it trains on all devices of a machine"
_CLUSTER = 'lab.placements.ray("auto") on a Ray cluster that runs there'
_OVER_ROWS = (
    "a function of (outputs, targets, sample_weight) of your own under lab.metrics.over_all_rows"
)

SCHEDULERS = _table(
    (
        "asha ASHAScheduler AsyncHyperBandScheduler SuccessiveHalvingPruner SHA",
        "lab.schedulers.successive_halving(), whose rungs are compared as a whole, or "
        "lab.schedulers.hyperband()",
    ),
    ("HyperBandScheduler HyperbandPruner", "lab.schedulers.hyperband()"),
    ("HyperBandForBOHB TuneBOHB", "lab.schedulers.bohb()"),
    ("MedianStoppingRule MedianPruner PercentilePruner", "lab.schedulers.median_stopping()"),
    ("WilcoxonPruner", "lab.schedulers.race()"),
    ("PBT", "lab.schedulers.population_based_training()"),
    ("PopulationBasedTrainingReplay", "study.replay()"),
    ("FIFOScheduler NopPruner fifo none", "study.optimize(...) without scheduler"),
    (
        "ReduceLROnPlateau reduce_on_plateau cosine CosineAnnealingLR cosine_decay_schedule "
        "ExponentialDecay exponential_decay StepLR OneCycleLR warmup",
        _OWN_SCHEDULE,
    ),
)
SEARCH = _table(
    ("RandomSampler RandomSearch BasicVariantGenerator", "lab.search.random()"),
    ("GridSampler GridSearch BruteForceSampler grid_search", "lab.search.grid()"),
    ("QMCSampler", "lab.search.quasi_random()"),
    (
        "TPESampler HyperOptSearch",
        "lab.search.bayesian(), or "
        "lab.search.from_optuna(lambda seed: optuna.samplers.TPESampler(seed=seed))",
    ),
    (
        "GPSampler BoTorchSampler BayesOptSearch BayesianOptimization AxSearch gp_minimize",
        "lab.search.bayesian()",
    ),
    (
        "CmaEsSampler cmaes CMA NSGAIISampler nsga2 evolutionary OptunaSearch optuna",
        "lab.search.from_optuna(lambda seed: optuna.samplers.CmaEsSampler(seed=seed)), or another",
    ),
    (
        "bohb TuneBOHB",
        'study.optimize("bayesian", ..., scheduler=lab.schedulers.bohb())',
    ),
    (
        "hyperband asha ASHAScheduler successive_halving",
        'study.optimize(..., scheduler="hyperband")',
    ),
    (
        "pbt population_based_training pb2",
        "study.optimize(..., scheduler=lab.schedulers.population_based_training())",
    ),
    ("Repeater", "lab.from_function(train, num_seeds=4)"),
)
TRACKERS = _table(
    ("WandbLoggerCallback WeightsAndBiasesCallback WandbCallback", "lab.trackers.WandB(project)"),
    ("MLflowLoggerCallback MLflowCallback", "lab.trackers.MLflow(uri)"),
    (
        "TBXLoggerCallback TensorBoardCallback TensorBoardLogger SummaryWriter",
        "lab.trackers.TensorBoard(directory)",
    ),
    ("CSVLogger CSVLoggerCallback csv", "study.trials.to_csv(path)"),
    (
        "Comet CometLoggerCallback Neptune NeptuneCallback Aim AimLoggerCallback ClearML DVCLive "
        "JsonLoggerCallback",
        _OWN_CALLBACK,
    ),
    ("tqdm ProgressReporter CLIReporter JupyterNotebookReporter", "lab.ProgressBar()"),
)
PLACEMENTS = _table(
    ("local cpu gpu tpu devices processes multiprocessing threads joblib", _ONE_MACHINE),
    ("dask slurm submitit kubernetes k8s spark mpi cluster", _CLUSTER),
)
METRICS = _table(
    ("mse MeanSquaredError mean_squared_error l2_loss", "lab.metrics.squared_error"),
    ("mae MeanAbsoluteError mean_absolute_error", "lab.metrics.absolute_error"),
    ("rmse RootMeanSquaredError", "lab.metrics.root_mean_squared_error"),
    ("r2_score R2Score", "lab.metrics.r2"),
    (
        "acc accuracy_score BinaryAccuracy CategoricalAccuracy SparseCategoricalAccuracy",
        "lab.metrics.accuracy",
    ),
    ("balanced_accuracy_score", "lab.metrics.balanced_accuracy"),
    ("auc AUC roc_auc_score", "lab.metrics.roc_auc"),
    ("f1_score F1Score", "lab.metrics.f1, or f1_macro"),
    (
        "cross_entropy crossentropy nll logloss BinaryCrossentropy CategoricalCrossentropy "
        "SparseCategoricalCrossentropy",
        "lab.metrics.log_loss",
    ),
    (
        "top_k_accuracy_score TopKCategoricalAccuracy SparseTopKCategoricalAccuracy top5",
        "lab.metrics.top_k_accuracy(k)",
    ),
    (
        "precision recall Precision Recall precision_score recall_score average_precision "
        "confusion_matrix matthews_corrcoef cohen_kappa",
        _OVER_ROWS,
    ),
)
STOPPING = _table(
    ("MaximumIterationStopper", "study.optimize(..., budget=N)"),
    ("TimeoutStopper timeout", "study.optimize(..., time_limit=SECONDS)"),
    ("MaxTrialsCallback max_trials", "study.optimize(..., num_trials=N)"),
    (
        "TrialPlateauStopper ExperimentPlateauStopper no_improvement Terminator",
        "lab.stopping.small_improvement()",
    ),
    (
        "EarlyStopping EarlyStopper early_stopping patience",
        "study.optimize(..., scheduler=...) to stop trials, or for the epochs of a table "
        "early_stopping=True in the space",
    ),
)
#: Of the package: rooms that hold what is looked for at the top, and what others have there.
PACKAGE = {
    **SEARCH,
    **SCHEDULERS,
    **TRACKERS,
    **METRICS,
    **STOPPING,
    **_table(
        ("create_study Tuner tune tuner TuneConfig", "lab.Study(problem, space)"),
        ("load_study", "lab.Study.load(directory)"),
        ("run fmin minimize optimize", "study.optimize(...)"),
        ("Float FloatDistribution suggest_float uniform Real", "lab.Uniform(low, high)"),
        ("LogFloat loguniform suggest_loguniform log_uniform", "lab.LogUniform(low, high)"),
        ("Int IntDistribution suggest_int randint Integer", "lab.IntUniform(low, high)"),
        ("LogInt lograndint log_int_uniform", "lab.LogIntUniform(low, high)"),
        ("Categorical CategoricalDistribution suggest_categorical choice", "lab.Choice([...])"),
        ("quniform qrandint DiscreteUniform", "lab.Choice([...]) of the values"),
        ("Boolean", "lab.Choice([False, True])"),
        ("Fixed Constant", "lab.SearchSpace(name=value)"),
        ("HyperParameters param_space ConfigurationSpace", "lab.SearchSpace(...)"),
        (
            "report",
            'return {"loss": loss} at the end of a training, or of each step of a lab.Trainable',
        ),
        ("RandomSearch random", 'study.optimize("random", ...), or lab.search.random()'),
        ("grid", 'study.optimize("grid", ...), or lab.search.grid()'),
        ("bayesian", 'study.optimize("bayesian", ...), or lab.search.bayesian()'),
        ("hyperband Hyperband", "lab.schedulers.hyperband()"),
        ("successive_halving", "lab.schedulers.successive_halving()"),
        ("median_stopping", "lab.schedulers.median_stopping()"),
        ("population_based_training", "lab.schedulers.population_based_training()"),
        ("TensorBoard", "lab.trackers.TensorBoard(directory)"),
        ("MLflow", "lab.trackers.MLflow(uri)"),
        ("WandB wandb", "lab.trackers.WandB(project)"),
        ("Optuna optuna", "lab.trackers.Optuna(url), or lab.Study.from_optuna(study, problem)"),
        ("ray", "lab.placements.ray()"),
        ("accuracy", "lab.metrics.accuracy"),
        ("MLP", "lab.models.MLP"),
        ("CNN", "lab.models.CNN"),
        ("RNN", "lab.models.RNN"),
        ("Dropout", "lab.models.Dropout"),
        ("load_table read_csv", "lab.datasets.load_table(path, target=...)"),
        ("tabular TabularTask from_table", "lab.tasks.tabular(table)"),
        ("TunedRegressor", "lab.sklearn.TunedRegressor()"),
        ("TunedClassifier", "lab.sklearn.TunedClassifier()"),
        ("PopulationSearchCV", "lab.sklearn.PopulationSearchCV(build, space)"),
    ),
}
