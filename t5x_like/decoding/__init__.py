"""Decoding with a cache: prompts to continuations.

`generate` takes token lists; `generate_batch` is the compiled program beneath it. How tokens
are chosen is an object: `Greedy()`, `Sampling((Temperature(0.7), TopP(0.9)))`,
`BeamSearch(beams=4)`.
"""

from t5x_like.data.formats.prompts import bucket_length
from t5x_like.decoding.beam import BeamSearch, length_penalty
from t5x_like.decoding.choice import SampleAndRank
from t5x_like.decoding.filters import LogitsFilter, Temperature, TopK, TopP
from t5x_like.decoding.generate import (
    Generation,
    generate,
    generate_batch,
    prepare,
)
from t5x_like.decoding.generation_config import GenerationConfig
from t5x_like.decoding.options import Reading
from t5x_like.decoding.prompts import prompts_of
from t5x_like.decoding.strategies import (
    Decoded,
    Greedy,
    Sampling,
    Strategy,
    sampling_strategy,
)
from t5x_like.decoding.text import TextCodec, TextGeneration, answer_prompts, generate_text

__all__ = [
    "BeamSearch",
    "Decoded",
    "Generation",
    "GenerationConfig",
    "Greedy",
    "LogitsFilter",
    "Reading",
    "SampleAndRank",
    "Sampling",
    "Strategy",
    "Temperature",
    "TextCodec",
    "TextGeneration",
    "TopK",
    "TopP",
    "answer_prompts",
    "bucket_length",
    "generate",
    "generate_batch",
    "generate_text",
    "length_penalty",
    "prepare",
    "prompts_of",
    "sampling_strategy",
]
