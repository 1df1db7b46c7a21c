"""Sweeps: which models are trained, and the running of them."""
