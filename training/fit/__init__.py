"""Fitting weights: packing, the training loop, its curve, checkpoints, and the group of processes."""
