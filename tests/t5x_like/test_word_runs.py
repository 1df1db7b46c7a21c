"""Word vectors from the command line: counted, cached, trained, resumed, asked and written.

The text is of pairs, a city and its country: both stand near the words of their pair, each near
those of its kind, so that a city is to its country as any other is to its own.
"""

import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import tasks
from models.cove import CoVe
from models.gpt import GPT2
from models.word_vectors import SkipGram
from t5x_like import checkpoints, cli, load_run
from t5x_like.decoding import TextCodec
from t5x_like.errors import UserError
from t5x_like.runs import Run, at_hand
from t5x_like.vectors import read_vectors, write_vectors
from tasks import objectives, sources
from tasks.vocabularies import WordVocabulary

PAIRS = 8


def text(documents, seed=0):
    rng = np.random.default_rng(seed)
    lines = []
    for _ in range(documents):
        pair, kind = rng.integers(PAIRS), ("city", "country")[rng.integers(2)]
        near = [f"river{pair}", f"hill{pair}", f"{kind}s", f"many{kind}", f"old{kind}"]
        words = [f"{kind}{pair}", *rng.permuted(near)[:3]]
        lines.append(" ".join(rng.permuted(words)))
    return lines


def questions():
    """Each pair with the next: 8 analogies."""
    lines = [": cities"]
    for i in range(PAIRS):
        j = (i + 1) % PAIRS
        lines.append(f"city{i} country{i} city{j} country{j}")
    return "\n".join(lines)


GIN = """
from __gin__ import dynamic_registration
import tasks
from tasks import sources

include 'tasks/unsupervised.gin'
include 'tasks/causal_lm.gin'
include 'tasks/vocabularies/words.gin'

MIXTURE_OR_TASK_NAME = 'words'
SOURCE = @sources.TextFiles()
sources.TextFiles.files = {files}
sources.TextFiles.separator = '\\n'
VOCABULARY_PATH = '{folder}/words.txt'
CACHE_DIR = '{folder}/cache'
"""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory, write_cache):
    """Writes a folder with text, a vocabulary, a cache and the gin file of its task."""

    def make(train, validation=()):
        folder = tmp_path_factory.mktemp("words")
        texts = {"train": train, **({"validation": validation} if validation else {})}
        files = {split: f"{folder}/{split}.txt" for split in texts}
        for split, lines in texts.items():
            (folder / f"{split}.txt").write_text("\n".join(lines))
        (folder / "task.gin").write_text(GIN.format(files=files, folder=folder))
        task_gin = f"--gin_file={folder}/task.gin"
        words = ["--model_type=words", f"--out={folder}/words.txt", "--min_count=1"]
        assert cli.main(["vocab", task_gin, *words]) == 0
        task = tasks.unsupervised(
            "words",
            sources.TextFiles(files=files, separator="\n"),
            objective=objectives.CausalLM(),
            vocabulary=WordVocabulary(f"{folder}/words.txt"),
        )
        write_cache(task, folder / "cache", texts)
        return folder, task_gin

    return make


@pytest.fixture(scope="module")
def files(corpus):
    """A folder with text and questions, and the flag of its task."""
    folder, task_gin = corpus(text(6000), text(60, seed=1))
    (folder / "questions.txt").write_text(questions())
    return folder, task_gin


MODELS = {
    "skip_gram": ["word2vec/skip_gram", "context_windows"],
    "cbow": ["word2vec/cbow", "context_windows", "--gin.SUBSAMPLE=0"],
    "hierarchical": [
        "word2vec/cbow",
        "context_windows",
        "--gin.word_vectors.CBOW.output='hierarchical_softmax'",
        "--gin.CONTRAST=paths",
    ],
    "glove": ["glove/100", "cooccurrences", "--gin.glove.GloVe.x_max=1000.0"],
}


def train(files, name, run, *more):
    model, objective, *own = MODELS[name]
    units = {"word2vec": "word_vectors", "glove": "glove"}[model.split("/")[0]]
    cls = {"word2vec/skip_gram": "SkipGram", "word2vec/cbow": "CBOW"}.get(model, "GloVe")
    row = 256 if objective == "context_windows" else 512
    return cli.main(
        [
            "train",
            f"--gin_file=models/{model}.gin",
            files[1],
            f"--gin_file=tasks/objectives/{objective}.gin",
            "--gin_file=optimizers/adagrad.gin",
            "--gin_file=runs/pretrain.gin",
            "--gin.VOCAB_SIZE=64",
            f"--gin.{units}.{cls}.embed_dim=16",
            f"--gin.TASK_FEATURE_LENGTHS={{'targets': {row}}}",
            "--gin.BATCH_SIZE=4",
            "--gin.LEARNING_RATE=0.1",
            "--gin.train.train.tensorboard=False",
            f"--gin.MODEL_DIR={run}",
            *own,
            *more,
        ]
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.release if name in ("cbow", "hierarchical") else ())
        for name in MODELS
    ],
)
def test_analogies_of_a_trained_corpus_are_solved(files, name, tmp_path):
    assert train(files, name, tmp_path / "run", "--gin.TRAIN_STEPS=300") == 0
    run = load_run(str(tmp_path / "run"))
    total = run.analogies(files[0] / "questions.txt").set_index("section").loc["total"]
    # One word in 36 would be right by chance.
    assert total["questions"] == PAIRS and total["accuracy"] >= 50
    if name in ("skip_gram", "cbow"):
        kinds = [re.sub(r"\d", "", word) for word in run.neighbours("city3", 9)["word"]]
        assert kinds.count("city") >= 5
    one, other, country = run.embed(["city1 city2", "city2 city1", "country1"])
    np.testing.assert_allclose(one, other, rtol=1e-6)
    assert not np.allclose(one, country, rtol=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["skip_gram", "glove"])
