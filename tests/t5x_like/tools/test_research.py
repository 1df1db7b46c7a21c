"""The research loop (Thoppilan et al. 2022, section 6.2), with a model that is a table."""

import pytest

from t5x_like.decoding.text import TextGeneration
from t5x_like.errors import UserError
from t5x_like.tools import Calculator, Research

ASKED = "How old is Rafael Nadal? RESPONSE"
DRAFT = "He is 31 years old right now."
KNOWN = {"Rafael Nadal's age": ["Rafael Nadal / Age / 35", "Nadal was born in 1986."]}


def known(query):
    """A tool of one's own."""
    return KNOWN.get(query, [])


class Written:
    """Writes what a table says, and notes what it was asked."""

    def __init__(self, table):
        self.table, self.asked = table, []

    def __call__(self, prompts, rows, step):
        self.asked.append((step, list(rows), list(prompts)))
        return [TextGeneration(self.table[prompt], -1.0, True, []) for prompt in prompts]


# The paper's own example; as `sources.RatedResponses` writes the rows to learn it from.
TABLE = {
    ASKED: f" {DRAFT}",
    f"{ASKED} {DRAFT} RESEARCH": " TS, Rafael Nadal's age",
    f"{ASKED} {DRAFT} RESEARCH TS, Rafael Nadal's age TS Rafael Nadal / Age / 35 RESEARCH":
        " User, He is 35 years old right now.",
    "Hi RESPONSE": "Hello.",
    "Hi RESPONSE Hello. RESEARCH": "User, Hello.",
}  # fmt: skip


def test_a_draft_is_looked_up_and_grounded():
    write = Written(TABLE)
    nadal, hi = Research([Calculator(), known]).answers([ASKED, "Hi RESPONSE"], write)
    assert nadal.draft == DRAFT
    assert nadal.queries == [("Rafael Nadal's age", ["Rafael Nadal / Age / 35"])]
    assert nadal.answer.text == "He is 35 years old right now."
    assert (hi.answer.text, hi.queries) == ("Hello.", [])
    # What has its answer is not asked again; the others keep their numbers.
    assert [(step, rows) for step, rows, _ in write.asked] == [(0, [0, 1]), (1, [0, 1]), (2, [0])]


def test_the_same_query_shows_the_next_result_and_rounds_are_bounded():
    draft = f"{ASKED} {DRAFT}"
    query = "RESEARCH TS, Rafael Nadal's age TS"
    first = f"{draft} {query} Rafael Nadal / Age / 35"
    second = f"{first} {query} Nadal was born in 1986."
    third = f"{second} {query}"  # nothing new
    again = " TS, Rafael Nadal's age"
    table = {
        ASKED: DRAFT,
        **{f"{said} RESEARCH": again for said in (draft, first, second)},
        f"{third} RESEARCH User,": " TS, I give up",
    }
    (found,) = Research([known], rounds=3).answers([ASKED], Written(table))
    assert [results for _, results in found.queries] == [
        ["Rafael Nadal / Age / 35"], ["Nadal was born in 1986."], []
    ]  # fmt: skip
    # After the last round whatever is written is for the user.
    assert found.answer.text == "TS, I give up"


def test_what_has_no_mark_is_an_answer():
    table = {ASKED: DRAFT, f"{ASKED} {DRAFT} RESEARCH": " He is 35."}
    (found,) = Research([known]).answers([ASKED], Written(table))
    assert (found.answer.text, found.queries) == ("He is 35.", [])


def test_of_several_texts_those_that_ask_are_no_answers():
    texts = ["User, 35", " User, 36", "TS, his age", "37"]
    drawn = [TextGeneration(text, -1.0, True, []) for text in texts]

    def write(prompts, rows, step):
        chosen = drawn[0] if step else TextGeneration(DRAFT, -1.0, True, [])
        return [TextGeneration(chosen.text, -1.0, True, [], drawn if step else ())]

    (found,) = Research([known]).answers([ASKED], write)
    assert found.answer.text == "35"
    assert [one.text for one in found.answer.samples] == ["35", "36", "37"]


def test_all_tools_are_asked_in_their_order():
    def bonjour(query):
        return ["Bonjour"]

    research = Research([Calculator(), bonjour, known])
    assert research.found("135+7721") == ["7856", "Bonjour"]
    assert research.found("Rafael Nadal's age")[0] == "Bonjour"
    # Settings that answers of one file agree in do not depend on where a function lies.
    assert str(research) == "tools=[Calculator(), bonjour, known], rounds=4, results=1"


def test_a_tool_that_fails_is_named_in_one_line():
    def broken(query):
        raise ConnectionError("no route")

    def text(query):
        return query

    with pytest.raises(
        UserError, match=r"tool broken failed on 'x': ConnectionError\('no route'\)"
    ):
        Research([broken]).found("x")
    with pytest.raises(UserError, match="tool text gave 'x': a list of texts"):
        Research([text]).found("x")
    with pytest.raises(UserError, match="tools is empty"):
        Research([])
    with pytest.raises(UserError, match="has 7: a tool is a function"):
        Research([7])
    with pytest.raises(UserError, match="rounds is 0"):
        Research([known], rounds=0)
