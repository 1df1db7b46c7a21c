"""Texts that end what is generated, wherever in tokens they begin and end."""

import itertools

import numpy as np
import pytest

from t5x_like.decoding import BeamSearch, Sampling, generate
from t5x_like.decoding.constraints import StopStrings, checked_stop_strings, token_texts
from t5x_like.errors import UserError

# Of each token its text, which may be part of a stop string or hold all of it.
PIECES = ["", "", "a", "b", "ab", "ba", "\n", "\n\n", "Q", "xQ:", ": "]


def decode(ids):
    return "".join(PIECES[i] for i in ids)


def stop_at(*texts, pieces=PIECES, decode=decode):
    return StopStrings(texts, decode, [piece or None for piece in pieces])


def test_the_stop_string_that_is_complete_first_ends_a_text():
    stop = stop_at("\n\n", "Q:", "abc", "b")
    assert stop.cut("xy\nQ:z\n\n") == "xy\n"
    # "b" is complete before "abc" is, which begins before it.
    assert stop.cut("xabc") == "xa"
    assert stop.cut("Q\n:") is None


@pytest.mark.parametrize("texts", [("\n\n",), ("aba", "bab"), ("Q:", "\n"), ("abab", "aab", "b\n")])
def test_the_automaton_stops_after_the_token_that_completes_a_string(texts):
    stop = stop_at(*texts)
    table = stop.table
    for tokens in itertools.product(range(2, len(PIECES)), repeat=4):
        state, ended = 0, None
        for count, token in enumerate(tokens, start=1):
            state = table[token, state]
            if ended is None and state == table.shape[1] - 1:
                ended = count
        wanted = next(
            (n for n in range(1, 5) if any(text in decode(tokens[:n]) for text in texts)), None
        )
        assert ended == wanted == stop.kept(tokens)


def test_a_tokens_text_is_what_it_adds_after_another():
    # As a SentencePiece model does, the first piece of a text loses its space.
    pieces = ["", "?", "▁a", "b", "▁", "é"]

    def decode(ids):
        return "".join(pieces[i] for i in ids).replace("▁", " ").lstrip(" ")

    assert token_texts(decode, 6) == [None, "?", " a", "b", " ", "é"]


def by_hand(model, table, prompts, limit, stop, **arguments):
    """Without stop strings, the text cut afterwards."""
    for one in generate(model, table, prompts, max_new_tokens=limit, **arguments):
        kept = stop.kept(one.tokens)
        yield one.tokens if kept is None else one.tokens[:kept]


@pytest.mark.parametrize("strategy", [None, Sampling()], ids=["greedy", "sampling"])
def test_a_row_ends_with_the_token_that_completes_a_stop_string(bigram, log_probability, strategy):
    model, table = bigram(2, len(PIECES))
    prompts = [[2], [3, 4], [9, 9, 2], [5], [7]]
    arguments = {} if strategy is None else {"strategy": strategy, "seed": 3}
    stop = stop_at("ba", "\n\n")
    found = generate(model, table, prompts, max_new_tokens=12, batch_size=3, stop=stop, **arguments)
    expected = list(by_hand(model, table, prompts, 12, stop, **arguments))
    assert [one.tokens for one in found] == expected
    stopped = [stop.kept(tokens) is not None for tokens in expected]
    assert any(stopped) and not all(stopped)
    for prompt, one, ended in zip(prompts, found, stopped, strict=True):
        if ended:
            assert one.finished and one.length == len(one.tokens)
            wanted = log_probability(table, prompt, one.tokens)
            assert one.score == pytest.approx(wanted, abs=1e-4)


def test_the_loop_itself_ends_with_the_stop_string(bigram):
    model, table = bigram(2, len(PIECES))
    table[:] = 0.0
    table[..., 2], table[2, 2, 6], table[6, 2, 2] = 5.0, 9.0, 0.0  # a a \n a a \n …
    stop = stop_at("\n")

    (one,) = generate(model, table, [[3]], max_new_tokens=50, batch_size=1, stop=stop)
    assert decode(one.tokens) == "aa\n"
    assert one.length == 3


def test_the_text_has_the_last_word_where_tokens_alone_tell_it_wrong(bigram, log_probability):
    model, table = bigram(0, len(PIECES))
    prompts = [[2], [3, 4], [9, 9, 2], [5], [7]]

    def tidied(ids):  # a line's end before a letter vanishes, and a pair is marked
        return decode(ids).replace("\na", "a").replace("ab", "ab;")

    # "b;" is in no token, and "\na" in tokens, but in no text.
    for text in ("b;", "\na"):
        stop = StopStrings((text,), tidied, [piece or None for piece in PIECES])
        found = generate(model, table, prompts, max_new_tokens=12, batch_size=5, stop=stop)
        expected = list(by_hand(model, table, prompts, 12, stop, batch_size=5))
        assert [one.tokens for one in found] == expected
        assert any((text in decode(tokens)) == (text == "\na") for tokens in expected)
        for prompt, one in zip(prompts, found, strict=True):
            tokens = one.tokens if one.length == len(one.tokens) else [*one.tokens, 1]
            assert one.length == len(tokens)
            assert one.score == pytest.approx(log_probability(table, prompt, tokens), abs=1e-4)


def test_a_beam_ends_with_its_stop_string_and_competes(bigram, log_probability):
    model, table = bigram(5, len(PIECES))
    stop = stop_at("b", "\n")
    strategy = BeamSearch(4, 0.6)
    found = generate(model, table, [[2], [8]], max_new_tokens=6, strategy=strategy, stop=stop)
    for prompt, one in zip([[2], [8]], found, strict=True):
        tokens = one.tokens if one.length == len(one.tokens) else [*one.tokens, 1]
        assert one.finished
        penalty = ((5 + len(tokens)) / 6) ** 0.6
        wanted = log_probability(table, prompt, tokens) / penalty
        assert one.score == pytest.approx(wanted, abs=1e-4)
    # Nothing goes on behind a stop string.
    assert all(stop.kept(one.tokens) in (None, len(one.tokens)) for one in found)
    assert any(stop.kept(one.tokens) for one in found)


@pytest.mark.parametrize(
    ("given", "said"),
    [("\n", "stop_strings is one text"), ([""], "stop_strings has ''"), ([3], "has 3")],
)
def test_stop_strings_that_are_none_are_refused(given, said):
    with pytest.raises(UserError, match=said):
        checked_stop_strings(given)
    assert checked_stop_strings(["\n", "Q:"]) == ("\n", "Q:")


def test_a_table_has_a_row_for_each_token_and_small_numbers():
    table = stop_at("Question:", "\n\n").table
    assert table.shape[0] == len(PIECES) and table.dtype == np.int16
