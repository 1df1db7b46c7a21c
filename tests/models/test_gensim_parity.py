"""word2vec against gensim: one step from copied tables, and what a trained corpus knows.

gensim takes sigmoids from a table of a thousand entries, and updates pair after pair: the second
pair sees what the first has moved, which is of second order in the rate.
"""

import jax
import numpy as np
import pytest

from models.word_vectors import CBOW, SkipGram
from t5x_like.data.formats import LONGEST_PATH
from t5x_like.vectors import WordVectors, read_vectors, write_vectors
from tests.t5x_like.test_word_runs import questions, text

pytestmark = pytest.mark.interop
gensim = pytest.importorskip("gensim.models")

WORDS = [f"w{i}" for i in range(8)]
SENTENCE = [3, 1, 4, 2, 6, 5]  # the last word is never in it: it is all the noise there is
RATE, WIDTH, WINDOW = 0.001, 6, 2


def peer(**options):
    """gensim's model with drawn tables."""
    model = gensim.Word2Vec(
        vector_size=WIDTH, window=WINDOW, min_count=1, sample=0, shrink_windows=False,
        workers=1, **options,
    )  # fmt: skip
    model.build_vocab_from_freq({word: 100 - i for i, word in enumerate(WORDS)})
    rng = np.random.default_rng(0)
    tables = [model.wv.vectors, model.syn1 if options.get("hs") else model.syn1neg]
    for table in tables:
        table[:] = 0.5 * rng.standard_normal(table.shape)  # products beyond 6 would be skipped
    before = [table.copy() for table in tables]
    if not options.get("hs"):
        model.cum_table[:] = 0
        model.cum_table[-1] = 2**31 - 1
    sentence = [WORDS[i] for i in SENTENCE]
    model.train([sentence], total_examples=1, epochs=1, start_alpha=RATE, end_alpha=RATE)
    return model, before, [after - old for after, old in zip(tables, before, strict=True)]


def batch_of(model, output):
    """The same sentence; rows of our tables are gensim's, but one later, as 0 pads."""
    length = len(SENTENCE)
    batch = {
        "encoder_input_tokens": np.array([SENTENCE]) + 1,
        "encoder_segment_ids": np.ones((1, length), np.int32),
        "word_windows": np.full((1, length), WINDOW),
    }
    if output == "negative_sampling":
        return batch | {"noise_tokens": np.full((1, length), len(WORDS))}
    nodes, signs = np.zeros((2, 1, length, LONGEST_PATH), int)
    for place, i in enumerate(SENTENCE):
        code = model.wv.get_vecattr(WORDS[i], "code")
        nodes[0, place, : len(code)] = model.wv.get_vecattr(WORDS[i], "point") + 1
        signs[0, place, : len(code)] = 1 - 2 * np.asarray(code, int)
    return batch | {"path_nodes": nodes, "path_signs": signs}


@pytest.mark.parametrize("output", ["negative_sampling", "hierarchical_softmax"])
@pytest.mark.parametrize("cls", [SkipGram, CBOW])
def test_one_step_from_copied_tables(cls, output):
    hs = output == "hierarchical_softmax"
    options = dict(sg=int(cls is SkipGram), hs=int(hs), negative=0 if hs else 3, cbow_mean=1)
    model, before, moved = peer(**options)
    rows = [np.zeros((len(WORDS) + 1, WIDTH), np.float32) for _ in before]
    for row, table in zip(rows, before, strict=True):
        row[1 : len(table) + 1] = table
    params = {
        f"{n}_embedder": {"embedding": x} for n, x in zip(["token", "output"], rows, strict=True)
    }
    ours = cls(
        vocab_size=len(WORDS) + 1, embed_dim=WIDTH, output=output, window=WINDOW, negatives=3
    )
    batch = batch_of(model, output)
    gradient = jax.grad(lambda p: ours.loss(p, batch)[0]["loss"])(params)
    steps = [
        -RATE * np.asarray(gradient[f"{n}_embedder"]["embedding"]) for n in ("token", "output")
    ]
    if cls is CBOW:
        # gensim gives each word of a context the whole gradient of the mean, and not its share:
        # four times as much where four words are seen, and here the ends see two and three.
        steps[0] = -RATE * whole_gradients(ours, params, batch)
    for step, of_peer in zip(steps, moved, strict=True):
        largest = np.abs(of_peer).max()
        difference = np.abs(step[1 : len(of_peer) + 1] - of_peer).max()
        # A sigmoid of the table is off by up to 0.003, always to the same side.
        assert largest > 3e-4 and difference < 0.05 * largest


def whole_gradients(model, params, batch):
    """Of the inputs' table, each word's loss by itself, times the size of its context."""
    total = np.zeros_like(params["token_embedder"]["embedding"])
    length = len(SENTENCE)
    for place in range(length):
        alone = batch | {"word_windows": np.where(np.arange(length) == place, WINDOW, 0)[None]}
        gradient = jax.grad(lambda p, b=alone: model.loss(p, b)[0]["loss"])(params)
        seen = min(place, WINDOW) + min(length - 1 - place, WINDOW)
        total += seen * np.asarray(gradient["token_embedder"]["embedding"])
    return total


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """gensim's vectors of the text that ours are tested on, and the questions about it."""
    folder = tmp_path_factory.mktemp("gensim")
    (folder / "questions.txt").write_text(questions())
    model = gensim.Word2Vec(
        [line.split() for line in text(6000)], vector_size=16, sg=1, sample=0, epochs=10,
        workers=1, seed=1,
    )  # fmt: skip
    model.wv.save_word2vec_format(str(folder / "v.txt"))
    return model.wv, folder


def test_its_analogies_and_neighbours_are_found_as_it_finds_them(trained):
    wv, folder = trained
    ours = read_vectors(folder / "v.txt")
    np.testing.assert_array_equal(ours.vectors, wv.vectors)
    accuracy, _ = wv.evaluate_word_analogies(str(folder / "questions.txt"))
    assert ours.analogies(folder / "questions.txt")["accuracy"].iloc[-1] == 100 * accuracy
    assert accuracy >= 0.75
    for word in ("city3", "rivers", "oldcity"):
        if word in ours:
            expected = wv.most_similar(word, topn=10)
            found = ours.neighbours(word)
            assert found["word"].tolist() == [other for other, _ in expected]
            np.testing.assert_allclose(found["similarity"], [x for _, x in expected], atol=1e-5)
    expected = wv.most_similar(positive=["country1", "city2"], negative=["city1"], topn=3)
    found = ours.analogy("city1", "country1", "city2", 3)
    assert found["word"].tolist() == [word for word, _ in expected]


def test_it_reads_what_is_written(trained, tmp_path):
    rng = np.random.default_rng(0)
    vectors = WordVectors(("the", "naïve", "5"), rng.standard_normal((3, 7)))
    for form in ("word2vec", "glove"):
        write_vectors(vectors, tmp_path / form, form)
        again = gensim.KeyedVectors.load_word2vec_format(
            str(tmp_path / form), no_header=form == "glove"
        )
        assert again.index_to_key == list(vectors.words)
        np.testing.assert_array_equal(again.vectors, vectors.vectors)
