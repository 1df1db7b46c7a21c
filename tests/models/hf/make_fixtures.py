"""Writes tiny random checkpoints of `transformers` with the logits that it computes.

    python -m tests.models.hf.make_fixtures [NAME...]

needs the extra [interop]; without names it writes all. Each directory under `fixtures/` then
holds `config.json` and `model.safetensors`, as `save_pretrained` writes them, and `expected.npz`:
a batch with padding, its logits, and 20 tokens of greedy decoding.
"""

import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from safetensors.torch import save_file

FIXTURES = Path(__file__).parent / "fixtures"
NEW_TOKENS = 20


def t5_1_0() -> torch.nn.Module:
    """T5 1.0: ReLU, tied output, scaled."""
    return _random(_t5(feed_forward_proj="relu"))


def t5_1_1() -> torch.nn.Module:
    """T5 1.1: gated GELU and an output of its own.

    Since transformers 5 the configuration ties the output whatever it is asked; the released
    checkpoints of 1.1 have one of their own, so it is untied here by hand.
    """
    model = _t5(feed_forward_proj="gated-gelu", tie_word_embeddings=False)
    model.config.tie_word_embeddings = False
    model.lm_head.weight = torch.nn.Parameter(torch.empty_like(model.shared.weight))
    return _random(model)


def gpt2() -> torch.nn.Module:
    """GPT-2."""
    config = transformers.GPT2Config(
        vocab_size=80, n_positions=40, n_embd=28, n_layer=3, n_head=4,
        bos_token_id=0, eos_token_id=0,
    )  # fmt: skip
    return _random(transformers.GPT2LMHeadModel(config))


def openai_gpt() -> torch.nn.Module:
    """GPT-1."""
    config = transformers.OpenAIGPTConfig(
        vocab_size=80, n_positions=40, n_embd=28, n_layer=3, n_head=4
    )
    return _random(transformers.OpenAIGPTLMHeadModel(config))


def llama() -> torch.nn.Module:
    """LLaMA with grouped-query attention and an output of its own."""
    return _random(_llama(tie_word_embeddings=False, num_key_value_heads=2, rope_theta=500.0))


def llama_tied() -> torch.nn.Module:
    """LLaMA with a head of keys and values for each of queries, and a tied output."""
    return _random(_llama(tie_word_embeddings=True))


def gpt_neox() -> torch.nn.Module:
    """GPT-NeoX: parallel branches, positions that turn a half of each head."""
    return _random(_gpt_neox(hidden_act="gelu", rotary_pct=0.5, rotary_emb_base=500.0))


def gpt_neox_serial() -> torch.nn.Module:
    """GPT-NeoX with its branches in turn and the approximate GELU of the 20B."""
    return _random(_gpt_neox(hidden_act="gelu_fast", rotary_pct=1.0, use_parallel_residual=False))


def bart() -> torch.nn.Module:
    """BART."""
    return _random(transformers.BartForConditionalGeneration(_bart()))


def bart_classification() -> torch.nn.Module:
    """BART with a head for three labels, which has a layer of its own."""
    names = ("contradiction", "entailment", "neutral")
    options = {"id2label": dict(enumerate(names)), "classifier_dropout": 0.3}
    return _of_class("BartForSequenceClassification", _bart, **options)


def bert_pretraining() -> torch.nn.Module:
    """BERT with both heads."""
    return _random(transformers.BertForPreTraining(_bert()))


def bert_masked_lm() -> torch.nn.Module:
    """BERT with the head for hidden tokens, and the other GELU."""
    return _random(transformers.BertForMaskedLM(_bert(hidden_act="gelu_new")))


def bert_model() -> torch.nn.Module:
    """BERT with the pooler alone, and three segments."""
    return _random(transformers.BertModel(_bert(type_vocab_size=3)))


def bert_classification() -> torch.nn.Module:
    """BERT with a head for three labels, of a rate of its own."""
    names = ("contradiction", "entailment", "neutral")
    options = {"id2label": dict(enumerate(names)), "classifier_dropout": 0.3}
    return _random(transformers.BertForSequenceClassification(_bert(**_ROWS, **options)))


