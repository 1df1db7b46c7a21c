"""Sweeps: which models to train, and running them."""
