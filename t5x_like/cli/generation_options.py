"""How text is generated: between `transformers`' options and the macros of gin files."""

from collections.abc import Mapping
from typing import Any, Protocol

from t5x_like import config
from t5x_like.data import formats
from t5x_like.decoding import BeamSearch, Greedy, Sampling, Strategy, Temperature, TopK, TopP
from t5x_like.errors import UserError
from t5x_like.protocols import Model

# Options that are a macro each.
_MACROS = {
    "max_new_tokens": "MAX_NEW_TOKENS",
    "min_new_tokens": "MIN_NEW_TOKENS",
    "repetition_penalty": "REPETITION_PENALTY",
    "stop_strings": "STOP_STRINGS",
}
_OF_STRATEGY = ("TEMPERATURE", "TOP_K", "TOP_P", "STRATEGY")
MACROS = (*_OF_STRATEGY, *_MACROS.values())
# What is written where other options replace a directory's: none of those may hold.
_USUAL = {"do_sample": False, "num_beams": 1, "min_new_tokens": 0, "repetition_penalty": 1.0}


class GenerationOptions(Protocol):
    """What a directory says; `models.hf.generation.GenerationOptions` is one."""

    @property
    def kept_to(self) -> Mapping[str, Any]:
        """Options that have a counterpart here."""

    @property
    def left_out(self) -> Mapping[str, Any]:
        """Those that have none."""


class Read(Protocol):
    """Reads them in a directory; `models.hf.generation.generation_options` does."""

    def __call__(
        self, directory: Any, *, encoder_decoder: bool, max_length: int | None
    ) -> GenerationOptions:
        """See there."""


def options_of(read: Read, directory: Any, model: Model) -> GenerationOptions | None:
    """The options in a directory; None of a model that writes no text."""
    prompts = formats.find(model.batch_format).prompts
    if prompts is None:
        return None
    longest = getattr(model, "max_length", None)
    return read(directory, encoder_decoder=prompts.needs_inputs, max_length=longest)


def gin_text(options: GenerationOptions | None) -> str:
    """Bindings of the macros; "" where there is nothing to say."""
    if options is None:
        return ""
    kept = options.kept_to
    lines = []
    if "num_beams" in kept:
        lines += [
            "from t5x_like import decoding",
            "",
            "STRATEGY = @decoding.BeamSearch()",
            f"decoding.BeamSearch.beams = {kept['num_beams']!r}",
            f"decoding.BeamSearch.alpha = {kept['length_penalty']!r}",
            "decoding.BeamSearch.rule = 'transformers'",
        ]
    elif "do_sample" in kept:
        lines.append(f"TEMPERATURE = {kept['temperature'] if kept['do_sample'] else 0.0!r}")
        if kept.get("top_k"):
            lines.append(f"TOP_K = {kept['top_k']!r}")
        if kept.get("top_p", 1) < 1:
            lines.append(f"TOP_P = {kept['top_p']!r}")
    lines += [f"{macro} = {kept[name]!r}" for name, macro in _MACROS.items() if name in kept]
    if options.left_out:
        lines.append(f"# Not kept to: {shown(options.left_out)}.")
    head = "\n# How infer and load_run(...).generate write text, as transformers would.\n"
    return head + "\n".join(lines) + "\n" if lines else ""


def shown(options: Mapping[str, Any]) -> str:
    """Options with their values, for a person."""
    return ", ".join(f"{name} {value!r}" for name, value in options.items())


def configured() -> dict[str, Any] | None:
    """The options of `transformers` that the macros which are bound come to; None without any.

    Raises:
      UserError: a strategy that these options cannot say.
    """
    bound = {name: config.macro(name) for name in MACROS if config.has_macro(name)}
    if not bound:
        return None
    found: dict[str, Any] = {}
    if (strategy := bound.get("STRATEGY")) is not None:
        found |= _of_strategy(strategy)
    elif bound.get("TEMPERATURE") is not None:
        temperature = bound["TEMPERATURE"]
        found["do_sample"] = temperature != 0
        if temperature != 0:
            top_k, top_p = bound.get("TOP_K"), bound.get("TOP_P")
            found |= {
                "temperature": temperature,
                "top_k": 0 if top_k is None else top_k,
                "top_p": 1.0 if top_p is None else top_p,
            }
    for name, macro in _MACROS.items():
        value = bound.get(macro)
        if value is not None and value != _USUAL.get(name) and value != ():
            found[name] = list(value) if name == "stop_strings" else value
    return {name: value for name, value in found.items() if value != []}


def _of_strategy(strategy: Strategy) -> dict[str, Any]:
    match strategy:
        case Greedy():
            return {"do_sample": False}
        case BeamSearch(beams=beams, alpha=alpha, rule="transformers"):
            return {"num_beams": beams, "length_penalty": alpha}
        case Sampling(filters=filters):
            found = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0}
            named = [(Temperature, "temperature"), (TopK, "k"), (TopP, "p")]
            kinds = [type(one) for one in filters]
            order = [kind for kind, _ in named if kind in kinds]
            if kinds == order:
                for one in filters:
                    for kind, name in named:
                        if isinstance(one, kind):
                            option = name if name == "temperature" else f"top_{name}"
                            found[option] = getattr(one, name)
                return found
    raise UserError(
        f"STRATEGY is {strategy}, which no options of transformers say: give another with "
        "--gin.STRATEGY, such as @decoding.Greedy(), or BeamSearch of rule 'transformers'."
    )


def replacing(source: GenerationOptions | None) -> dict[str, Any] | None:
    """What is written in place of a source's options; None where these are what is bound."""
    own = configured()
    if own is None or (source is not None and own == source.kept_to):
        return None
    return {**_USUAL, **own}
