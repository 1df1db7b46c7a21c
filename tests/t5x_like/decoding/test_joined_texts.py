"""Of a task without inputs a prompt and what follows it are one text, whatever the tokenizer."""

import jax
import numpy as np
import pytest
import sentencepiece

from models.llama import LLaMA
from t5x_like.decoding import GenerationConfig, Greedy, generate_text
from t5x_like.decoding.scoring import encoded_pairs, score_text
from t5x_like.decoding.text import TextCodec
from tasks.task import Feature
from tasks.vocabularies import ByteVocabulary, SentencePieceVocabulary, WordVocabulary

LINES = [f"import os def main return the value of class {i} for x in range" for i in range(90)]


@pytest.fixture(scope="module")
def pieces(tmp_path_factory):
    """A vocabulary as LLaMA's: a space before every text, and none is lost."""
    folder = tmp_path_factory.mktemp("pieces")
    (folder / "text").write_text("\n".join(LINES))
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "text"), model_prefix=str(folder / "llama"), vocab_size=400,
        byte_fallback=True, pad_id=-1, unk_id=0, bos_id=1, eos_id=2, model_type="bpe",
        normalization_rule_name="identity", remove_extra_whitespaces=False, minloglevel=2,
        hard_vocab_limit=False,
    )  # fmt: skip
    return SentencePieceVocabulary(str(folder / "llama.model"), 0)


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    path = tmp_path_factory.mktemp("words") / "words.txt"
    path.write_text("".join(f"{word} 1\n" for word in ("import", "os", "def", "main")))
    return WordVocabulary(str(path))


def codec(vocabulary, inputs=False):
    feature = Feature(vocabulary)
    return TextCodec(feature if inputs else None, feature, False)


def test_an_answer_is_what_its_tokens_add_to_the_prompt(pieces):
    """`def 1` and the tokens of ` os` are `def 1 os`, and not `def 1os`."""
    joined = codec(pieces)
    for prompt, answer in (("def 1", " os main"), ("import ", "os"), ("", "os"), ("ré", "é 漢")):
        whole = pieces.encode(prompt + answer)
        shared = len(pieces.encode(prompt.rstrip()))
        assert prompt.rstrip() + joined.decode_after(whole[:shared], whole[shared:]) == (
            prompt + answer
        )
    # Inputs and targets are two texts.
    ids = pieces.encode("os")
    assert codec(pieces, inputs=True).decode_after(pieces.encode("def 1"), ids) == "os"
    # What comes before an end token is another text.
    prompt = [*pieces.encode("def"), pieces.eos_id, *pieces.encode("import")]
    assert joined.decode_after(prompt, ids) == " os"
    assert joined.decode_after([*prompt, pieces.eos_id], ids) == "os"


PAIRS = [("import ", "os"), ("import", " os"), ("imp", "ort os"), ("def", "main"), ("", "os")]


@pytest.mark.parametrize(("text", "target"), PAIRS)
def test_inputs_and_targets_are_joined_as_they_stand(text, target, pieces):
    for vocabulary in (pieces, ByteVocabulary()):
        before, after = codec(vocabulary).encode_pair(text, target)
        assert after[-1] == vocabulary.eos_id
        assert vocabulary.decode([*before, *after]) == text + target
        assert [*before, *after[:-1]] == vocabulary.encode(text + target)
        assert codec(vocabulary).encode_pair(text, target, False)[1] == after[:-1]
        # Two features are encoded each by itself.
        apart = codec(vocabulary, inputs=True)
        alone = (apart.encode(text), apart.encode_target(target))
        assert apart.encode_pair(text, target) == alone


def test_a_prompt_keeps_its_tokens_where_a_target_joins_them(words):
    """Of bytes and words, which write nothing at the beginning of a text."""
    joined = codec(words)
    for text in ("def ", "def"):
        found = joined.encode_pair(text, "main", False)
        assert found == (words.encode("def"), words.encode("main"))
    prompt, ids = words.encode("def"), words.encode("main os")
    assert "def" + joined.decode_after(prompt, ids) == "def main os"


@pytest.fixture(scope="module")
def model(pieces):
    made = LLaMA(
        vocab_size=pieces.vocab_size, embed_dim=16, num_heads=2, num_layers=1, mlp_dim=16,
        max_length=32,
    )  # fmt: skip
    params = made.init(jax.random.key(0))["params"]
    return made, jax.tree.map(lambda x: 4 * np.asarray(x), params)


def test_a_score_is_that_of_the_whole_text_less_the_prompts(pieces, model):
    """log P("import os") - log P("import"), however the space is written."""
    joined = codec(pieces)

    def total(targets, inputs=None):
        found = score_text(*model, joined, targets=targets, inputs=inputs, end_token=False)
        return [one.total for one in found]

    whole, prompt = total(["import os", "import"])
    assert total([" os", "os"], ["import", "import "]) == pytest.approx(
        [whole - prompt] * 2, abs=1e-4
    )
    # Tokens that a table shows are those that are scored.
    _, (ids,) = encoded_pairs(joined, ["os"], ["import "], False)
    assert pieces.decode(ids) == "os"
    assert len(ids) == len(pieces.encode("import os")) - len(pieces.encode("import"))


def test_generated_text_goes_on_from_its_prompt(pieces, model):
    prompts = [f"{word} {i}" for word in ("def", "class", "return") for i in range(6)]
    config = GenerationConfig(3, Greedy())
    found = generate_text(*model, codec(pieces), prompts, config=config)
    for prompt, one in zip(prompts, found, strict=True):
        assert prompt + one.text == pieces.decode([*pieces.encode(prompt), *one.tokens])
    assert any(one.text.startswith(" ") for one in found)
