"""How a run generates text where nothing else is said: what its `config.gin` binds.

That of an imported run has what the source's `generation_config.json` says.
"""

from collections.abc import Sequence
from typing import Any

from t5x_like import config
from t5x_like.decoding import GenerationConfig, Strategy, sampling_strategy
from t5x_like.decoding.generation_config import Choice
from t5x_like.host import files

# Macros of `runs/infer.gin`, by the argument of `generation_config` that they are.
_MACROS = {
    "temperature": "TEMPERATURE",
    "top_k": "TOP_K",
    "top_p": "TOP_P",
    "strategy": "STRATEGY",
    "max_new_tokens": "MAX_NEW_TOKENS",
    "min_new_tokens": "MIN_NEW_TOKENS",
    "repetition_penalty": "REPETITION_PENALTY",
    "stop_strings": "STOP_STRINGS",
}


def own_settings(model_dir: str) -> dict[str, Any]:
    """What a run's `config.gin` binds of these, by argument of `generation_config`."""
    path = files.location(model_dir) / "config.gin"
    if not path.is_file():
        return {}
    with config.isolated():
        config.parse([str(path)])
        return {
            name: config.macro(macro) for name, macro in _MACROS.items() if config.has_macro(macro)
        }


def generation_config(
    own: dict[str, Any],
    *,
    longest: int,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    strategy: Strategy | None = None,
    max_new_tokens: int | None = None,
    min_new_tokens: int | None = None,
    repetition_penalty: float | None = None,
    stop_strings: Sequence[str] | None = None,
    samples: int = 1,
    choice: Choice = "likelihood",
    seed: int = 0,
) -> GenerationConfig:
    """What is asked for, and for the rest, None, the run's own settings or the usual ones.

    Args:
      own: of the run, see `own_settings`.
      longest: the most new tokens where nothing else is said.
      temperature: as the other names of `Run.generate`. Any of the first four stands for all.
      top_k: see above.
      top_p: see above.
      strategy: see above.
      max_new_tokens: see `GenerationConfig`, as all that follow.
      min_new_tokens: see there.
      repetition_penalty: see there.
      stop_strings: see there.
      samples: see there.
      choice: see there.
      seed: see there.
    """
    if temperature is None and top_k is None and top_p is None and strategy is None:
        names = ("temperature", "top_k", "top_p", "strategy")
        temperature, top_k, top_p, strategy = (own.get(name) for name in names)
    if strategy is None:
        strategy = sampling_strategy(1.0 if temperature is None else temperature, top_k, top_p)

    def first(given: Any, name: str, usual: Any) -> Any:
        found = own.get(name) if given is None else given
        return usual if found is None else found

    return GenerationConfig(
        first(max_new_tokens, "max_new_tokens", longest),
        strategy,
        first(min_new_tokens, "min_new_tokens", 0),
        first(repetition_penalty, "repetition_penalty", 1.0),
        first(stop_strings, "stop_strings", ()),
        (),
        samples,
        choice,
        seed,
    )
