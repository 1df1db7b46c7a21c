"""How `transformers` generates: the token ids and options of `generation_config.json`.

Where there is no such file, `config.json` says it, as it did before there was one.
"""

import dataclasses
import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.errors import ModelError

GENERATION = "generation_config.json"
_CONFIG = "config.json"
EOS = "eos_token_id"
# Ids of texts' beginnings, ends and padding; generation reads the second file first.
TOKEN_IDS = (
    "bos_token_id", EOS, "pad_token_id", "decoder_start_token_id", "forced_bos_token_id",
    "forced_eos_token_id",
)  # fmt: skip

Ids = int | list[int]


def options_of(directory: str | Path, name: str) -> dict[str, Any]:
    """The object of a JSON file, empty where there is no such file.

    Raises:
      ModelError: it cannot be read, or holds no object.
    """
    path = Path(directory) / name
    try:
        found = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror or error}.") from error
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path} is not JSON: {error}.") from error
    if not isinstance(found, dict):
        raise ModelError(f"{path} holds no object of options.")
    return found


def token_ids(directory: str | Path) -> dict[str, Ids]:
    """The ids of `TOKEN_IDS` that a Hugging Face directory names.

    Raises:
      ModelError: a file is not JSON, or an id is neither a whole number nor a list of some.
    """
    found: dict[str, Ids] = {}
    for name in (_CONFIG, GENERATION):
        for key, value in options_of(directory, name).items():
            if key not in TOKEN_IDS or value is None:
                continue
            listed = value if isinstance(value, list) else [value]
            if not all(type(one) is int for one in listed) or not listed:
                raise ModelError(
                    f"{Path(directory) / name}: {key} {value!r} is neither a token's id nor a list "
                    "of ids."
                )
            found[key] = value
    return found


def joined(first: Ids | None, second: Ids | None) -> Ids | None:
    """The ids of both, each once and in this order; one alone is no list."""
    found: list[int] = []
    for ids in (first, second):
        found += [one for one in _listed(ids) if one not in found]
    return None if not found else found[0] if len(found) == 1 else found


def _listed(ids: Ids | None) -> list[int]:
    return [] if ids is None else [ids] if isinstance(ids, int) else ids


