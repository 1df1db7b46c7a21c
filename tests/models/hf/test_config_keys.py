"""Every option of every supported config class is read, or refused by name, or changes nothing.

The table says which. The fast tests build models only; those marked `slow` compare logits with
`transformers`, one changed option at a time.
"""

import functools
import importlib.util
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.errors import ModelError
from models.hf import FAMILIES, load_hf

HERE = Path(__file__).parent
ABSENT = ...

# The fixture of each type, whose options are changed.
FIXTURES = {
    "openai-gpt": "openai_gpt",
    "gpt2": "gpt2",
    "t5": "t5_1_0",
    "switch_transformers": "switch",
    "bart": "bart",
    "bert": "bert_pretraining",
    "llama": "llama",
    "gpt_neox": "gpt_neox",
}

# Options of every class, that change nothing.
EVERYWHERE = [
    "transformers_version",
    "architectures",
    "output_hidden_states",
    "output_attentions",
    "return_dict",
    "dtype",
    "chunk_size_feed_forward",
    "id2label",
    "label2id",
    "problem_type",
    "_name_or_path",
    "pad_token_id",
    "eos_token_id",
]

# Read: another value makes another model, or none. Fixed: another value is refused. Neutral:
# another value makes the same model.
READ = {
    "openai-gpt": "vocab_size n_positions n_embd n_layer n_head resid_pdrop layer_norm_epsilon "
    "hidden_size max_position_embeddings num_attention_heads num_hidden_layers",
    "gpt2": "vocab_size n_positions n_embd n_layer n_head n_inner resid_pdrop layer_norm_epsilon "
    "hidden_size max_position_embeddings num_attention_heads num_hidden_layers",
    "t5": "vocab_size d_model d_kv d_ff num_layers num_decoder_layers num_heads dropout_rate "
    "relative_attention_num_buckets relative_attention_max_distance layer_norm_epsilon "
    "feed_forward_proj scale_decoder_outputs hidden_size num_attention_heads num_hidden_layers "
    "head_dim",
    "switch_transformers": "vocab_size d_model d_kv d_ff expert_capacity num_layers "
    "num_sparse_encoder_layers num_decoder_layers num_sparse_decoder_layers num_heads num_experts "
    "router_jitter_noise relative_attention_num_buckets relative_attention_max_distance "
    "dropout_rate layer_norm_epsilon router_z_loss_coef router_aux_loss_coef tie_word_embeddings "
    "encoder_sparse_step decoder_sparse_step hidden_size num_attention_heads num_hidden_layers",
    "bart": "vocab_size max_position_embeddings encoder_layers encoder_ffn_dim "
    "encoder_attention_heads decoder_layers decoder_ffn_dim decoder_attention_heads d_model "
    "dropout hidden_size num_attention_heads num_hidden_layers",
    "bert": "vocab_size hidden_size num_hidden_layers num_attention_heads intermediate_size "
    "hidden_act hidden_dropout_prob attention_probs_dropout_prob max_position_embeddings "
    "type_vocab_size layer_norm_eps",
    "llama": "vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads "
    "num_key_value_heads max_position_embeddings rms_norm_eps tie_word_embeddings "
    "rope_parameters head_dim",
    "gpt_neox": "vocab_size hidden_size num_hidden_layers num_attention_heads intermediate_size "
    "hidden_act hidden_dropout max_position_embeddings layer_norm_eps use_parallel_residual "
    "rope_parameters",
}
FIXED = {
    "openai-gpt": "afn tie_word_embeddings",
    "gpt2": "activation_function scale_attn_weights scale_attn_by_inverse_layer_idx "
    "add_cross_attention tie_word_embeddings",
    "t5": "is_encoder_decoder dense_act_fn is_gated_act",
    "switch_transformers": "is_encoder_decoder router_bias router_dtype dense_act_fn",
    "bart": "is_encoder_decoder activation_function scale_embedding tie_word_embeddings",
    "bert": "is_decoder add_cross_attention tie_word_embeddings",
    "llama": "hidden_act attention_bias mlp_bias",
    "gpt_neox": "attention_bias tie_word_embeddings",
}
NEUTRAL = {
    "openai-gpt": "embd_pdrop attn_pdrop initializer_range summary_type summary_use_proj "
    "summary_activation summary_proj_to_labels summary_first_dropout is_encoder_decoder "
    "bos_token_id",
    "gpt2": "embd_pdrop attn_pdrop initializer_range summary_type summary_use_proj "
    "summary_activation summary_proj_to_labels summary_first_dropout use_cache "
    "reorder_and_upcast_attn is_encoder_decoder bos_token_id",
    # Since transformers 5 it says nothing where `scale_decoder_outputs` does.
    "t5": "initializer_factor use_cache classifier_dropout is_decoder tie_word_embeddings",
    "switch_transformers": "router_ignore_padding_tokens initializer_factor add_router_probs "
    "use_cache is_decoder add_cross_attention bos_token_id",
    "bart": "encoder_layerdrop decoder_layerdrop attention_dropout activation_dropout init_std "
    "classifier_dropout use_cache bos_token_id decoder_start_token_id forced_eos_token_id "
    "is_decoder",
    "bert": "initializer_range use_cache classifier_dropout is_encoder_decoder bos_token_id",
    "llama": "initializer_range use_cache pretraining_tp attention_dropout is_encoder_decoder "
    "bos_token_id",
    "gpt_neox": "attention_dropout classifier_dropout initializer_range use_cache is_decoder "
    "is_encoder_decoder bos_token_id",
}


