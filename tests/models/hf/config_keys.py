"""What becomes of each option of every supported config class, and values to change it to."""

import functools
import json
from pathlib import Path

from models.errors import ModelError
from models.hf import FAMILIES

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
    "roberta": "roberta_masked_lm",
    "distilbert": "distilbert_masked_lm",
    "albert": "albert_pretraining",
    "electra": "electra_masked_lm",
    "deberta": "deberta_masked_lm",
    "big_bird": "bigbird_pretraining",
    "llama": "llama",
    "gpt_neox": "gpt_neox",
    "transfo-xl": "transfo_xl",
    "xlnet": "xlnet_lm",
}

# Types that `transformers` had before version 5.
EARLIER = ("transfo-xl",)

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
    "roberta": "vocab_size hidden_size num_hidden_layers num_attention_heads intermediate_size "
    "hidden_act hidden_dropout_prob attention_probs_dropout_prob max_position_embeddings "
    "type_vocab_size layer_norm_eps pad_token_id",
    "distilbert": "vocab_size dim n_layers n_heads hidden_dim activation dropout attention_dropout "
    "max_position_embeddings hidden_size num_hidden_layers num_attention_heads",
    "albert": "vocab_size embedding_size hidden_size num_hidden_layers num_hidden_groups "
    "num_attention_heads intermediate_size hidden_act hidden_dropout_prob "
    "attention_probs_dropout_prob max_position_embeddings type_vocab_size layer_norm_eps",
    "electra": "vocab_size embedding_size hidden_size num_hidden_layers num_attention_heads "
    "intermediate_size hidden_act hidden_dropout_prob attention_probs_dropout_prob "
    "max_position_embeddings type_vocab_size layer_norm_eps",
    "deberta": "vocab_size hidden_size num_hidden_layers num_attention_heads intermediate_size "
    "hidden_act hidden_dropout_prob attention_probs_dropout_prob max_position_embeddings "
    "type_vocab_size layer_norm_eps max_relative_positions position_biased_input pos_att_type",
    "big_bird": "vocab_size hidden_size num_hidden_layers num_attention_heads intermediate_size "
    "hidden_act hidden_dropout_prob attention_probs_dropout_prob max_position_embeddings "
    "type_vocab_size layer_norm_eps attention_type block_size num_random_blocks "
    "rescale_embeddings",
    "llama": "vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads "
    "num_key_value_heads max_position_embeddings rms_norm_eps tie_word_embeddings "
    "rope_parameters head_dim",
    "gpt_neox": "vocab_size hidden_size num_hidden_layers num_attention_heads intermediate_size "
    "hidden_act hidden_dropout max_position_embeddings layer_norm_eps use_parallel_residual "
    "rope_parameters",
    "transfo-xl": "vocab_size cutoffs d_model d_embed n_head d_head d_inner div_val n_layer "
    "mem_len clamp_len same_length proj_share_all_but_first dropout dropatt untie_r "
    "layer_norm_epsilon n_token hidden_size num_attention_heads num_hidden_layers",
    "xlnet": "vocab_size d_model n_layer n_head d_inner d_head ff_activation attn_type dropout "
    "layer_norm_eps mem_len reuse_len clamp_len pad_token_id n_token hidden_size "
    "num_attention_heads num_hidden_layers",
}
FIXED = {
    "openai-gpt": "afn tie_word_embeddings",
    "gpt2": "activation_function scale_attn_weights scale_attn_by_inverse_layer_idx "
    "add_cross_attention tie_word_embeddings",
    "t5": "is_encoder_decoder dense_act_fn is_gated_act",
    "switch_transformers": "is_encoder_decoder router_bias router_dtype dense_act_fn",
    "bart": "is_encoder_decoder activation_function scale_embedding tie_word_embeddings",
    "bert": "is_decoder add_cross_attention tie_word_embeddings",
    "roberta": "is_decoder add_cross_attention tie_word_embeddings",
    "distilbert": "tie_word_embeddings",
    "albert": "inner_group_num tie_word_embeddings",
    "electra": "is_decoder add_cross_attention tie_word_embeddings",
    "deberta": "relative_attention tie_word_embeddings",
    "big_bird": "is_decoder add_cross_attention tie_word_embeddings use_bias",
    "llama": "hidden_act attention_bias mlp_bias",
    "gpt_neox": "attention_bias tie_word_embeddings",
    "transfo-xl": "pre_lnorm attn_type adaptive tie_word_embeddings sample_softmax",
    "xlnet": "bi_data same_length tie_word_embeddings",
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
    "roberta": "initializer_range use_cache classifier_dropout is_encoder_decoder bos_token_id",
    "distilbert": "initializer_range sinusoidal_pos_embds qa_dropout seq_classif_dropout "
    "is_encoder_decoder bos_token_id",
    "albert": "initializer_range classifier_dropout_prob is_encoder_decoder bos_token_id",
    "electra": "initializer_range use_cache classifier_dropout is_encoder_decoder bos_token_id "
    "summary_type summary_use_proj summary_activation summary_last_dropout",
    "deberta": "initializer_range pooler_dropout pooler_hidden_act pooler_hidden_size legacy "
    "is_encoder_decoder bos_token_id",
    "big_bird": "initializer_range use_cache classifier_dropout is_encoder_decoder bos_token_id "
    "sep_token_id",
    "llama": "initializer_range use_cache pretraining_tp attention_dropout is_encoder_decoder "
    "bos_token_id",
    "gpt_neox": "attention_dropout classifier_dropout initializer_range use_cache is_decoder "
    "is_encoder_decoder bos_token_id",
    "transfo-xl": "init init_range proj_init_std init_std is_encoder_decoder bos_token_id",
    "xlnet": "initializer_range use_mems_eval use_mems_train summary_type summary_use_proj "
    "summary_activation summary_last_dropout start_n_top end_n_top is_encoder_decoder bos_token_id",
}


