"""Exact match and F1 of answers, as each benchmark's own script defines them."""

import pytest

from tasks import metrics


def one(metric, answers, prediction):
    return metric([answers], [prediction])


def test_punctuation_parts_words_in_triviaqa_and_not_in_squad():
    assert one(metrics.squad, ["US"], "U.S.") == {"em": 100, "f1": 100}
    # The words are u and s: none of them is us.
    assert one(metrics.trivia_qa, ["US"], "U.S.") == {"em": 0, "f1": 0}
    assert one(metrics.trivia_qa, ["u s"], "U.S.") == {"em": 100, "f1": 100}
    assert one(metrics.trivia_qa, ["rock n roll"], "the ‘rock_n’ roll´`") == {"em": 100, "f1": 100}
    assert one(metrics.squad, ["rock n roll"], "‘rock n roll’")["em"] == 0


def test_triviaqa_takes_the_best_alias():
    # Of "New York City" two of three words: 2 (1) (2/3) / (5/3).
    found = one(metrics.trivia_qa, ["Gotham", "New York City"], "new york")
    assert found == {"em": 0, "f1": pytest.approx(80)}


def test_an_accent_is_the_same_in_one_character_or_two_in_natural_questions():
    composed, parted = "Beyonc\u00e9", "Beyonce\u0301"
    assert one(metrics.natural_questions, [composed], parted) == {"em": 100, "f1": 100}
    assert one(metrics.squad, [composed], parted) == {"em": 0, "f1": 0}
    assert one(metrics.natural_questions, ["The Beatles!", "Wings"], "beatles")["em"] == 100


def test_coqa_leaves_each_accepted_answer_out_once():
    # Without "yes" nothing is right; without either other answer "yes" is there: 2/3.
    assert one(metrics.coqa, ["yes", "it was", "indeed"], "Yes.") == {
        "em": pytest.approx(200 / 3),
        "f1": pytest.approx(200 / 3),
    }
    # Of "a white cat" both words, of "the cat" one: F1 1, 2/3, 1 over those left, and em 1, 0, 1.
    found = one(metrics.coqa, ["a white cat", "the cat", "white cat"], "white cat")
    assert found == {"em": pytest.approx(100), "f1": pytest.approx(100)}
    found = one(metrics.coqa, ["white cat", "the cat"], "white cat")
    assert found == {"em": 50, "f1": pytest.approx(100 * (2 / 3 + 1) / 2)}
    assert one(metrics.coqa, ["white cat"], "white cat")["em"] == 100
    assert one(metrics.coqa, ["the"], "a") == {"em": 100, "f1": 100}


def test_quac_leaves_out_what_people_do_not_agree_on():
    targets = [
        ["in the north", "the north of Wales"],  # F1 of one against the other 2/5: stays
        ["a red house", "Tuesday"],  # 0: left out
        ["Wales"],
    ]
    # The first: mean of 2 (1/2) / ... of "north": against the other answer alone.
    predictions = ["in the north", "Tuesday", "England"]
    person = 2 * (1 / 2) * (1 / 3) / (1 / 2 + 1 / 3)  # in, north; north, of, wales
    model = (person + 1) / 2
    found = metrics.quac(targets, predictions)
    assert found == {
        "unfiltered_f1": pytest.approx(100 * (model + 1 / 2 + 0) / 3),
        "f1": pytest.approx(100 * (model + 0) / 2),
        "heq_q": 50,
    }


def test_a_question_that_most_say_has_no_answer_accepts_that_alone():
    nothing = "CANNOTANSWER"
    half = [nothing, "a red house"]
    assert one(metrics.quac, half, nothing) == {"unfiltered_f1": 100, "f1": 100, "heq_q": 100}
    assert one(metrics.quac, half, "a red house")["f1"] == 0
    assert one(metrics.quac, half, "cannotanswer")["f1"] == 0
    most = [nothing, "a red house", "red house"]
    assert one(metrics.quac, most, "the red house")["f1"] == 100
    assert one(metrics.quac, most, nothing)["f1"] == 0
    # Nothing is left where nobody agrees.
    assert one(metrics.quac, ["red", "house"], "red") == {"unfiltered_f1": 50}


@pytest.mark.parametrize(
    ("accepted", "prediction", "em", "f1"),
    [
        ("78.0", "78", 1, 1),  # numbers by value
        ("1,000 yards", "1000 yards", 1, 1),
        ("Smith Jones", "Smith-Jones", 1, 1),
        ("the Period", "Per.i.o.d.", 1, 1),
        ("Elton John", "John Elton", 0, 1),  # words in any order, and each once
        ("John", "John John", 0, 1),
        # Two of two words, two of three: 2 (2/3) / (5/3).
        ("Green Bay Packers", "Green Bay", 0, 0.8),
        # A number that is not shared: nothing, however many words are.
        ("25 yards", "24 yards", 0, 0),
        ("yards", "24 yards", 0, 0.67),
        # Spans are paired one to one, and what has no other counts 0.
        (["Houston", "Texans"], ["Texans", "Houston"], 1, 1),
        (["td", "td"], "td", 0, 0.5),
        ("td", ["td", "td"], 0, 0.5),
        (["a", "b c"], ["b", "x"], 0, 0.33),  # b c by b, 2/3, over two
        # The best pairing gives up the pair of three words for two of 2/3 and 1: .83.
        (["b", "b c"], ["b c", "b"], 1, 1),
        ("", "", 0, 0),
    ],
)
def test_drop_by_hand(accepted, prediction, em, f1):
    assert one(metrics.drop, [accepted], prediction) == {
        "em": 100 * em,
        "f1": pytest.approx(100 * f1),
    }


def test_drop_takes_the_best_accepted_answer():
    assert one(metrics.drop, ["7", ["seven", "8"]], "7.0") == {"em": 100, "f1": 100}
