"""Every option of every supported config class is read, or refused by name, or changes nothing.

The models are built, and nothing is computed; `test_config_keys_live.py` compares logits.
"""

import pytest

from tests.models.hf.config_keys import (
    ABSENT,
    FIXTURES,
    SEVERAL,
    built,
    changed,
    changes,
    keys_of,
    without_rotation,
    written,
)  # fmt: skip


@pytest.mark.parametrize("model_type", FIXTURES)
def test_every_option_is_read_or_refused_by_name_or_changes_nothing(model_type):
    base = built(model_type, written(model_type)[0])
    effects = {}
    for key, other in changes(model_type):
        found = built(model_type, changed(model_type, {key: other}))
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


@pytest.mark.parametrize(("model_type", "options", "fields"), SEVERAL)
def test_an_option_with_several_names_or_places_is_read_from_each(model_type, options, fields):
    found = built(model_type, without_rotation(model_type, options))
    assert {name: getattr(found, name) for name in fields} == fields


LLAMA_3 = {"rope_type": "llama3", "factor": 8.0, "original_max_position_embeddings": 8192}


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
        ("roberta", {"max_position_embeddings": 2}, "max_position_embeddings 2 is not supported"),
        ("roberta", {"pad_token_id": None}, "pad_token_id None"),
        ("electra", {"embedding_size": None}, "embedding_size None is not supported"),
        ("electra", {"embedding_size": 0}, "embedding_size 0 is not supported"),
        ("deberta", {"pos_att_type": ["c2p", "p2p"]}, "pos_att_type ['c2p', 'p2p']"),
        ("deberta", {"pos_att_type": "p2c|p2c"}, "pos_att_type 'p2c|p2c'"),
        ("deberta", {"relative_attention": ABSENT}, "relative_attention False"),
        ("deberta", {"embedding_size": 12}, "embedding_size 12 and hidden_size 24"),
        ("deberta", {"position_buckets": 256}, "position_buckets 256"),
    ],
)  # fmt: skip
def test_options_that_contradict_or_make_no_model_are_refused_by_name(model_type, options, said):
    found = built(model_type, changed(model_type, options))
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
             "pooler_fc_size": 768, "position_embedding_type": "absolute", "emb_size": 312,
             "cell": {}, "structure": [], "pre_trained": "", "training": ""},
    "roberta": {"position_embedding_type": "absolute", "gradient_checkpointing": False},
    "distilbert": {"tie_weights_": True, "sinusoidal_pos_embds": True, "output_past": True},
    "albert": {"down_scale_factor": 1, "gap_size": 0, "net_structure_type": 0,
               "num_memory_blocks": 0, "position_embedding_type": "absolute"},
    "electra": {"position_embedding_type": "absolute", "summary_type": "first",
                "summary_use_proj": True, "output_past": True},
    "deberta": {"padding_idx": 0, "z_steps": 0, "talking_head": False, "pooler_size": 768},
    "big_bird": {"position_embedding_type": "absolute", "gradient_checkpointing": False},
    "llama": {"max_sequence_length": 2048, "pretraining_tp": 2, "is_llama_config": True,
              "rope_interleaved": False, "transformers.js_config": {"dtype": "q4"}},
    "gpt_neox": {"attention_probs_dropout_prob": 0, "torch_dtype": "float16"},
    "transfo-xl": {"tie_weight": True, "tgt_len": 128, "ext_len": 0, "init_range": 0.01,
                   "proj_init_std": 0.01, "trainer_compatible": True},
    "xlnet": {"untie_r": True, "end_n_top": 5, "start_n_top": 5, "summary_type": "first",
              "use_mems_train": True, "architectures": ["XLNetLMHeadModel"]},
}  # fmt: skip


@pytest.mark.parametrize("model_type", FIXTURES)
def test_harmless_options_of_published_files_are_left_aside(model_type):
    config = written(model_type)[0]
    generation = {"min_p": 0.1, "stop_strings": ["."], "max_time": 5.0, "renormalize_logits": True}
    found = built(model_type, config | PUBLISHED[model_type] | generation)
    assert found == built(model_type, config)