def keys_of(model_type):
    """Each option of a type with what becomes of it."""
    kinds = {"read": READ, "fixed": FIXED, "neutral": NEUTRAL}
    table = {key: kind for kind, keys in kinds.items() for key in keys[model_type].split()}
    return dict.fromkeys(EVERYWHERE, "neutral") | table


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
    absent = {"is_decoder": False, "is_encoder_decoder": False, "tie_word_embeddings": True}
    return config, absent | config


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


def changed(model_type, options):
    """The fixture's options with others, or without some."""
    config = {**written(model_type)[0], **options}
    return {name: value for name, value in config.items() if value is not ABSENT}


def without_rotation(model_type, options):
    """The same, where the object that says how positions turn is left out."""
    absent = {"rope_parameters": ABSENT} if "rope_parameters" in written(model_type)[0] else {}
    return changed(model_type, absent | options)


# Options that have several names or places, and the fields that come of them where the object of
# the rotation is left out.
SEVERAL = [
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
    ("distilbert", {"dim": ABSENT, "hidden_size": 24}, {"embed_dim": 24}),
    # The table's first rows are padding's, whichever token that is.
    ("roberta", {}, {"max_length": 40, "pad_id": 1}),
    ("roberta", {"pad_token_id": 0}, {"max_length": 41, "pad_id": 0}),
    ("roberta", {"pad_token_id": ABSENT}, {"max_length": 40, "pad_id": 1}),
    ("albert", {"hidden_act": "gelu_python"}, {"activation": "gelu"}),
    # Embeddings as wide as the layers are not projected.
    ("electra", {}, {"embedding_dim": 12}),
    ("electra", {"embedding_size": 24}, {"embedding_dim": None}),
    ("electra", {"embedding_size": ABSENT}, {"embedding_dim": 128}),
    ("deberta", {"pos_att_type": "P2C | c2p"}, {"content_to_position": True}),
    ("deberta", {"max_relative_positions": -1}, {"max_distance": 40}),
    ("deberta", {"embedding_size": 24}, {"embed_dim": 24}),
]  # fmt: skip


def family_of(model_type):
    return next(family for family in FAMILIES if family.model_type == model_type)


def built(model_type, config):
    """The model, or the refusal."""
    try:
        return family_of(model_type).build(config, "here")
    except ModelError as refused:
        return str(refused)
