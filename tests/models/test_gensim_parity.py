"""word2vec against gensim: one step from copied tables, and what a trained corpus knows.

gensim takes sigmoids from a table of a thousand entries, and updates pair after pair: the second
pair sees what the first has moved.
"""

import functools

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


def exact(x):
    return 1 / (1 + np.exp(-x))


def tabled(x):
    """gensim's sigmoid: the entry of 1,000 from -6 to 6, of which it takes 83 for a step of 1."""
    return exact(6 * (2 * int((x + 6) * 83) / 1000 - 1))


def steps_of(model, before, sigmoid, as_gensim):
    """What the sentence moves in both tables, by Mikolov et al. 2013b, equations 3 and 4.

    As gensim has it, each pair sees what those before it have moved, and each word of CBOW's
    context is given the whole gradient of their mean; otherwise its share.
    """
    now = [table.astype(np.float64) for table in before]
    seen = now if as_gensim else before
    for place, word in enumerate(SENTENCE):
        places = range(max(place - WINDOW, 0), min(place + WINDOW + 1, len(SENTENCE)))
        context = [SENTENCE[other] for other in places if other != place]
        outputs = [(word, 1), *[(len(WORDS) - 1, 0)] * 3]
        if model.hs:
            node = functools.partial(model.wv.get_vecattr, WORDS[word])
            outputs = [*zip(node("point"), 1 - node("code").astype(int), strict=True)]
        for inputs in [[other] for other in context] if model.sg else [context]:
            hidden, work = seen[0][inputs].mean(axis=0), np.zeros(WIDTH)
            for row, label in outputs:
                error = RATE * (label - sigmoid(hidden @ seen[1][row]))
                work += error * seen[1][row]
                now[1][row] += error * hidden
            now[0][inputs] += work if as_gensim else work / len(inputs)
    return [after - old for after, old in zip(now, before, strict=True)]


@pytest.mark.parametrize("output", ["negative_sampling", "hierarchical_softmax"])
@pytest.mark.parametrize("cls", [SkipGram, CBOW])
def test_one_step_from_copied_tables(cls, output):
    """Both are the equations' step: gensim's with its own sigmoid, ours with the exact one."""
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
        -RATE * np.asarray(gradient[f"{n}_embedder"]["embedding"])[1 : len(table) + 1]
        for n, table in zip(("token", "output"), before, strict=True)
    ]
    for found, sigmoid, as_gensim, bound in (
        (moved, tabled, True, 1e-3),
        (steps, exact, False, 1e-5),
    ):
        expected = steps_of(model, before, sigmoid, as_gensim)
        for one, other in zip(found, expected, strict=True):
            largest = np.abs(other).max()
            assert largest > 3e-4 and np.abs(one - other).max() < bound * largest


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