def bert_regression() -> torch.nn.Module:
    """BERT with a head for a number."""
    return _random(transformers.BertForSequenceClassification(_bert(**_ROWS, num_labels=1)))


def roberta_classification() -> torch.nn.Module:
    """RoBERTa with a head for labels, which has a layer of its own."""
    options = {"architectures": ["RobertaForSequenceClassification"], "num_labels": 3}
    return _random(transformers.RobertaForSequenceClassification(_roberta(**options)))


def distilbert_classification() -> torch.nn.Module:
    """DistilBERT with a head for labels, which has a layer of its own with ReLU."""
    options = {"architectures": ["DistilBertForSequenceClassification"], "num_labels": 3}
    return _random(transformers.DistilBertForSequenceClassification(_distilbert(**options)))


def albert_classification() -> torch.nn.Module:
    """ALBERT with a head for labels."""
    options = {"architectures": ["AlbertForSequenceClassification"], "num_labels": 3}
    return _random(transformers.AlbertForSequenceClassification(_albert(**options)))


def bert_tagging() -> torch.nn.Module:
    """BERT with a head for tags, of a rate of its own."""
    names = ("O", "B-person", "I-person", "B-place", "I-place")
    options = {"id2label": dict(enumerate(names)), "classifier_dropout": 0.3}
    return _of_class("BertForTokenClassification", _bert, **options)


def roberta_tagging() -> torch.nn.Module:
    """RoBERTa with a head for tags, which is one layer."""
    return _of_class("RobertaForTokenClassification", _roberta, num_labels=5)


def distilbert_tagging() -> torch.nn.Module:
    """DistilBERT with a head for tags, whose rate is the model's."""
    return _of_class("DistilBertForTokenClassification", _distilbert, num_labels=5)


def albert_tagging() -> torch.nn.Module:
    """ALBERT with a head for tags."""
    return _of_class("AlbertForTokenClassification", _albert, num_labels=5)


def bert_choice() -> torch.nn.Module:
    """BERT with a head for choices."""
    return _of_class("BertForMultipleChoice", _bert)


def roberta_choice() -> torch.nn.Module:
    """RoBERTa with a head for choices, which reads the pooler; its rate is the model's."""
    return _of_class("RobertaForMultipleChoice", _roberta)


def distilbert_choice() -> torch.nn.Module:
    """DistilBERT with a head for choices, which has a layer of its own with ReLU."""
    return _of_class("DistilBertForMultipleChoice", _distilbert)


def albert_choice() -> torch.nn.Module:
    """ALBERT with a head for choices."""
    return _of_class("AlbertForMultipleChoice", _albert)


def bert_spans() -> torch.nn.Module:
    """BERT with a head that marks spans."""
    return _of_class("BertForQuestionAnswering", _bert)


def roberta_spans() -> torch.nn.Module:
    """RoBERTa with a head that marks spans."""
    return _of_class("RobertaForQuestionAnswering", _roberta)


def distilbert_spans() -> torch.nn.Module:
    """DistilBERT with a head that marks spans, of a rate of its own."""
    return _of_class("DistilBertForQuestionAnswering", _distilbert, qa_dropout=0.3)


def albert_spans() -> torch.nn.Module:
    """ALBERT with a head that marks spans."""
    return _of_class("AlbertForQuestionAnswering", _albert)


def _of_class(name: str, config: Callable[..., Any], **options: object) -> torch.nn.Module:
    return _random(getattr(transformers, name)(config(architectures=[name], **options)))


def roberta_masked_lm() -> torch.nn.Module:
    """RoBERTa with its head, whose GELU is exact, and the other one in its layers."""
    return _random(transformers.RobertaForMaskedLM(_roberta(hidden_act="gelu_new")))


def roberta_model() -> torch.nn.Module:
    """RoBERTa with the pooler alone."""
    return _random(transformers.RobertaModel(_roberta()))


def distilbert_masked_lm() -> torch.nn.Module:
    """DistilBERT with its head."""
    return _random(transformers.DistilBertForMaskedLM(_distilbert()))


def distilbert_model() -> torch.nn.Module:
    """DistilBERT without a head, and the other GELU."""
    return _random(transformers.DistilBertModel(_distilbert(activation="gelu_new")))


