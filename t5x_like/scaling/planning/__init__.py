"""Plans a training run: the compute-optimal model for a budget, and the inverse problems."""
