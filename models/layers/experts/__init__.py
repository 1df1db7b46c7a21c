"""Mixtures of experts: routers, dispatch of tokens, and products of many matrices."""