def albert_pretraining() -> torch.nn.Module:
    """ALBERT with both heads, in two groups of two layers."""
    return _random(transformers.AlbertForPreTraining(_albert(num_hidden_groups=2)))


def albert_masked_lm() -> torch.nn.Module:
    """ALBERT with the head for hidden tokens, of one group, and the exact GELU."""
    return _random(transformers.AlbertForMaskedLM(_albert(hidden_act="gelu")))


def albert_model() -> torch.nn.Module:
    """ALBERT with the pooler alone, and three segments."""
    return _random(transformers.AlbertModel(_albert(type_vocab_size=3)))


def xlnet_lm() -> torch.nn.Module:
    """XLNet with its output, distances that are clamped, and a memory of a part of a row."""
    return _random(transformers.XLNetLMHeadModel(_xlnet(clamp_len=5, mem_len=4, reuse_len=5)))


def xlnet_model() -> torch.nn.Module:
    """XLNet without an output, in which no token sees a later one, and the other GELU."""
    return _random(transformers.XLNetModel(_xlnet(attn_type="uni", ff_activation="gelu_new")))


def xlnet_classification() -> torch.nn.Module:
    """XLNet with a head for labels, which reads the last token."""
    return _of_class("XLNetForSequenceClassification", _xlnet, num_labels=3)


def xlnet_tagging() -> torch.nn.Module:
    """XLNet with a head for tags."""
    return _of_class("XLNetForTokenClassification", _xlnet, num_labels=5)


def xlnet_choice() -> torch.nn.Module:
    """XLNet with a head for choices, of a rate of its own."""
    return _of_class("XLNetForMultipleChoice", _xlnet, summary_last_dropout=0.3)


def xlnet_spans() -> torch.nn.Module:
    """XLNet with a head that marks spans, each end by itself."""
    return _of_class("XLNetForQuestionAnsweringSimple", _xlnet)


def electra_pretraining() -> torch.nn.Module:
    """ELECTRA's discriminator, with the other GELU, also in its head."""
    return _random(transformers.ElectraForPreTraining(_electra(hidden_act="gelu_new")))


def electra_masked_lm() -> torch.nn.Module:
    """ELECTRA's generator, whose head has the exact GELU, and the other one in its layers."""
    return _random(transformers.ElectraForMaskedLM(_electra(hidden_act="gelu_new")))


def electra_model() -> torch.nn.Module:
    """ELECTRA without a head, with embeddings as wide as the layers, and three segments."""
    return _random(transformers.ElectraModel(_electra(embedding_size=24, type_vocab_size=3)))


def electra_classification() -> torch.nn.Module:
    """ELECTRA with a head for labels, which has a layer of its own with the exact GELU."""
    name = "ElectraForSequenceClassification"
    return _of_class(name, _electra, num_labels=3, hidden_act="gelu_new")


def electra_tagging() -> torch.nn.Module:
    """ELECTRA with a head for tags, which is one layer."""
    return _of_class("ElectraForTokenClassification", _electra, num_labels=5)


def electra_choice() -> torch.nn.Module:
    """ELECTRA with a head for choices, which reads a summary, of a rate of its own."""
    return _of_class("ElectraForMultipleChoice", _electra, summary_last_dropout=0.2)


def electra_spans() -> torch.nn.Module:
    """ELECTRA with a head for spans."""
    return _of_class("ElectraForQuestionAnswering", _electra)


def deberta_masked_lm() -> torch.nn.Module:
    """DeBERTa with its head, in rows that are longer than distances are told apart."""
    return _random(transformers.DebertaForMaskedLM(_deberta()))


def deberta_model() -> torch.nn.Module:
    """DeBERTa without a head, with one kind of distance, positions at the input, and types."""
    options = {"position_biased_input": True, "type_vocab_size": 3, "hidden_act": "gelu_new"}
    return _random(transformers.DebertaModel(_deberta(pos_att_type=["p2c"], **options)))


def deberta_classification() -> torch.nn.Module:
    """DeBERTa with a head for labels, which has a pooler with GELU, of a rate of its own."""
    options = {"num_labels": 3, "cls_dropout": 0.3, "pos_att_type": ["c2p"]}
    return _of_class("DebertaForSequenceClassification", _deberta, **options)