def test_a_run_that_is_continued_is_the_run_that_never_stopped(files, name, tmp_path):
    period = "--gin.checkpoints.CheckpointPolicy.period=5"
    assert train(files, name, tmp_path / "whole", "--gin.TRAIN_STEPS=10", period) == 0
    for steps in (5, 10):
        assert train(files, name, tmp_path / "parts", f"--gin.TRAIN_STEPS={steps}", period) == 0
    whole, parts = (load_run(str(tmp_path / name)) for name in ("whole", "parts"))
    assert checkpoints.checkpoint_steps(str(tmp_path / "parts")) == [5, 10]
    jax.tree.map(np.testing.assert_array_equal, whole.params, parts.params)


def test_pairs_are_counted_and_decomposed_by_a_command(files, tmp_path, capsys):
    from scipy import sparse

    counts, vectors = tmp_path / "counts.npz", tmp_path / "v.txt"
    flags = ["cooccur", files[1], "--window=3"]
    assert cli.main([*flags, f"--out={counts}"]) == 0
    matrix = sparse.load_npz(counts)
    with np.load(counts) as saved:
        words = saved["words"].tolist()
    assert "pairs of words in" in capsys.readouterr().out
    # 6,000 documents of four words: at distances 1, 2, 3 there are 3, 2, 1 pairs, on both sides.
    assert matrix.sum() == pytest.approx(6000 * 2 * (3 + 2 / 2 + 1 / 3))
    city, river = words.index("city1"), words.index("river1")
    assert matrix[city, river] == matrix[river, city] > 0
    assert matrix[city, words.index("river2")] == 0
    assert cli.main([*flags, f"--out={vectors}", "--dimensions=12"]) == 0
    assert "38 words, 12 dimensions" in capsys.readouterr().out
    found = read_vectors(vectors)
    assert found.analogies(files[0] / "questions.txt")["accuracy"].iloc[-1] == 100


