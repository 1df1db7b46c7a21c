"""Recurrent layers: cells, their scan over time, and layers of them."""