def keys_of(model_type):
    """Each option of a type with what becomes of it."""
    kinds = {"read": READ, "fixed": FIXED, "neutral": NEUTRAL}
    table = {key: kind for kind, keys in kinds.items() for key in keys[model_type].split()}
    return table | dict.fromkeys(EVERYWHERE, "neutral")


# Other values, for options that are words.
WORDS = ["relu", "gelu", "gelu_new", "gelu_pytorch_tanh", "silu", "gated-gelu", "bfloat16"]


def other_values(value):
    """Values that an option could have instead."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [2, value + 1, 0]
    if isinstance(value, float):
        return [2 * value + 0.25, 0.0]
    if isinstance(value, str):
        return WORDS
    if isinstance(value, dict) and "rope_type" in value:
        return [
            value | {"rope_theta": 2000.0},
            value | {"rope_type": "linear", "factor": 2.0},
            value | {"partial_rotary_factor": 0.25},
        ]
    return [[], {}] if isinstance(value, list | dict) else [True, 3, 0.5]


@functools.cache
def written(model_type):
    """The options of a fixture, and of those that it leaves out what stands for absent."""
    config = json.loads((HERE / "fixtures" / FIXTURES[model_type] / "config.json").read_text())
    return config, {"is_decoder": False, "is_encoder_decoder": False} | config


def changes(model_type):
    """Each option with each other value, or left out."""
    config, values = written(model_type)
    aliases = family_of(model_type).aliases
    for key in keys_of(model_type):
        value = values.get(key, config.get(aliases.get(key)))
        others = [*other_values(value), *([None] if value is not None else [])]
        for other in others + [ABSENT] * (key in config):
            if other is ABSENT or (other, type(other)) != (value, type(value)):
                yield key, other


def changed(model_type, key, other):
    config = {**written(model_type)[0], key: other}
    return {name: value for name, value in config.items() if value is not ABSENT}


def family_of(model_type):
    return next(family for family in FAMILIES if family.model_type == model_type)


def built(model_type, config):
    """The model, or the refusal."""
    try:
        return family_of(model_type).build(config, "here")
    except ModelError as refused:
        return str(refused)


@pytest.mark.parametrize("model_type", FIXTURES)
def test_every_option_is_read_or_refused_by_name_or_changes_nothing(model_type):
    base = built(model_type, written(model_type)[0])
    effects = {}
    for key, other in changes(model_type):
        found = built(model_type, changed(model_type, key, other))
        if isinstance(found, str):
            assert key in found and "\n" not in found, (key, other, found)
        kind = "refused" if isinstance(found, str) else "same" if found == base else "other"
        effects.setdefault(key, set()).add(kind)
    for key, kind in keys_of(model_type).items():
        if kind == "neutral":
            assert effects[key] == {"same"}, key
        else:
            # An absent option, or another name for the same function, may mean the same model.
            assert effects[key] & {"other", "refused"}, key
            assert kind == "read" or "other" not in effects[key], key


LLAMA_3 = {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 8192}


@pytest.mark.parametrize(
    ("model_type", "options", "fields"),
    [
        # What `transformers` 5 does with the object of version 4 and with the options before it.
        ("llama", {"rope_scaling": {"type": "default", "rope_theta": 7.0}}, {"rope_base": 7.0}),
        ("llama", {"rope_scaling": {"rope_type": "default"}, "rope_theta": 7.0},
         {"rope_base": 7.0}),
        ("llama", {"rope_theta": 7.0}, {"rope_base": 7.0}),
        ("llama", {}, {"rope_base": 10_000.0}),
        ("gpt_neox",
         {"rope_scaling": {"type": "default", "rope_theta": 7, "partial_rotary_factor": 0.5}},
         {"rope_base": 7.0, "rotary_pct": 0.5}),
        ("gpt_neox", {"rotary_pct": 1.0, "rotary_emb_base": 7},
         {"rope_base": 7.0, "rotary_pct": 1.0}),
        ("gpt_neox", {}, {"rope_base": 10_000.0, "rotary_pct": 0.25}),
        # Other names.
        ("bart", {"encoder_layers": ABSENT, "num_hidden_layers": 3}, {"num_encoder_layers": 3}),
        ("bart", {"num_attention_heads": 4, "hidden_size": 24}, {"num_heads": 4}),
        ("t5", {"d_kv": ABSENT, "head_dim": 6, "num_decoder_layers": None},
         {"head_dim": 6, "num_decoder_layers": 3}),
        ("gpt2", {"n_embd": ABSENT, "hidden_size": 28}, {"embed_dim": 28}),
        # Other names of a function.
        ("gpt2", {"activation_function": "gelu_pytorch_tanh"}, {}),
        ("llama", {"hidden_act": "swish"}, {}),
        ("gpt_neox", {"hidden_act": "gelu_python"}, {"approximate_gelu": False}),
        ("bert", {"hidden_act": "gelu_accurate"}, {"activation": "gelu_tanh"}),
    ],
)  # fmt: skip
def test_an_option_with_several_names_or_places_is_read_from_each(model_type, options, fields):
    config = {**written(model_type)[0], **options}
    config.pop("rope_parameters", None)
    found = built(model_type, {k: value for k, value in config.items() if value is not ABSENT})
    assert {name: getattr(found, name) for name in fields} == fields


@pytest.mark.parametrize(
    ("model_type", "options", "said"),
    [
        ("bart", {"num_attention_heads": 2}, "num_attention_heads 2 and encoder_attention_heads 4"),
        ("bart", {"num_hidden_layers": 2}, "num_hidden_layers 2 and encoder_layers 3"),
        ("gpt2", {"hidden_size": 30}, "hidden_size 30 and n_embd 28"),
        ("llama", {"rope_scaling": LLAMA_3}, "rope_scaling {'rope_type': 'llama3'"),
        ("llama", {"rope_scaling": {"rope_type": "default", "rope_theta": 7.0}},
         "rope_scaling and rope_parameters"),
        ("llama", {"partial_rotary_factor": 0.5}, "partial_rotary_factor 0.5"),
        ("t5", {"relative_attention_num_buckets": 3}, "relative_attention_num_buckets of"),
        ("t5", {"relative_attention_max_distance": 4}, "relative_attention_max_distance"),
        ("switch_transformers", {"num_layers": ABSENT}, "lacks the option 'num_layers'"),
        ("switch_transformers", {"expert_capacity": 0}, "expert_capacity 0"),
        ("switch_transformers", {"num_sparse_encoder_layers": 0}, "num_sparse_encoder_layers 0"),
        ("switch_transformers", {"decoder_sparse_step": 1}, "decoder_sparse_step 1"),
        ("gpt2", {"layer_norm_epsilon": float("nan")}, "layer_norm_epsilon of config.json"),
        ("llama", {"rms_norm_eps": float("inf")}, "rms_norm_eps of config.json"),
        ("llama", {"rope_parameters": {"rope_theta": float("nan")}}, "rope_base is nan"),
    ],
)  # fmt: skip
def test_options_that_contradict_or_make_no_model_are_refused_by_name(model_type, options, said):
    config = {**written(model_type)[0], **options}
    found = built(model_type, {k: value for k, value in config.items() if value is not ABSENT})
    assert isinstance(found, str) and said in found


# Options of files as they are published, which today's classes do not read.
PUBLISHED = {
    "openai-gpt": {"n_special": 0, "predict_special_tokens": True, "n_ctx": 512},
    "gpt2": {"n_ctx": 1024, "task_specific_params": {"text-generation": {"max_length": 50}}},
    "t5": {"n_positions": 512, "output_past": True, "gradient_checkpointing": False},
    "switch_transformers": {"router_type": "tokens_masked", "n_positions": 512},
    "bart": {"force_bos_token_to_be_generated": True, "normalize_before": False,
             "static_position_embeddings": False, "extra_pos_embeddings": 2, "prefix": " "},
    "bert": {"directionality": "bidi", "pooler_type": "first_token_transform",
             "pooler_fc_size": 768, "position_embedding_type": "absolute"},
    "llama": {"max_sequence_length": 2048, "pretraining_tp": 2, "is_llama_config": True,
              "rope_interleaved": False, "transformers.js_config": {"dtype": "q4"}},
    "gpt_neox": {"attention_probs_dropout_prob": 0, "torch_dtype": "float16"},
}  # fmt: skip


@pytest.mark.parametrize("model_type", FIXTURES)
def test_harmless_options_of_published_files_are_left_aside(model_type):
    config = written(model_type)[0]
    generation = {"min_p": 0.1, "stop_strings": ["."], "max_time": 5.0, "renormalize_logits": True}
    found = built(model_type, config | PUBLISHED[model_type] | generation)
    assert found == built(model_type, config)


# -- Against what is installed ---------------------------------------------------------------


@functools.cache
def fixtures_module():
    """`make_fixtures.py`, without its being a package."""
    spec = importlib.util.spec_from_file_location("make_fixtures", HERE / "make_fixtures.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.interop
@pytest.mark.parametrize("model_type", FIXTURES)
def test_the_table_has_every_option_of_the_class(model_type):
    transformers = pytest.importorskip("transformers")
    config = transformers.AutoConfig.for_model(model_type)
    names = {*config.to_dict(), *config.attribute_map} - {"model_type"}
    assert names == set(keys_of(model_type))


# Refused although `transformers` computes the same logits.
DELIBERATE = {
    # Generation would fail there.
    ("t5", "is_encoder_decoder"), ("switch_transformers", "is_encoder_decoder"),
    ("bart", "is_encoder_decoder"),
    # They say something else than `dense_act_fn` and the steps, which overrule them.
    ("t5", "feed_forward_proj"), ("switch_transformers", "num_sparse_encoder_layers"),
    ("switch_transformers", "num_sparse_decoder_layers"),
    # With 2 layers as many steps say the same; here both sides have one.
    ("switch_transformers", "decoder_sparse_step"),
    # No room for a token.
    ("llama", "max_position_embeddings"), ("gpt_neox", "max_position_embeddings"),
    # Versions before 5.0 turn a part of each head.
    ("llama", "rope_parameters"),
    # Layers that this model does not have, and that nothing is given to.
    ("gpt2", "add_cross_attention"),
}  # fmt: skip


class Theirs:
    """A fixture in `transformers`, with options changed."""

    def __init__(self, model_type):
        self.made = fixtures_module().FAMILIES[FIXTURES[model_type]]()
        saved = self.made.state_dict().keys() & dict(self.made.named_buffers())
        self.state = dict(self.made.named_parameters())
        self.state |= {name: self.made.get_buffer(name) for name in saved}
        self.batch = fixtures_module().random_batch(self.made, rows=2)
        name = "encoder" if model_type == "bert" else "decoder"
        shape = self.batch[f"{name}_input_tokens"].shape
        self.real = np.asarray(self.batch.get(f"{name}_segment_ids", np.ones(shape))) != 0

    def logits(self, config):
        """None where it cannot be made with these weights."""
        import torch

        try:
            made = type(self.made)(type(self.made.config).from_dict(dict(config))).eval()
            report = made.load_state_dict(self.state, strict=False)
            tied = getattr(made, "all_tied_weights_keys", {})
            if report.unexpected_keys or set(report.missing_keys) - set(tied):
                return None
            with torch.no_grad():
                found = fixtures_module().forward(made, self.batch)
        except (
            ArithmeticError, AssertionError, AttributeError, IndexError, KeyError, RuntimeError,
            TypeError, ValueError,
        ):  # fmt: skip
            return None
        except Exception as error:  # of its own kind, from a base class that it does not export
            if "Validation" in type(error).__name__:
                return None
            raise
        return found[self.real]


@pytest.mark.slow
@pytest.mark.interop
@pytest.mark.parametrize("model_type", FIXTURES)
def test_logits_are_those_of_transformers_whatever_option_is_changed(model_type, tmp_path):
    pytest.importorskip("transformers")
    theirs = Theirs(model_type)
    fixture = HERE / "fixtures" / FIXTURES[model_type]
    (tmp_path / "model.safetensors").symlink_to(fixture / "model.safetensors")
    batch = {name: jnp.asarray(x) for name, x in theirs.batch.items()}
    known = {}

    def ours(config):
        model = built(model_type, config)
        if isinstance(model, str):
            return None
        if model not in known:
            (tmp_path / "config.json").write_text(json.dumps(config))
            try:
                loaded, params = load_hf(tmp_path)
            except ModelError:
                known[model] = None
            else:
                run = functools.partial(loaded.apply, **batch)
                known[model] = np.asarray(jax.jit(run)({"params": params}))[theirs.real]
        return known[model]

    config = written(model_type)[0]
    base = theirs.logits(config)
    assert np.abs(ours(config) - base).max() <= 1e-4
    wrong, needless = [], []
    for key, other in changes(model_type):
        one = changed(model_type, key, other)
        expected, found = theirs.logits(one), ours(one)
        if found is None:
            same = expected is not None and np.abs(expected - base).max() <= 1e-6
            if same and (model_type, key) not in DELIBERATE:
                needless.append((key, other))
        elif np.abs(found - (base if expected is None else expected)).max() > 1e-4:
            wrong.append((key, other))
    assert not wrong
    assert not needless