def test_what_is_counted_is_the_tasks_where_no_flag_says_it(files, tmp_path, capsys):
    flags = [
        "cooccur", files[1], f"--out={tmp_path}/x.npz", "--dry_run",
        "--gin_file=tasks/objectives/cooccurrences.gin", "--gin.WINDOW=4", "--gin.WEIGHTING=ramp",
    ]  # fmt: skip
    assert cli.main(flags) == 0
    said = capsys.readouterr().out
    assert "Cooccurrences(window=4, weighting='ramp', symmetric=True)" in said
    assert cli.main([*flags, "--window=2", "--one_sided"]) == 0
    said = capsys.readouterr().out
    assert "Cooccurrences(window=2, weighting='ramp', symmetric=False)" in said


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--out=x.txt"], "--out=x.txt: counts are written to NAME.npz"),
        (["--out=x.npz", "--dimensions=3"], "vectors are written to NAME.txt"),
        (["--out=x.npz", "--transform=log"], "--transform is of vectors: give --dimensions too"),
        (["--out=x.npz", "--window=0"], "window is 0: 1 to 20 words"),
        (["--out=x.txt", "--dimensions=99"], "99 dimensions are asked for: 1 to 38"),
        (["--out=x.npz", "--split=test"], "test"),
    ],
)
def test_what_cannot_be_counted_is_told_in_a_line(
    files, capsys, flags, said, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["cooccur", files[1], *flags]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert said in lines[-1] and not list(tmp_path.glob("x*"))


def test_a_corpus_smaller_than_a_window_is_told_in_a_line(corpus, tmp_path, capsys):
    few = corpus(["city1 river1"])
    alone = ["--gin.train.train.validation=[]", "--gin.TRAIN_STEPS=2"]
    capsys.readouterr()
    assert train(few, "skip_gram", tmp_path / "run", *alone) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "split 'train' of task 'words' has 3 tokens, and 6 are needed for a word" in line


# -- A run in Python --------------------------------------------------------------------------


class Words:
    """Three words, and what is not known."""

    vocab_size, extra_ids, eos_id, unk_id = 6, 0, 1, 2
    words = ("play", "plays", "cat")

    def encode(self, text):
        known = dict(zip(self.words, range(3, 6), strict=True))
        return [known.get(word, 2) for word in text.split()]

    def decode(self, ids):
        return " ".join(self.words[i - 3] if i >= 3 else "<unk>" for i in ids if i > 1)


class WordFeature:
    vocabulary, add_eos = Words(), False


class EndedFeature:
    vocabulary, add_eos = Words(), True


@pytest.fixture
def run():
    found = Run("run", SkipGram(vocab_size=8, embed_dim=2), {"targets": 6})
    table = np.array([(9, 9), (9, 9), (9, 9), (1, 0), (2, 1), (0, 3), (8, 8), (8, 8)], np.float32)
    found.__dict__["_restored"] = ({"token_embedder": {"embedding": table}}, 0)
    found.__dict__["codec"] = TextCodec(None, WordFeature(), False)
    found.__dict__["task"] = None
    return found


def test_neighbours_are_words_and_not_rows_of_padding(run):
    found = run.neighbours("play")
    assert found["word"].tolist() == ["plays", "cat"]
    np.testing.assert_allclose(found["similarity"], [2 / 5**0.5, 0], atol=1e-6)
    # Of two words their mean: (0.5, 1.5).
    assert run.neighbours("play cat", 1)["word"].tolist() == ["cat"]


def test_a_text_is_the_mean_of_the_words_that_are_known(run):
    found = run.embed(["play dog cat", ["plays"]])
    np.testing.assert_allclose(found, [(0.5, 1.5), (2, 1)])
    with pytest.raises(UserError, match="no word of 'a dog' is in the run's vocabulary of 3"):
        run.embed(["a dog"])
    with pytest.raises(UserError, match="pooling is 'first': of vectors of words"):
        run.embed(["play"], pooling="first")
    with pytest.raises(UserError, match="no text was given"):
        run.embed([])


def test_vectors_of_a_run_are_written_and_read(run, tmp_path):
    write_vectors(run.word_vectors, tmp_path / "v.txt")
    assert read_vectors(tmp_path / "v.txt").words == Words.words
    assert (tmp_path / "v.txt").read_text().splitlines()[:2] == ["3 2", "play 1.0 0.0"]


def test_a_word_that_the_run_does_not_know_is_told_in_a_line(run):
    for word in ("dog", "cat dog", ""):
        with pytest.raises(UserError, match="is not in the run's vocabulary of 3 words"):
            run.neighbours(word)


def test_any_model_with_a_table_has_neighbours():
    model = GPT2(vocab_size=8, embed_dim=16, num_heads=2, num_layers=1, max_length=32)
    found = Run("run", model, {"targets": 4})
    table = np.eye(8, 16, dtype=np.float32)
    table[3] += table[4]
    found.__dict__["_restored"] = ({"token_embedder": {"embedding": table}}, 0)
    found.__dict__["codec"] = TextCodec(None, WordFeature(), False)
    assert found.neighbours("play", 1)["word"].tolist() == ["plays"]


def test_the_words_of_cove_are_those_that_it_reads():
    """Their vectors are of the source's table, and a text's end is none of them."""
    model = CoVe(
        vocab_size=8, embed_dim=4, encoder_dim=3, hidden_dim=6, num_decoder_layers=1,
        num_bidirectional_layers=1, num_encoder_layers=1,
    )  # fmt: skip
    params = jax.tree.map(
        lambda box: jnp.zeros(box.value.shape), model.abstract_params(),
        is_leaf=lambda box: hasattr(box, "names"),
    )  # fmt: skip
    table = np.eye(8, 4, dtype=np.float32)
    table[3:] = [(1, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)]
    table[:3] = 0  # as of a file that has no vector of padding, the end and what is not known
    params["source_embedder"]["embedding"] = jnp.asarray(table)
    found = Run("run", model, {"inputs": 8, "targets": 8})
    found.__dict__["_restored"] = (params, 0)
    found.__dict__["codec"] = TextCodec(EndedFeature(), WordFeature(), False)
    assert found.neighbours("play", 1)["word"].tolist() == ["plays"]
    vectors = at_hand._in_context(model, params, found.codec, ["play play"])
    assert vectors["lengths"].tolist() == [2]
    pooled = at_hand.pooled(vectors["hidden_states"], vectors["lengths"], "mean")
    np.testing.assert_array_equal(pooled[0, :4], table[3])


def test_what_a_model_of_a_gin_file_needs_is_shown_by_inspect(capsys):
    assert cli.main(["inspect", "--gin_file=models/word2vec/skip_gram.gin", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["parameters"] == 2 * 10_003 * 100
    assert found["parameters_without_embeddings"] == 0
