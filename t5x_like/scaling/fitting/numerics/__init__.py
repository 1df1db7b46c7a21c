"""Numerics of a fit: residuals, Newton steps, initial values, variable projection."""
