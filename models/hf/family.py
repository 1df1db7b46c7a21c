"""The base class of Hugging Face model types: their options and tensors, each declared once.

`load_hf` reads the statements one way and `save_hf` the other.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np

from models.decoder_only import DecoderOnly
from models.errors import ModelError
from models.field_checks import is_of, named
from models.hf.mapping import Table
from models.hf.tensor_files import TensorFiles
from models.model import Model, Params

Config = Mapping[str, Any]

CONFIG = "config.json"
_NEEDED: Any = object()


@dataclasses.dataclass(frozen=True)
class Option:
    """One option of `config.json` that is one field of ours.

    Attributes:
      theirs: its name.
      ours: the field's.
      default: the value where it is absent; it must be there if there is none.
      also: further options that are written with the same value and not read.
    """

    theirs: str
    ours: str
    default: Any = _NEEDED
    also: tuple[str, ...] = ()

    def value(self, config: Config) -> Any:
        """The field's value.

        Raises:
          KeyError: the option is needed and absent.
        """
        if self.default is _NEEDED:
            return config[self.theirs]
        return config.get(self.theirs, self.default)


# Options of every type that do not change what a model computes: descriptions, how a program runs,
# initial values, heads that we do not have.
_DESCRIPTIONS = (
    r"_.*|architectures|model_type|transformers_version|torch_dtype|dtype|tokenizer_class|prefix"
    r"|name_or_path|id2label|label2id|num_labels|problem_type|finetuning_task|task_specific_params"
    r"|transformers\.js_config"
)
_RUNNING = (
    r"use_cache|(use_)?return_dict|output_\w+|torchscript|use_bfloat16|gradient_checkpointing"
    r"|chunk_size_feed_forward|(attn|experts)_implementation|tie_last_hidden_states"
    r"|is_encoder_decoder|init\w+|classifier_dropout|classif_dropout"
)
# How text is generated, which a strategy says here. `TOKEN_IDS` are read all the same.
_GENERATION = (
    r"(pad|bos|eos|sep|unk|mask|decoder_start|forced_[be]os)_token_id"
    r"|force_bos_token_to_be_generated|(min|max)_(new_tokens|length)|do_sample|early_stopping"
    r"|num_beams|num_beam_groups|temperature|top_[kph]|min_p|typical_p|(epsilon|eta)_cutoff"
    r"|((encoder_)?repetition|length|diversity)_penalty|exponential_decay_length_penalty"
    r"|penalty_alpha|(encoder_)?no_repeat_ngram_size|bad_words_ids|force_words_ids|constraints"
    r"|num_return_sequences|return_dict_in_generate|remove_invalid_values|renormalize_logits"
    r"|sequence_bias|(begin_)?suppress_tokens|max_time|stop_strings|token_healing|guidance_scale"
    r"|low_memory|dola_layers|prefill_chunk_size|max_cache_len|cache_(config|implementation)"
    r"|(compile|continuous_batching|watermarking)_config|disable_compile|use_mtp|speculation_type"
    r"|is_assistant|num_assistant_tokens(_schedule)?|assistant_\w+|prompt_lookup_num_tokens"
    r"|max_matching_ngram_size|target_lookbehind"
)
# What holds of one file alone.
_OF_A_FILE = r"_.*|architectures|model_type|transformers_version|torch_dtype|dtype|name_or_path"
_NEUTRAL = f"{_DESCRIPTIONS}|{_RUNNING}|{_GENERATION}"

# Names of `transformers` for functions that differ by rounding alone: the first for all.
_ACTIVATIONS = {
    "gelu_python": "gelu",
    **dict.fromkeys(
        ("gelu_fast", "gelu_pytorch_tanh", "gelu_python_tanh", "gelu_accurate"), "gelu_new"
    ),
    "swish": "silu",
}

# Fields of every model that do not change the logits of a text: how they are computed, the loss,
# and how a task's inputs are seen.
_OWN_FIELDS = {field.name for field in dataclasses.fields(DecoderOnly)} - {
    "vocab_size",
    "dropout_rate",
    "head",
}


class Family:
    """One model type; a subclass states what is particular to it.

    Attributes:
      model_type: its name in `config.json`.
      architecture: the class of `transformers`, unless `architecture_of` gives others.
      prefix: of every tensor but the head's; older files lack it.
      head: regular expression of the head's tensors, which never have the prefix.
      models: our classes that are written as this type.
      options: the options that are fields.
      fixed: options that change what is computed, with the only value that is supported;
        `transformers` takes the same where they are absent.
      aliases: further names that `transformers` reads, each with the option that it sets.
      neutral: regular expression of further options that change nothing.
      tokens: ids with a meaning in the published vocabulary; written, and not read.
      ignored: regular expression of tensors that say nothing: constants, what is never used.
      own_fields: fields that do not change the logits, besides those of every model.
      derived_options: names of the options that `derived` gives.
    """

    model_type: ClassVar[str]
    architecture: ClassVar[str]
    prefix: ClassVar[str] = ""
    head: ClassVar[str] = r"lm_head\..*"
    models: ClassVar[tuple[type[Model], ...]]
    options: ClassVar[tuple[Option, ...]]
    fixed: ClassVar[Mapping[str, Any]] = {}
    aliases: ClassVar[Mapping[str, str]] = {}
    neutral: ClassVar[str] = ""
    tokens: ClassVar[Mapping[str, int]] = {}
    ignored: ClassVar[str] = ""
    own_fields: ClassVar[frozenset[str]] = frozenset()
    derived_options: ClassVar[tuple[str, ...]] = ()

    # What a subclass may say otherwise.

    def architecture_of(self, model: Any) -> str:
        """The class of `transformers` for this model; several share one model type."""
        return self.architecture

    def prefix_of(self, model: Any) -> str:
        """The prefix of this model's tensors."""
        return self.prefix

    def with_heads(self, model: Any, config: Config, tensors: TensorFiles) -> Any:
        """The model with the heads that the files have, where a type stands for several."""
        return model

    def written(self, model: Any, params: Params, part: str | None) -> tuple[Any, Params]:
        """What of a model has a place in this type: all of it, or one of its networks.

        Args:
          model: one of `models`.
          params: its parameters.
          part: the name of the network, where a model has several.

        Raises:
          ModelError: there is no such part.
        """
        if part is not None:
            raise ModelError(f"{type(model).__name__} is one network: it has no part {part!r}.")
        return model, params

    def model_class(self, config: Config) -> type[Model]:
        """Our class for these options."""
        return self.models[0]

    def fields(self, config: Config) -> dict[str, Any]:
        """Our fields.

        Raises:
          KeyError: an option that is needed is absent.
        """
        return {option.ours: option.value(config) for option in self.options}

    def check(self, config: Config, source: str) -> None:
        """Raises `ModelError` for a value that `fixed` cannot state, `KeyError` for none."""

    def explicit(self, model: Any) -> dict[str, Any]:
        """Fields in which None stands for a value, with that value."""
        return {}

    def derived(self, model: Any) -> dict[str, Any]:
        """Options that are not one field each."""
        return {}

    def copies(self, model: Any) -> Mapping[str, str]:
        """Tensors that may be there and must then equal another: name to the other's name."""
        return {}

    def weights(self, model: Any) -> Table:
        """Where each parameter is."""
        raise NotImplementedError

    # What holds for all.

    def build(self, config: Config, source: str) -> Model:
        """The model that `config.json` describes.

        Raises:
          ModelError: names an option that is missing, unknown, or has a value that is not
            supported.
        """
        config = self._without_aliases(config, source)
        self._check_types(config, source)
        try:
            return self._built(config, source)
        except ModelError:
            raise
        except (TypeError, ValueError, ArithmeticError, AttributeError) as error:
            raise ModelError(
                f"{source}: config.json has an option whose value cannot be used: {error}."
            ) from error

    def _without_aliases(self, config: Config, source: str) -> Config:
        """The same options, each under its own name alone."""
        named = {name: value for name, value in config.items() if name not in self.aliases}
        for alias in self.aliases.keys() & config.keys():
            name = self.aliases[alias]
            if named.setdefault(name, config[alias]) != config[alias]:
                raise ModelError(
                    f"{source}: {alias} {config[alias]!r} and {name} {named[name]!r} of "
                    "config.json are one option with two values: take out the wrong one."
                )
        return named

    def _check_types(self, config: Config, source: str) -> None:
        kinds = {field.name: field.type for field in dataclasses.fields(self.models[0])}
        for option in self.options:
            kind = kinds[option.ours]
            if option.theirs in config and not is_of(config[option.theirs], kind):
                raise unsupported(source, option.theirs, config[option.theirs], named(kind))

    def _built(self, config: Config, source: str) -> Model:
        for option, value in self.fixed.items():
            if not equal(config.get(option, value), value):
                raise unsupported(source, option, config[option], repr(value))
        known = {name for option in self.options for name in (option.theirs, *option.also)}
        known |= set(self.fixed) | set(self.derived_options)
        for option, value in config.items():
            if value and option not in known and not self.is_neutral(option):
                raise ModelError(
                    f"{source}: the option {option} {value!r} of config.json is not supported for "
                    f"model type {self.model_type!r}; take it out if it changes nothing that the "
                    "model computes."
                )
        try:
            self.check(config, source)
            kind = self.model_class(config)
            # What is published was trained to predict every token from those before it.
            fields = dict(self.fields(config))
            if issubclass(kind, DecoderOnly):
                fields["input_attention"] = "causal"
        except KeyError as error:
            raise ModelError(f"{source}: config.json lacks the option {error}.") from error
        try:
            return kind(**fields)
        except ModelError as error:
            # Which names our field, where the reader knows theirs.
            options = [option.theirs for option in self.options if option.ours in str(error)]
            named_ones = f"{', '.join(options)} of " if options else ""
            raise ModelError(f"{source}: {named_ones}config.json: {error}") from error

    def config(self, model: Model) -> dict[str, Any]:
        """`config.json` of a model.

        Raises:
          ModelError: names a field whose value this type cannot express.
        """
        config: dict[str, Any] = {
            "architectures": [self.architecture_of(model)],
            "model_type": self.model_type,
            **self.fixed,
        }
        for option in self.options:
            for name in (option.theirs, *option.also):
                config[name] = getattr(model, option.ours)
        config |= self.derived(model)
        for name, token in self.tokens.items():
            config[name] = token if token < model.vocab_size else None
        self._check_expressed(model, self.build(config, CONFIG))
        return config

    def kept(self, source: Config, written: Config) -> dict[str, Any]:
        """Options of a source that change nothing and that nothing else says, and its token ids.

        Args:
          source: its `config.json`.
          written: the one that is written.
        """
        return {
            name: value
            for name, value in source.items()
            if self.is_neutral(name)
            and (name in self.tokens or name not in written)
            and not re.fullmatch(_OF_A_FILE, name)
        }

    def _check_expressed(self, model: Model, read: Model) -> None:
        """Compares a model with what its `config.json` is read as."""
        fields = {**_fields(model), **self.explicit(model)}
        read_fields = {**_fields(read), **self.explicit(read)}
        for name in sorted(fields.keys() - _OWN_FIELDS - self.own_fields):
            if fields[name] != read_fields[name]:
                raise ModelError(
                    f"{type(model).__name__}.{name} = {_shown(fields[name])} cannot be expressed "
                    f"as Hugging Face's model type {self.model_type!r}, which has "
                    f"{_shown(read_fields[name])}."
                )

    def prepare(self, model: Any, tensors: TensorFiles, source: str) -> None:
        """Brings a file's tensors to the names that `weights` has, and drops what says nothing.

        Raises:
          ModelError: a copy that differs from what it should be a copy of.
        """
        prefix = self.prefix_of(model)
        if prefix and not any(name.startswith(prefix) for name in tensors):
            for name in list(tensors):
                if not re.fullmatch(self.head, name):
                    tensors.rename(name, prefix + name)
        for name in list(tensors):
            if self.ignored and re.fullmatch(self.ignored, name):
                tensors.drop(name)
        for copy, original in self.copies(model).items():
            if copy not in tensors:
                continue
            if original not in tensors:
                tensors.rename(copy, original)
                continue
            if not np.array_equal(tensors[copy], tensors[original]):
                raise ModelError(
                    f"{source}: tensor {copy!r} differs from {original!r}, with which config.json "
                    "says that it is tied."
                )
            tensors.drop(copy)

    def is_neutral(self, option: str) -> bool:
        """Whether an option changes nothing that a model computes."""
        if any(option == own.theirs for own in self.options):
            return False
        return bool(re.fullmatch(f"{_NEUTRAL}|{self.neutral}", option))


def unsupported(source: str, option: str, value: Any, accepted: str) -> ModelError:
    """The error about an option's value."""
    return ModelError(f"{source}: {option} {value!r} is not supported: only {accepted} is.")


def activation(name: Any) -> Any:
    """One name for all of an activation's names in `transformers`; other values as they are."""
    return _ACTIVATIONS.get(name, name) if isinstance(name, str) else name


def equal(found: Any, value: Any) -> bool:
    """Whether `transformers` makes the same of both: it asks of a switch whether it is true."""
    if isinstance(value, bool):
        return bool(found) == value
    return bool(activation(found) == value)


def _fields(model: Model) -> dict[str, Any]:
    return {field.name: getattr(model, field.name) for field in dataclasses.fields(model)}


def _shown(value: Any) -> str:
    return str(getattr(value, "__name__", None) or repr(value))
