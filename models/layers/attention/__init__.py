"""Attention: its projections, scores, masks, positions and kernels."""