def deberta_tagging() -> torch.nn.Module:
    """DeBERTa with a head for tags, whose rate is the model's."""
    return _of_class("DebertaForTokenClassification", _deberta, num_labels=5)


def deberta_spans() -> torch.nn.Module:
    """DeBERTa with a head that marks spans."""
    return _of_class("DebertaForQuestionAnswering", _deberta)


def bigbird_pretraining() -> torch.nn.Module:
    """BigBird with both heads, in rows of more than seven blocks of two."""
    return _random(transformers.BigBirdForPreTraining(_bigbird()))


def bigbird_masked_lm() -> torch.nn.Module:
    """BigBird with full attention, the head for hidden tokens, and the exact GELU."""
    options = {"attention_type": "original_full", "hidden_act": "gelu"}
    return _random(transformers.BigBirdForMaskedLM(_bigbird(**options)))


def bigbird_model() -> torch.nn.Module:
    """BigBird with the pooler alone, two random blocks, and larger vectors of tokens."""
    options = {"block_size": 1, "num_random_blocks": 2, "rescale_embeddings": True}
    return _random(transformers.BigBirdModel(_bigbird(**options)))


def bigbird_classification() -> torch.nn.Module:
    """BigBird with a head for labels, which has a layer of its own."""
    model = _of_class("BigBirdForSequenceClassification", _bigbird, num_labels=3)
    return _without_pooler(model)


def bigbird_tagging() -> torch.nn.Module:
    """BigBird with a head for tags, which is one layer."""
    return _without_pooler(_of_class("BigBirdForTokenClassification", _bigbird, num_labels=5))


def bigbird_choice() -> torch.nn.Module:
    """BigBird with a head for choices, which reads the pooler."""
    return _of_class("BigBirdForMultipleChoice", _bigbird)


def bigbird_spans() -> torch.nn.Module:
    """BigBird with a head that marks spans, which has a layer and a norm of its own."""
    return _of_class("BigBirdForQuestionAnswering", _bigbird)


def _without_pooler(model: torch.nn.Module) -> torch.nn.Module:
    """The model as it is written here: zeros for the pooler, which its head does not read."""
    with torch.no_grad():
        for parameter in model.bert.pooler.parameters():
            parameter.zero_()
    return model


def bigbird_training() -> torch.nn.Module:
    """BigBird as it is trained, without dropout: each layer and head has its random blocks."""
    options = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return _random(transformers.BigBirdForMaskedLM(_bigbird(**options))).train()


def switch() -> torch.nn.Module:
    """Switch with experts in every second layer, of which some overflow."""
    return _random(_switch(num_sparse_encoder_layers=2, num_sparse_decoder_layers=1,
                           expert_capacity=5))  # fmt: skip


def switch_every() -> torch.nn.Module:
    """Switch with experts in every layer, and an output of its own.

    transformers then gives each side embeddings of its own as well, which the paper's models
    share: they are made equal here.
    """
    model = _random(_switch(num_layers=2, num_sparse_encoder_layers=2, num_sparse_decoder_layers=2,
                            tie_word_embeddings=False))  # fmt: skip
    for side in (model.encoder, model.decoder):
        side.embed_tokens.load_state_dict(model.shared.state_dict())
    return model


MAKERS = (t5_1_0, t5_1_1, gpt2, openai_gpt, llama, llama_tied, gpt_neox, gpt_neox_serial, bart,
          bart_classification,
          bert_pretraining, bert_masked_lm, bert_model, roberta_masked_lm, roberta_model,
          distilbert_masked_lm, distilbert_model, albert_pretraining, albert_masked_lm,
          albert_model, bert_classification, bert_regression, roberta_classification,
          distilbert_classification, albert_classification, bert_tagging, roberta_tagging,
          distilbert_tagging, albert_tagging, bert_choice, roberta_choice, distilbert_choice,
          albert_choice, bert_spans, roberta_spans, distilbert_spans, albert_spans, xlnet_lm,
          xlnet_model, xlnet_classification, xlnet_tagging, xlnet_choice, xlnet_spans,
          electra_pretraining, electra_masked_lm, electra_model, electra_classification,
          electra_tagging, electra_choice, electra_spans, deberta_masked_lm, deberta_model,
          deberta_classification, deberta_tagging, deberta_spans, bigbird_pretraining,
          bigbird_masked_lm, bigbird_model, bigbird_classification, bigbird_tagging,
          bigbird_choice, bigbird_spans, bigbird_training, switch, switch_every)  # fmt: skip
