"""The tabular MLP and its merged programs: many shapes, optimizers and activations in one."""
