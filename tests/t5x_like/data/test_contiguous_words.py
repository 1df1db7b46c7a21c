"""Spelled words in rows that continue one another: read in their order, they are the text."""

import numpy as np
import pytest

import tasks
from t5x_like import data
from t5x_like.data.cache import layout
from t5x_like.data.cache.token_stream import TokenStream
from tasks import objectives, sources
from tasks.vocabularies import SpelledWordVocabulary

FORMAT = "contiguous_spelled_words"
EOS, A, B, C = 1, 3, 4, 5
BEGIN, END = 257, 258  # characters


@pytest.fixture
def opened(tmp_path, write_cache):
    """From documents to the settings of a dataset, and all tokens."""
    (tmp_path / "words.txt").write_text("a 9\nb 8\nc 7\n")
    (tmp_path / "text.txt").touch()  # the cache has it already

    def open_(documents, row, rows, *, shuffle=False):
        task = tasks.unsupervised(
            "spelled",
            sources.TextFiles(files={"train": str(tmp_path / "text.txt")}),
            objective=objectives.SpelledWords(),
            vocabulary=SpelledWordVocabulary(str(tmp_path / "words.txt")),
        )
        write_cache(task, tmp_path / "cache", {"train": documents})
        config = data.DatasetConfig(
            task=task,
            cache_dir=tmp_path / "cache",
            task_feature_lengths={"targets": row},
            batch_size=rows,
            shuffle=shuffle,
            prefetch=0,
            verify_source=False,
        )
        folder = layout.cache_path(tmp_path / "cache", task.cache_name)
        stream = TokenStream(folder, "train", "targets", EOS, ends=2)
        return config, stream.read(0, len(stream))

    return open_


def read(batch, row):
    """Words of a row, with `<` and `>` for the ends of texts, and whether it continues."""
    there = batch["encoder_segment_ids"][row] != 0
    words = []
    for word, characters in zip(
        batch["encoder_input_tokens"][row][there],
        batch["encoder_characters"][row][there],
        strict=True,
    ):
        if word == EOS:
            words.append({BEGIN: "<", END: ">"}[int(characters[1])])
        else:
            words.append({A: "a", B: "b", C: "c"}.get(int(word), "?"))
    return "".join(words), int(batch["row_continues"][row])


def test_ends_of_documents_alone_stand_between_words(opened):
    # In pieces of four tokens, two | being the end of a document: abc| |ab| |ccc cccc ||bb a||a a||
    documents = ["a b c", "a b", "c c c c c c c", "b b a", "a a"]
    config, tokens = opened(documents, row=6, rows=1)
    batches = data.open_dataset(config, batch_format=FORMAT)
    assert tokens.size == 27
    expected = [
        ("<abc>", 0),  # of the beginning it is not known that it is one
        ("<ab>", 0),  # after two ends: a document's
        ("<ccc", 0),
        ("cccc", 1),
        ("<bb", 0),  # the end of the document before stood in no row
        ("a><a", 1),
    ]
    assert [read(next(batches), 0) for _ in expected] == expected
    # The tracks begin anew.
    assert read(next(batches), 0) == expected[0]
    evaluation = data.open_evaluation(config, batch_format=FORMAT)
    # With the three tokens that are left.
    assert [read(each.batch, 0) for each in evaluation] == [*expected, ("a>", 1)]


def test_what_is_told_is_what_the_text_has(opened):
    documents = ["a b c", "a b", "c c c c c c c", "b b a", "a a"]
    config, _ = opened(documents, row=6, rows=1)
    batches = data.open_dataset(config, batch_format=FORMAT)
    made = [next(batches) for _ in range(6)]
    weights = [batch["encoder_loss_weights"][0].tolist() for batch in made]
    assert weights[0] == [0, 1, 1, 1, 1, 0]
    assert weights[1] == [1, 1, 1, 1, 0, 0]
    assert weights[3] == [1, 1, 1, 1, 0, 0]
    assert weights[4] == [1, 1, 1, 0, 0, 0]
    segments = made[5]["encoder_segment_ids"][0].tolist()
    assert segments == [1, 1, 2, 2, 0, 0]  # the state is set back


def documents_of(count, seed=0):
    """Words of which one in six is spelled, by two to five tokens."""
    rng = np.random.default_rng(seed)
    words = ["a", "b", "c", "b", "a", "xyz"]
    return [
        " ".join("xyzw"[: rng.integers(1, 5)] if w == "xyz" else w for w in chosen)
        for chosen in (rng.choice(words, rng.integers(1, 12)) for _ in range(count))
    ]


def words_of_track(tokens, chunk):
    """A track's words, without those of several tokens that have a cut in them or after them.

    But for the first token alone: it is a word without letters.
    """
    words, i = [], 0
    while i < tokens.size:
        end = i + 1
        while end < tokens.size and tokens[end] > C:
            end += 1
        cut = (i // chunk + 1) * chunk
        if tokens[i] > C or (end - i > 1 and end >= cut and i + 1 < cut):
            pass  # of a word that began in the track before, or is cut
        elif tokens[i] != EOS:
            words.append({A: "a", B: "b", C: "c"}.get(int(tokens[i]), "?"))
        i = end
    return "".join(words)


def begins_a_document(tokens, at, chunk):
    """Whether a piece does, as the first of its words or after the rest of one that is cut."""
    piece = tokens[at : at + chunk]
    return EOS in (tokens[at - 1], *piece[piece <= C][:1])


def test_words_of_batch_after_batch_are_those_of_the_text(opened):
    rows, row = 3, 10
    chunk = row - 2
    config, tokens = opened(documents_of(60), row, rows)
    batches = data.open_dataset(config, batch_format=FORMAT)
    track = tokens.size // rows
    steps = track // chunk
    made = [next(batches) for _ in range(steps)]
    for r in range(rows):
        begin = r * track
        found = [read(batch, r) for batch in made]
        text = "".join(words for words, _ in found)
        own = tokens[begin : begin + steps * chunk]
        assert text.replace("<", "").replace(">", "") == words_of_track(own, chunk)
        for step, (words, continues) in enumerate(found):
            at = begin + step * chunk
            anew = step == 0 or begins_a_document(tokens, at, chunk)
            assert continues == (not anew) and words.startswith("<") == anew
    assert any(continues for _, continues in found)
    # An evaluation has tracks of its own, and the same pieces.
    seen = {}
    for number, each in enumerate(data.open_evaluation(config, batch_format=FORMAT)):
        for r, index in enumerate(each.indices):
            seen[index], continues = read(each.batch, r)
            at = index * chunk
            anew = number == 0 or begins_a_document(tokens, at, chunk)
            assert continues == (not anew)
    words = "".join(seen[i].strip("<>").replace(">", "").replace("<", "") for i in sorted(seen))
    assert words == words_of_track(tokens, chunk)


def test_two_processes_read_the_same_rows_after_a_stop(opened):
    config, _ = opened(documents_of(60), 10, 4, shuffle=True)
    whole = data.open_dataset(config, batch_format=FORMAT)
    for _ in range(3):
        next(whole)
    parts = [
        data.open_dataset(config, batch_format=FORMAT, shard_index=i, shard_count=2)
        for i in range(2)
    ]
    for part in parts:
        part.set_state(whole.get_state())
    found = [next(part) for part in parts]
    for name, array in next(whole).items():
        np.testing.assert_array_equal(np.concatenate([f[name] for f in found]), array)