FAMILIES = {make.__name__: make for make in MAKERS}


# The embeddings' large, so that greedy decoding does not settle on one token at once; the
# output's small, because float32 itself errs by 1e-5 of the logits here.
SPREADS = {
    r".*(shared|wte|tokens_embed|embed_tokens|embed_in)\.weight": 0.5,
    r"(\w+\.)?embeddings\.\w+_embeddings\.weight": 0.5,
    r"(\w+\.)?word_embedding\.weight": 0.5,
    r"lm_head\.weight": 0.1,
    ".*": 0.3,
}


# By which the head is known.
_ROWS = {"architectures": ["BertForSequenceClassification"]}


def _bert(**options: object) -> transformers.BertConfig:
    # An epsilon that shows where it is left out, and a difference of segments too.
    sizes = dict(
        vocab_size=80, hidden_size=24, num_hidden_layers=3, num_attention_heads=4,
        intermediate_size=44, max_position_embeddings=40, layer_norm_eps=1e-3,
    )  # fmt: skip
    return transformers.BertConfig(**sizes | options)


def _bart(**options: object) -> transformers.BartConfig:
    sizes = dict(
        vocab_size=80, d_model=24, encoder_layers=3, decoder_layers=2, encoder_ffn_dim=44,
        decoder_ffn_dim=44, encoder_attention_heads=4, decoder_attention_heads=4,
        max_position_embeddings=40,
    )  # fmt: skip
    return transformers.BartConfig(**sizes | options)


def _roberta(**options: object) -> transformers.RobertaConfig:
    # A type that every token has, and two rows of positions that none has.
    sizes = dict(
        vocab_size=80, hidden_size=24, num_hidden_layers=3, num_attention_heads=4,
        intermediate_size=44, max_position_embeddings=42, layer_norm_eps=1e-3, type_vocab_size=1,
    )  # fmt: skip
    return transformers.RobertaConfig(**sizes | options)


def _distilbert(**options: object) -> transformers.DistilBertConfig:
    sizes = dict(
        vocab_size=80, dim=24, n_layers=3, n_heads=4, hidden_dim=44, max_position_embeddings=40
    )
    return transformers.DistilBertConfig(**sizes | options)


def _albert(**options: object) -> transformers.AlbertConfig:
    sizes = dict(
        vocab_size=80, embedding_size=12, hidden_size=24, num_hidden_layers=4,
        num_attention_heads=4, intermediate_size=44, max_position_embeddings=40,
        layer_norm_eps=1e-3,
    )  # fmt: skip
    return transformers.AlbertConfig(**sizes | options)


def _xlnet(**options: object) -> transformers.XLNetConfig:
    sizes = dict(vocab_size=80, d_model=24, n_layer=3, n_head=4, d_inner=44, layer_norm_eps=1e-3)
    return transformers.XLNetConfig(**sizes | options)


def _electra(**options: object) -> transformers.ElectraConfig:
    sizes = dict(
        vocab_size=80, embedding_size=12, hidden_size=24, num_hidden_layers=3,
        num_attention_heads=4, intermediate_size=44, max_position_embeddings=40,
        layer_norm_eps=1e-3,
    )  # fmt: skip
    return transformers.ElectraConfig(**sizes | options)


def _deberta(**options: object) -> transformers.DebertaConfig:
    sizes = dict(
        vocab_size=80, hidden_size=24, num_hidden_layers=3, num_attention_heads=4,
        intermediate_size=44, max_position_embeddings=40, layer_norm_eps=1e-3,
        relative_attention=True, max_relative_positions=5, position_biased_input=False,
        pos_att_type=["c2p", "p2c"], legacy=False,
    )  # fmt: skip
    return transformers.DebertaConfig(**sizes | options)


