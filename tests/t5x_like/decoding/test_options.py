"""Options in text: how they become tokens, and what they are ranked by."""

import dataclasses

import numpy as np
import pytest

from t5x_like.decoding.options import OptionScores, Question, Reading, score_options
from t5x_like.decoding.scoring import score
from t5x_like.decoding.text import TextCodec
from t5x_like.errors import UserError
from tests.models.families import T5_1_1 as T5
from tests.models.families import V, drawn, gpt2, t5

MERGED = {"ab": 40, " c": 41}


class Pairs:
    """Letters are 3, 4, … and a space 29; `ab`, and a space before `c`, are one token each."""

    vocab_size, extra_ids, eos_id, unk_id, start_id = 61, 0, 1, 2, 0

    def encode(self, text):
        ids = []
        while text:
            size = 2 if text[:2] in MERGED else 1
            piece, text = text[:size], text[size:]
            single = 29 if piece == " " else ord(piece[0]) - ord("a") + 3
            ids.append(MERGED.get(piece, single))
        return ids


@dataclasses.dataclass
class Feature:
    vocabulary: Pairs = dataclasses.field(default_factory=Pairs)
    add_eos: bool = True


@pytest.fixture(scope="module")
def gpt():
    model = gpt2()
    return model, drawn(model)


TEXT = TextCodec(None, Feature(), False)
PAIR = TextCodec(Feature(), Feature(), True, 6)


def ranked(**changes):
    """Two options: -4 nats, 2 tokens, 8 characters, -2 after `Answer: `; and -6, 4, 24, -5.5."""
    values = dict(
        sums=np.array([-4.0, -6.0]), tokens=np.array([2, 4]), characters=np.array([8, 24]),
        bytes=np.array([8, 24]), unconditional=np.array([-2.0, -5.5]),
    )  # fmt: skip
    return OptionScores(**(values | changes))


def test_what_options_are_ranked_by_decides_which_is_the_likeliest():
    scores = ranked()
    found = {name: values.tolist() for name, values in scores.normalized.items()}
    assert found == {
        "sum": [-4.0, -6.0],
        "per_token": [-2.0, -1.5],
        "per_character": [-0.5, -0.25],
        "per_byte": [-0.5, -0.25],
        "unconditional": [-2.0, -0.5],
    }
    assert [scores.best(name) for name in found] == [0, 1, 1, 1, 1]


def test_of_equal_options_the_first_is_ranked_first():
    assert ranked(sums=np.array([-6.0, -6.0])).best("sum") == 0


def test_characters_and_bytes_are_of_the_option_without_what_stands_before_it(gpt):
    class Octets(Pairs):
        def encode(self, text):
            return [3 + octet % 50 for octet in text.encode("utf-8")]

    codec = TextCodec(None, Feature(Octets()), False)
    ((found,), _) = score_options(*gpt, codec, [Question(["a"], [" Zoë", " no"])])
    assert found.characters.tolist() == [3, 2]
    assert found.bytes.tolist() == [4, 2]
    assert found.tokens.tolist() == [5, 3]  # with the space


def sums(gpt, codec, question, reading=None, **arguments):
    ((found,), _) = score_options(*gpt, codec, [question], reading or Reading(), **arguments)
    return found


def total(gpt, context, option, **arguments):
    (found,) = score(*gpt, inputs=[context], targets=[option], **arguments)
    return found.total


def test_a_text_is_encoded_whole_and_cut_where_the_contexts_tokens_end(gpt):
    """As lm-evaluation-harness does: of `xa` and `bd` as x, ab, d only d is scored, after x, a."""
    found = sums(gpt, TEXT, Question(["xa"], ["bd", " c"]))
    assert found.sums[0] == pytest.approx(total(gpt, [26, 3], [6]), abs=1e-4)
    assert found.sums[1] == pytest.approx(total(gpt, [26, 3], [41]), abs=1e-4)
    assert found.tokens.tolist() == [1, 1]


def test_white_space_at_the_end_of_a_context_is_the_options(gpt):
    spaced, plain = (sums(gpt, TEXT, Question(*q)) for q in ([["x "], ["c"]], [["x"], [" c"]]))
    assert spaced.sums == pytest.approx(plain.sums, abs=1e-6)
    assert spaced.tokens.tolist() == [1]


def test_an_option_without_the_question_stands_after_a_context_that_says_nothing(gpt):
    found = sums(gpt, TEXT, Question(["xyz"], [" c", " de"]), unconditional_context="q: "[:1] + " ")
    expected = [total(gpt, [19], option) for option in ([41], [29, 6, 7])]
    assert found.unconditional == pytest.approx(expected, abs=1e-4)
    # "" is how lm-evaluation-harness has it: after the start token alone.
    found = sums(gpt, TEXT, Question(["xyz"], [" c"]), unconditional_context="")
    assert found.unconditional == pytest.approx([total(gpt, [], [41])], abs=1e-4)


def test_contexts_that_an_option_completes_are_scored_by_what_follows(gpt):
    """WinoGrande's partial score: two contexts, one ending."""
    found = sums(gpt, TEXT, Question(["xa", "xd"], [" cd"]))
    expected = [total(gpt, context, [41, 6]) for context in ([26, 3], [26, 6])]
    assert found.sums == pytest.approx(expected, abs=1e-4)


def test_inputs_are_read_as_a_task_reads_them(gpt):
    """By themselves, with their end token, in both directions, and cut at their beginning."""
    question = Question(["xyzabcdef"], [" c"])
    ((found,), cut) = score_options(*gpt, PAIR, [question], Reading("inputs", end_token=True))
    context = [*Pairs().encode("xyzabcdef")[-5:], 1]
    expected = total(gpt, context, [5, 1], bidirectional_prompt=True)
    assert found.sums == pytest.approx([expected], abs=1e-4)
    assert str(cut) == (
        "1 of 1 contexts lose their beginning, which the model has no room for: the longest has "
        "9 tokens."
    )


def test_an_encoder_reads_inputs_whatever_is_asked():
    model = t5(T5)
    both = model, drawn(model)
    found = sums(both, PAIR, Question(["xy"], [" c", " de"]))
    expected = [total(both, [26, 27, 1], option) for option in ([5], [6, 7])]
    assert found.sums == pytest.approx(expected, abs=1e-4)


def test_a_start_token_may_be_left_out_but_not_of_an_empty_context(gpt):
    reading = Reading(start_token=False)
    found = sums(gpt, TEXT, Question(["xyz"], ["de"]), reading)
    expected = total(gpt, [26, 27, 28], [6, 7], bos_id=None)
    assert found.sums == pytest.approx([expected], abs=1e-4)
    found = sums(gpt, TEXT, Question([""], ["de"]), reading)
    assert found.sums == pytest.approx([total(gpt, [], [6, 7])], abs=1e-4)


@pytest.mark.parametrize(
    ("question", "said"),
    [
        (Question(["xyz"], [" c", " "]), "an option after 'xyz' has no text"),
        (Question(["a"], ["b"]), "option 'b' adds no token to the context 'a'"),
        (Question(["x"], ["d" * 40]), "has 40 tokens, but the model's max_length is 32"),
    ],
)
def test_options_that_cannot_be_scored_are_said_in_one_line(gpt, question, said):
    with pytest.raises(UserError, match=said):
        score_options(*gpt, TEXT, [question])
    assert Pairs.vocab_size == V
