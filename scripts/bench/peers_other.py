"""Peers outside JAX's own API, as an expert of each would train one configuration fast."""

import time
import warnings

import numpy as np

from bench.cases import Case, Unavailable


class PyTorch:
    """A training loop over tensors in memory with the fused AdamW."""

    quantum = 1
    compile_seconds = 0.0

    def __init__(self, case: Case) -> None:
        import torch

        self.case, self.torch = case, torch
        torch.manual_seed(0)
        torch.set_num_threads(1)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.inputs, self.targets = (torch.from_numpy(a).to(self.device) for a in case.data())
        self._train(0, 1)

    def _train(self, trial: int, num_epochs: int) -> None:
        torch, case = self.torch, self.case
        layers, size = [], case.num_features
        for _ in range(case.num_layers):
            layers += [torch.nn.Linear(size, case.hidden_size), torch.nn.ReLU()]
            if case.dropout:
                layers.append(torch.nn.Dropout(case.dropout))
            size = case.hidden_size
        model = torch.nn.Sequential(*layers, torch.nn.Linear(size, 1), torch.nn.Flatten(0))
        for module in model:
            if isinstance(module, torch.nn.Linear):
                torch.nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                torch.nn.init.zeros_(module.bias)
        model = model.to(self.device).train()
        optimizer = torch.optim.AdamW(
            model.parameters(),
            lr=float(case.learning_rates[trial]),
            weight_decay=float(case.weight_decays[trial]),
            fused=True,
        )
        loss_of = torch.nn.functional.mse_loss
        for _ in range(num_epochs):
            order = torch.randperm(case.num_rows, device=self.device)
            inputs = self.inputs[order].split(case.batch_size)
            targets = self.targets[order].split(case.batch_size)
            for x, y in zip(inputs, targets, strict=True):
                optimizer.zero_grad()
                loss_of(model(x), y).backward()
                optimizer.step()
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        self.model = model.eval()

    def run(self, trials: range) -> None:
        """Train trials one after the other, the first one last."""
        for trial in reversed(trials):
            self._train(trial, self.case.num_epochs)

    def score(self) -> float:
        """Mean squared error of the first trial over the training rows."""
        with self.torch.no_grad():
            return float(((self.model(self.inputs) - self.targets) ** 2).mean())


class Keras:
    """`fit` of one compiled model, reset for each configuration so that nothing recompiles."""

    quantum = 1

    def __init__(self, case: Case) -> None:
        import keras

        self.case, self.keras = case, keras
        self.data = case.data()
        keras.utils.set_random_seed(0)
        layers = [keras.Input((case.num_features,))]
        for _ in range(case.num_layers):
            layers.append(keras.layers.Dense(case.hidden_size, "relu"))
            if case.dropout:
                layers.append(keras.layers.Dropout(case.dropout))
        self.model = keras.Sequential([*layers, keras.layers.Dense(1)])
        self.optimizer = keras.optimizers.AdamW(weight_decay=float(case.weight_decays[0]))
        self.model.compile(self.optimizer, loss="mse", steps_per_execution=1)
        seconds = [self._timed() for _ in range(2)]
        self.compile_seconds = seconds[0] - seconds[1]

    def _timed(self) -> float:
        started = time.perf_counter()
        self._train(0, 1)
        return time.perf_counter() - started

    def _train(self, trial: int, num_epochs: int) -> None:
        case = self.case
        for layer in self.model.layers:
            if layer.weights:
                kernel, bias = layer.kernel, layer.bias
                kernel.assign(self.keras.initializers.HeNormal()(kernel.shape))
                bias.assign(np.zeros(bias.shape, np.float32))
        for variable in self.optimizer.variables:
            variable.assign(np.zeros(variable.shape, variable.dtype))
        self.optimizer.learning_rate.assign(case.learning_rates[trial])
        x, y = self.data
        self.model.fit(x, y, batch_size=case.batch_size, epochs=num_epochs, verbose=0)

    def run(self, trials: range) -> None:
        """Train trials one after the other, the first one last."""
        for trial in reversed(trials):
            self._train(trial, self.case.num_epochs)

    def score(self) -> float:
        """Mean squared error of the first trial over the training rows."""
        x, y = self.data
        return float(self.model.evaluate(x, y, batch_size=1024, verbose=0))


class Sklearn:
    """`MLPRegressor` with Adam (it has no decoupled decay: the L2 penalty stands in)."""

    quantum = 1
    compile_seconds = 0.0

    def __init__(self, case: Case) -> None:
        from sklearn.exceptions import ConvergenceWarning

        if case.dropout:
            raise Unavailable("MLPRegressor has no dropout")
        warnings.simplefilter("ignore", ConvergenceWarning)
        self.case, self.data = case, case.data()

    def run(self, trials: range) -> None:
        """Train trials one after the other, the first one last."""
        from sklearn.neural_network import MLPRegressor

        case = self.case
        for trial in reversed(trials):
            self.model = MLPRegressor(
                hidden_layer_sizes=(case.hidden_size,) * case.num_layers,
                alpha=float(case.weight_decays[trial]),
                batch_size=case.batch_size,
                learning_rate_init=float(case.learning_rates[trial]),
                max_iter=case.num_epochs,
                n_iter_no_change=case.num_epochs,
                random_state=trial,
            ).fit(*self.data)

    def score(self) -> float:
        """Mean squared error of the first trial over the training rows."""
        x, y = self.data
        return float(np.mean((self.model.predict(x) - y) ** 2))