def _bigbird(**options: object) -> transformers.BigBirdConfig:
    sizes = dict(
        vocab_size=80, hidden_size=24, num_hidden_layers=3, num_attention_heads=4,
        intermediate_size=44, max_position_embeddings=40, layer_norm_eps=1e-3, block_size=2,
        num_random_blocks=1, sep_token_id=3,
    )  # fmt: skip
    return transformers.BigBirdConfig(**sizes | options)


def _t5(**options: object) -> torch.nn.Module:
    # Sizes that no two axes share, but for the two that must.
    config = transformers.T5Config(
        vocab_size=80, d_model=28, d_kv=6, d_ff=28, num_layers=3, num_decoder_layers=2,
        num_heads=4, relative_attention_num_buckets=8, relative_attention_max_distance=12,
        decoder_start_token_id=0, **options,
    )  # fmt: skip
    return transformers.T5ForConditionalGeneration(config)


def _llama(**options: object) -> torch.nn.Module:
    config = transformers.LlamaConfig(
        vocab_size=80, hidden_size=32, intermediate_size=44, num_hidden_layers=3,
        num_attention_heads=4, max_position_embeddings=40, **options,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config)


def _gpt_neox(**options: object) -> torch.nn.Module:
    config = transformers.GPTNeoXConfig(
        vocab_size=80, hidden_size=32, intermediate_size=44, num_hidden_layers=3,
        num_attention_heads=4, max_position_embeddings=40, **options,
    )  # fmt: skip
    return transformers.GPTNeoXForCausalLM(config)


def _switch(*, num_layers: int = 4, **options: object) -> torch.nn.Module:
    config = transformers.SwitchTransformersConfig(
        vocab_size=80, d_model=24, d_kv=6, d_ff=20, num_layers=num_layers, num_decoder_layers=2,
        num_heads=4, num_experts=3, relative_attention_num_buckets=8,
        relative_attention_max_distance=12, decoder_start_token_id=0, **options,
    )  # fmt: skip
    return transformers.SwitchTransformersForConditionalGeneration(config)


def _random(model: torch.nn.Module) -> torch.nn.Module:
    """Every parameter far from its initial value, norms and biases too."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            mean = 1.0 if re.search(r"([Nn]orm|ln_)\w*\.weight", name) else 0.0
            spread = next(s for pattern, s in SPREADS.items() if re.fullmatch(pattern, name))
            parameter.normal_(mean, spread, generator=generator)
    return model.eval()


def random_batch(model: torch.nn.Module, rows: int = 3, seed: int = 0) -> dict[str, np.ndarray]:
    """Random tokens, with padding at the end of the encoder's rows or before a prompt's."""
    rng = np.random.default_rng(seed)
    if model.config.model_type in ENCODERS:
        return _random_pairs(model, rows, rng)
    decoder = rng.integers(2, 80, (rows, 13))
    if not model.config.is_encoder_decoder:
        for row in range(rows):
            decoder[row, : 2 * row] = 0
        segments = decoder != 0
        return {
            "decoder_input_tokens": decoder,
            "decoder_segment_ids": segments.astype(int),
            "decoder_positions": np.maximum(segments.cumsum(axis=1) - 1, 0),
        }
    encoder = rng.integers(2, 80, (rows, 17))
    for row in range(rows):
        encoder[row, 17 - 3 * row :] = 0
    if _classifies(model):
        return _read_by_both(model, encoder)
    decoder[:, 0] = model.config.decoder_start_token_id
    return {"encoder_input_tokens": encoder, "decoder_input_tokens": decoder}


def _classifies(model: torch.nn.Module) -> bool:
    return type(model).__name__.endswith("ForSequenceClassification")


def _read_by_both(model: torch.nn.Module, encoder: np.ndarray) -> dict[str, np.ndarray]:
    """Rows that end with the end token alone, and as a decoder reads them."""
    segments = (encoder != 0).astype(int)
    lengths = segments.sum(axis=1)
    encoder = np.where(segments, np.maximum(encoder, 3), model.config.pad_token_id)
    encoder[np.arange(len(encoder)), lengths - 1] = model.config.eos_token_id
    decoder = np.roll(encoder, 1, axis=1)
    decoder[:, 0] = model.config.decoder_start_token_id
    return {
        "encoder_input_tokens": encoder,
        "encoder_segment_ids": segments,
        "decoder_input_tokens": np.where(segments, decoder, model.config.pad_token_id),
        "decoder_segment_ids": segments,
    }


ENCODERS = ("bert", "roberta", "distilbert", "albert", "xlnet", "electra", "deberta", "big_bird")


def _random_pairs(
    model: torch.nn.Module, rows: int, rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Random tokens of two segments or more, with padding at the end; XLNet's at the beginning."""
    tokens = rng.integers(2, 80, (rows, 17))
    xlnet = model.config.model_type == "xlnet"
    kinds = 3 if xlnet else getattr(model.config, "type_vocab_size", 1) or 1
    types = np.sort(rng.integers(0, kinds, tokens.shape), axis=1)
    if isinstance(model, transformers.BigBirdForQuestionAnswering):
        # Which takes the question to end with the first [SEP].
        tokens[tokens == model.config.sep_token_id] = 2
        tokens[:, 4], types = model.config.sep_token_id, (np.arange(17) > 4) + 0 * types
    segments = (np.arange(17) < 17 - 3 * np.arange(rows)[:, None]).astype(int)
    orders: dict[str, np.ndarray] = {}
    if xlnet:
        segments = segments[:, ::-1].copy()
        if model.config.attn_type == "uni":
            # Which cannot be had with padding in a batch of several rows.
            segments[:] = 1
        if hasattr(model, "lm_loss"):
            # Every third token is predicted, in an order that is drawn; all see the others.
            order = rng.permuted(np.tile(np.arange(17), (rows, 1)), axis=1)
            predicted = np.arange(17) % 3 == 0
            orders = {
                "perm_key_rank": np.where(predicted, order, -1),
                "perm_own_rank": np.where(predicted, order, 0),
            }
    batch = {
        **orders,
        "encoder_input_tokens": np.where(segments, tokens, model.config.pad_token_id),
        "encoder_token_types": types * segments,
        "encoder_segment_ids": segments,
    }
    if type(model).__name__.endswith("MultipleChoice"):
        # Each row beside the next one.
        return {name: np.stack([x, np.roll(x, 1, axis=0)], axis=1) for name, x in batch.items()}
    return batch