def generation_config(
    config: Mapping[str, Any], like: str | Path | None, options: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """`generation_config.json` beside a `config.json` that is written.

    Args:
      config: what is written, with its token ids.
      like: a directory whose other options of generation go along.
      options: in `GenerationOptions.kept_to`'s names, what stands in place of the directory's.
    """
    kept = {} if like is None else options_of(like, GENERATION)
    if options is not None:
        kept = {key: value for key, value in kept.items() if key not in _KEPT_TO} | dict(options)
    named = {key: config[key] for key in TOKEN_IDS if config.get(key) is not None}
    return {**kept, **named}


# -- Options ---------------------------------------------------------------------------------

# Those that are read, with what `transformers` takes where one is absent.
_READ: dict[str, Any] = {
    "do_sample": False,
    "temperature": 1.0,
    "top_k": 50,
    "top_p": 1.0,
    "num_beams": 1,
    "length_penalty": 1.0,
    "early_stopping": False,
    "max_new_tokens": None,
    "max_length": None,
    "min_new_tokens": None,
    "min_length": None,
    "repetition_penalty": 1.0,
    "stop_strings": None,
}
# Those of `GenerationOptions.kept_to`. A length with a prompt yields to one without.
_KEPT_TO = _READ.keys() - {"max_length", "min_length", "early_stopping"}
# Those that change what is generated and that nothing here keeps to, with the values beside None,
# false and what is empty at which they change nothing.
_UNKNOWN_HERE: dict[str, Any] = {
    "forced_bos_token_id": None,
    "forced_eos_token_id": None,
    "no_repeat_ngram_size": 0,
    "encoder_no_repeat_ngram_size": 0,
    "encoder_repetition_penalty": 1.0,
    "num_return_sequences": 1,
    "num_beam_groups": 1,
    "diversity_penalty": 0.0,
    "guidance_scale": 1.0,
    "penalty_alpha": 0.0,
}
# The same, where tokens are drawn.
_OF_DRAWS: dict[str, Any] = {
    "min_p": 0.0,
    "top_h": None,
    "typical_p": 1.0,
    "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0,
}
# Those that change no text: what is given back, how a program runs, drafts that are verified, and
# ids that are read elsewhere.
_NO_TEXT = (
    r"_.*|transformers_version|use_cache|cache_(implementation|config)|max_cache_len|output_\w+"
    r"|return_dict_in_generate|remove_invalid_values|is_assistant|num_assistant_tokens\w*"
    r"|assistant_\w+|prompt_lookup_num_tokens|max_matching_ngram_size|target_lookbehind"
    r"|speculation_type|use_mtp|(compile|continuous_batching)_config|disable_compile|low_memory"
    r"|prefill_chunk_size|(bos|eos|pad|decoder_start)_token_id"
)
# Further names that `config.json` has of an old directory.
_OTHERS = (
    "bad_words_ids", "force_words_ids", "constraints", "sequence_bias", "suppress_tokens",
    "begin_suppress_tokens", "exponential_decay_length_penalty", "renormalize_logits",
    "watermarking_config", "dola_layers", "max_time", "token_healing",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class GenerationOptions:
    """What a directory says of how text is generated.

    Attributes:
      kept_to: what has a counterpart here, where it says anything: `do_sample`, with `temperature`,
        `top_k` (0 for all) and `top_p` where it is true; `num_beams` with `length_penalty`;
        `max_new_tokens`, `min_new_tokens`, `repetition_penalty`, `stop_strings`.
      left_out: what has none, with its value.
    """

    kept_to: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    left_out: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def generation_options(
    directory: str | Path, *, encoder_decoder: bool, max_length: int | None
) -> GenerationOptions:
    """Reads the options of generation of a Hugging Face directory.

    Args:
      directory: with `generation_config.json`, or else `config.json`.
      encoder_decoder: whether lengths count the decoder's start token, and not the prompt.
      max_length: of the model; None for any.

    Raises:
      ModelError: an option whose value is none.
    """
    found = options_of(directory, GENERATION)
    where = Path(directory) / GENERATION
    if not where.exists():
        where = Path(directory) / _CONFIG
        names = {*_READ, *_UNKNOWN_HERE, *_OF_DRAWS, *_OTHERS}
        config = options_of(directory, _CONFIG)
        found = {name: value for name, value in config.items() if name in names}
    given = {name: value for name, value in found.items() if value is not None}
    _check(given, where)
    taken = {**_READ, **given}
    kept_to: dict[str, Any] = {}
    left_out: dict[str, Any] = {}
    if taken["num_beams"] > 1:
        kept_to |= {name: taken[name] for name in ("num_beams", "length_penalty")}
        for name in ("do_sample", "early_stopping"):
            if taken[name] is not False:
                left_out[name] = taken[name]
        if taken["length_penalty"] < 0:  # which rewards what is short
            left_out["length_penalty"] = taken["length_penalty"]
            kept_to["length_penalty"] = 0.0
    elif taken["do_sample"]:
        kept_to |= {name: taken[name] for name in ("do_sample", "temperature", "top_k", "top_p")}
    elif given.keys() & {"do_sample", "num_beams"}:
        kept_to["do_sample"] = False
    lengths, others = _lengths(given, encoder_decoder, max_length)
    kept_to |= lengths
    left_out |= others
    if taken["repetition_penalty"] != 1:
        kept_to["repetition_penalty"] = taken["repetition_penalty"]
    if stops := taken["stop_strings"]:
        kept_to["stop_strings"] = [stops] if isinstance(stops, str) else stops
    usual = {**_UNKNOWN_HERE, **_OF_DRAWS}
    for name, value in given.items():
        read = name in _READ or re.fullmatch(_NO_TEXT, name)
        if read or (name in _OF_DRAWS and not taken["do_sample"]):
            continue
        # A token's id may be 0.
        if (value and value != usual.get(name)) or name.endswith("token_id"):
            left_out[name] = value
    return GenerationOptions(kept_to, left_out)


def _lengths(
    given: Mapping[str, Any], encoder_decoder: bool, max_length: int | None
) -> tuple[dict[str, int], dict[str, int]]:
    """Numbers of new tokens, and lengths that are none: those with a prompt."""
    kept_to, left_out = {}, {}
    for end, least in (("max", 1), ("min", 0)):
        new, whole = given.get(f"{end}_new_tokens"), given.get(f"{end}_length")
        if new is None and whole is not None and encoder_decoder:
            new = max(whole - 1, least)  # the decoder's start token is none
        if new is not None and (new or end == "max"):
            kept_to[f"{end}_new_tokens"] = new
        # Of a decoder, which reads no more than it can, and always one token at least.
        elif whole is not None and new is None:
            harmless = (max_length is not None and whole >= max_length) if least else whole <= 1
            if not harmless:
                left_out[f"{end}_length"] = whole
    return kept_to, left_out


def _check(given: Mapping[str, Any], where: Path) -> None:
    """Raises `ModelError` for an option that is read and whose value is none."""
    for name, value in given.items():
        if name not in _READ:
            continue
        if not _is_possible(name, value):
            raise ModelError(f"{where}: {name} {value!r} is not {_WANTED[name]}.")


def _is_possible(name: str, value: Any) -> bool:
    if name == "do_sample":
        return isinstance(value, bool)
    if name == "early_stopping":
        return isinstance(value, bool) or value == "never"
    if name == "stop_strings":
        texts = [value] if isinstance(value, str) else value
        return isinstance(texts, list) and all(isinstance(one, str) and one for one in texts)
    whole = type(value) is int
    if name in ("num_beams", "max_new_tokens", "max_length"):
        return whole and value >= 1
    if name in ("min_new_tokens", "min_length", "top_k"):
        return whole and value >= 0
    number = (whole or isinstance(value, float)) and math.isfinite(value)
    if name == "top_p":
        return number and 0 < value <= 1
    return number and (value > 0 or name == "length_penalty")


_WANTED = {
    "do_sample": "true or false",
    "early_stopping": 'true, false or "never"',
    "stop_strings": "a text, or a list of texts, of a character or more",
    "num_beams": "a whole number above 0",
    "max_new_tokens": "a whole number above 0",
    "max_length": "a whole number above 0",
    "min_new_tokens": "a whole number of 0 or more",
    "min_length": "a whole number of 0 or more",
    "top_k": "a whole number of 0 or more",
    "top_p": "a number above 0 and up to 1",
    "temperature": "a number above 0",
    "repetition_penalty": "a number above 0",
    "length_penalty": "a number",
}
