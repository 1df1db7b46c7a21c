"""`t5x-like augment`: what a masked language model and word vectors put in a word's place."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from models.bert import BERT
from models.gpt import GPT2
from t5x_like import cli
from t5x_like.errors import UserError
from t5x_like.runs.masked_words import WordCandidates
from t5x_like.vectors import WordVectors
from tasks.objectives.special_tokens import find_boundary_ids, find_mask_id
from tasks.vocabularies import WordVocabulary
from tests.models.families import drawn

WORDS = ["the", "film", "was", "good", "bad", "fine", "movie", "plot", "12", ",", "slow", "dull"]


@pytest.fixture
def vocabulary(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("".join(f"{word} {20 - i}\n" for i, word in enumerate(WORDS)))
    return WordVocabulary(str(path), extra_ids=4)


def bert(vocabulary):
    return BERT(
        vocab_size=vocabulary.vocab_size, embed_dim=8, num_heads=2, num_layers=1, mlp_dim=8,
        max_length=16, use_next_sentence_head=False,
    )  # fmt: skip


def special_ids(vocabulary):
    spec = vocabulary.spec()
    return find_mask_id(spec, None, "test"), *find_boundary_ids(spec, "test")


def test_a_word_of_one_piece_has_the_likeliest_words_where_it_alone_is_hidden(vocabulary):
    model = bert(vocabulary)
    params = drawn(model)
    ids = special_ids(vocabulary)
    found = WordCandidates(model, params, vocabulary, special_ids=ids, count=3)(
        ["film", ",", "unheard", "good"]
    )
    apply = jax.jit(model.apply)
    mask, cls, sep = ids
    film, comma, unknown, good = (vocabulary.encode(w)[0] for w in ("film", ",", "unheard", "good"))
    assert unknown == vocabulary.unk_id

    def by_hand(place, *tokens):
        row = jnp.array([[cls, *tokens, sep]])
        logits = np.asarray(apply({"params": params}, encoder_input_tokens=row))[0, place]
        letters = [word for word in WORDS if word.isalpha()]
        return sorted(letters, key=lambda word: -logits[vocabulary.encode(word)[0]])[:3]

    assert found[0] == by_hand(1, mask, comma, unknown, good)
    assert found[3] == by_hand(4, film, comma, unknown, mask)
    assert found[1:3] == [[], []]


@pytest.mark.slow
def test_another_word_has_its_neighbours_by_word_vectors(vocabulary):
    model = bert(vocabulary)
    table = np.array([[1, 0], [0.9, 0.1], [0, 1], [-1, 0]], np.float32)
    vectors = WordVectors(("unheard", "unseen", "far", "opposite"), table)
    candidates = WordCandidates(
        model,
        model.init(jax.random.key(0))["params"],
        vocabulary,
        special_ids=special_ids(vocabulary),
        vectors=vectors,
        count=2,
    )
    assert candidates(["Unheard", "nowhere"]) == [["unseen", "far"], []]


def test_other_models_and_vocabularies_are_refused(vocabulary):
    ids = special_ids(vocabulary)
    other = GPT2(vocab_size=20, embed_dim=8, num_heads=2, num_layers=1, max_length=8)
    with pytest.raises(
        UserError, match=r"GPT2 reads batches of the format 'causal_language_mod|pre"
    ):
        WordCandidates(other, {}, vocabulary, special_ids=ids)
    with pytest.raises(UserError, match=r"has 10 tokens that are whole words, and 15 candidates"):
        WordCandidates(bert(vocabulary), {}, vocabulary, special_ids=ids)
    model = bert(vocabulary)
    params = model.init(jax.random.key(0))["params"]
    candidates = WordCandidates(model, params, vocabulary, special_ids=ids, count=2)
    with pytest.raises(UserError, match=r"a text of 15 tokens, 'film film .*can read, 14"):
        candidates(["film"] * 15)


@pytest.mark.slow
def test_rows_are_written_with_their_labels_and_the_same_again(vocabulary, tmp_path, capsys):
    texts = tmp_path / "texts.txt"
    texts.write_text("the film was good\nthe plot was bad , the movie was slow\n" * 40)
    words = f"--gin.VOCABULARY_PATH={vocabulary.path}"
    run = [
        "train", "--gin_file=models/bert/tiny.gin", "--gin_file=tasks/text_files.gin",
        "--gin_file=tasks/objectives/masked_lm.gin",
        "--gin_file=tasks/vocabularies/words.gin", words,
        "--gin.vocabularies.WordVocabulary.extra_ids=4",
        "--gin_file=optimizers/adamw.gin", "--gin_file=runs/pretrain.gin",
        f"--gin.TRAIN_FILES={texts}", "--gin.SEPARATOR=\\n", "--gin.HELD_OUT=0.2",
        "--gin.TRAIN_STEPS=2", "--gin.BATCH_SIZE=8",
        "--gin.TASK_FEATURE_LENGTHS={'targets': 16}", f"--gin.CACHE_DIR={tmp_path}/cache",
        f"--gin.MODEL_DIR={tmp_path}/run", "--gin.bert.BERT.use_next_sentence_head=False",
    ]  # fmt: skip
    assert cli.main(run) == 0
    rows = tmp_path / "train.tsv"
    rows.write_text("the film was good\t1\nthe plot was dull\t0\n")
    command = [
        "augment", "--gin_file=tasks/classification_tsv.gin", f"--gin.TRAIN_FILES={rows}",
        f"--gin.VALIDATION_FILES={rows}", "--gin.COLUMNS=['sentence', 'label']",
        "--gin.TEXTS=['sentence']", "--gin.LABELS=['0', '1']", f"--masked_lm={tmp_path}/run",
        "--samples=4", "--candidates=3",
    ]  # fmt: skip
    for name in ("one", "two"):
        assert cli.main([*command, f"--out={tmp_path}/{name}.tsv"]) == 0
    first, second = ((tmp_path / f"{name}.tsv").read_text() for name in ("one", "two"))
    assert first == second
    lines = [line.split("\t") for line in first.splitlines()]
    assert lines[0] == ["the film was good", "1"] and ["the plot was dull", "0"] in lines
    assert 4 <= len(lines) <= 10
    assert all(len(text.split()) == 4 and set(text.split()) <= set(WORDS) for text, _ in lines)
    assert [label for _, label in lines] == sorted((label for _, label in lines), reverse=True)
    capsys.readouterr()
    assert cli.main([*command, f"--out={tmp_path}/rows.csv"]) == 2
    assert "rows are written to NAME.tsv" in capsys.readouterr().err