def _encoded(model: torch.nn.Module, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    if model.config.model_type == "xlnet":
        return _streams(model, batch)
    types = {"token_type_ids": torch.tensor(batch["encoder_token_types"])}
    found = model(
        input_ids=torch.tensor(batch["encoder_input_tokens"]),
        attention_mask=torch.tensor(batch["encoder_segment_ids"]),
        **types if hasattr(model.config, "type_vocab_size") else {},
    )
    names = {
        "prediction_logits": "token_logits",
        "logits": "token_logits",
        "seq_relationship_logits": "pair_logits",
        "sop_logits": "pair_logits",
        "last_hidden_state": "hidden_states",
        "pooler_output": "pooled",
    }
    if isinstance(model, transformers.ElectraForPreTraining):
        names["logits"] = "replaced_logits"
    if type(model).__name__.endswith(("Classification", "MultipleChoice")):
        names["logits"] = "head_logits"
    if "start_logits" in found:
        return _both_ends(found)
    return {names[name]: found[name].numpy() for name in names if name in found}


def _both_ends(found: Any) -> dict[str, np.ndarray]:
    """The numbers of a head that marks spans."""
    return {"head_logits": torch.stack([found.start_logits, found.end_logits], -1).numpy()}


def _streams(model: torch.nn.Module, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """XLNet's outputs; of the one with an output also the content's, and those with a memory."""
    inputs = {
        "input_ids": torch.tensor(batch["encoder_input_tokens"]),
        "token_type_ids": torch.tensor(batch["encoder_token_types"]),
    }
    if not batch["encoder_segment_ids"].all():
        inputs["attention_mask"] = torch.tensor(batch["encoder_segment_ids"])
    plain = model(**inputs)
    if "start_logits" in plain:
        return _both_ends(plain)
    if not hasattr(model, "lm_loss"):
        hidden = plain.get("last_hidden_state")
        found = {"head_logits": plain["logits"]} if hidden is None else {"hidden_states": hidden}
        return {name: x.numpy() for name, x in found.items()}
    keys, own = (torch.tensor(batch[name]) for name in ("perm_key_rank", "perm_own_rank"))
    order = {
        "perm_mask": (keys[:, None, :] >= own[:, :, None]).float(),
        "target_mapping": torch.eye(keys.shape[1]).expand(len(keys), -1, -1),
    }
    earlier = np.random.default_rng(3).integers(6, 80, (len(keys), 7))
    memory = model(torch.tensor(earlier), use_mems=True).mems
    found = {
        "token_logits": model(**inputs, **order).logits,
        "content_logits": plain.logits,
        "logits_with_memory": model(**inputs, **order, mems=memory, use_mems=True).logits,
    }
    return {name: x.numpy() for name, x in found.items()} | {"earlier": earlier}


@torch.no_grad()
def forward(model: torch.nn.Module, batch: dict[str, np.ndarray]) -> np.ndarray:
    """Logits of the decoder, or of an encoder's hidden tokens."""
    if model.config.model_type in ENCODERS:
        return _encoded(model, batch)["token_logits"]
    decoder = torch.tensor(batch["decoder_input_tokens"])
    if model.config.is_encoder_decoder:
        encoder = torch.tensor(batch["encoder_input_tokens"])
        mask = (encoder != 0).long()
        found = model(input_ids=encoder, attention_mask=mask, decoder_input_ids=decoder)
    else:
        mask = torch.tensor(batch["decoder_segment_ids"])
        positions = torch.tensor(batch["decoder_positions"])
        found = model(input_ids=decoder, attention_mask=mask, position_ids=positions)
    return found.logits.numpy()


@torch.no_grad()
def reference(model: torch.nn.Module, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Logits and greedy continuations of `transformers`; of an encoder what its heads give."""
    if model.config.model_type in ENCODERS:
        return _encoded(model, batch)
    if _classifies(model):
        # Which makes the decoder's rows itself.
        tokens, mask = (
            torch.tensor(batch[f"encoder_{name}"]) for name in ("input_tokens", "segment_ids")
        )
        found = model(input_ids=tokens, attention_mask=mask)
        return {"head_logits": found.logits.numpy()}
    logits = forward(model, batch)
    decoder = torch.tensor(batch["decoder_input_tokens"])
    greedy = {"do_sample": False, "max_new_tokens": NEW_TOKENS}
    # Nothing ends early.
    model.generation_config.eos_token_id = model.generation_config.forced_eos_token_id = None
    if model.config.is_encoder_decoder:
        encoder = torch.tensor(batch["encoder_input_tokens"])
        mask = (encoder != 0).long()
        tokens = model.generate(encoder, attention_mask=mask, pad_token_id=0, **greedy)[:, 1:]
    else:
        mask = torch.tensor(batch["decoder_segment_ids"])
        tokens = model.generate(decoder, attention_mask=mask, pad_token_id=0, **greedy)
        tokens = tokens[:, decoder.shape[1] :]
    return {"logits": logits, "tokens": tokens.numpy()}


# Names in files, where transformers has others for what it has loaded.
PUBLISHED_NAMES = {"gpt_neox": {"lm_head.weight": "embed_out.weight"}}


def write(model: torch.nn.Module, directory: Path) -> None:
    """The checkpoint as a directory of Hugging Face's."""
    directory.mkdir(parents=True, exist_ok=True)
    model.config.save_pretrained(directory)
    # What is shared is written once.
    buffers = model.state_dict().keys() & dict(model.named_buffers()).keys()
    state = dict(model.named_parameters()) | {name: model.get_buffer(name) for name in buffers}
    names = PUBLISHED_NAMES.get(model.config.model_type, {})
    save_file({names.get(name, name): tensor.contiguous() for name, tensor in state.items()},
              directory / "model.safetensors", metadata={"format": "pt"})  # fmt: skip


def main(names: Sequence[str]) -> None:
    """Writes these fixtures, or all."""
    for name in names or FAMILIES:
        model = FAMILIES[name]()
        write(model, FIXTURES / name)
        batch = random_batch(model)
        np.savez_compressed(FIXTURES / name / "expected.npz", **batch, **reference(model, batch))


if __name__ == "__main__":
    main(sys.argv[1:])
