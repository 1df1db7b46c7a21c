"""Counts of n-grams, the smoothing that makes probabilities of them, and their text format."""
