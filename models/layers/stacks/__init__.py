"""Stacks of layers, scanned or unrolled."""
