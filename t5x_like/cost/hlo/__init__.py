"""Reads compiled XLA programs: their text, collectives and costs."""

from t5x_like.cost.hlo.collectives import Collective, collectives
from t5x_like.cost.hlo.costs import Spent, bytes_accessed, matmul_flops, spent_by_part
from t5x_like.cost.hlo.module import Computation, Instruction, Module, parse

__all__ = [
    "Collective",
    "Computation",
    "Instruction",
    "Module",
    "Spent",
    "bytes_accessed",
    "collectives",
    "matmul_flops",
    "parse",
    "spent_by_part",
]
