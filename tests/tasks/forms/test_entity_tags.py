"""Tags of entities: by hand, and the cases that seqeval's documentation shows."""

import pytest

from tasks import bio_labels, metrics
from tasks.errors import TaskError
from tasks.forms.entity_tags import entities_of, to_iob2


def spans(text):
    return [tuple(entity) for entity in entities_of(text.split())]


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("B-PER I-PER O B-LOC", [("PER", 0, 2), ("LOC", 3, 4)]),
        ("O O", []),
        # Two of a kind, one after the other.
        ("B-PER B-PER I-PER", [("PER", 0, 1), ("PER", 1, 3)]),
        # conlleval's rule for I without its B: a new entity, as in IOB1.
        ("I-PER I-PER O I-LOC", [("PER", 0, 2), ("LOC", 3, 4)]),
        ("B-PER I-LOC I-LOC", [("PER", 0, 1), ("LOC", 1, 3)]),
        ("B-PER O I-PER", [("PER", 0, 1), ("PER", 2, 3)]),
        # E and S, of IOBES: the last word, and the only one.
        ("B-PER I-PER E-PER I-PER S-LOC", [("PER", 0, 3), ("PER", 3, 4), ("LOC", 4, 5)]),
        # A kind may have dashes.
        ("B-creative-work I-creative-work", [("creative-work", 0, 2)]),
    ],
)
def test_entities_are_read_by_the_rule_of_conlleval(tags, expected):
    assert spans(tags) == expected


def test_a_word_without_a_tag_is_outside():
    assert [tuple(one) for one in entities_of(["B-x", None, "I-x"])] == [("x", 0, 1), ("x", 2, 3)]


@pytest.mark.parametrize("tag", ["NOUN", "B", "B-", "X-PER", "o", ""])
def test_tags_of_another_sort_are_refused(tag):
    with pytest.raises(TaskError, match=r"neither 'O' nor like 'B-person'"):
        entities_of([tag])


def test_the_tags_of_kinds_of_entities():
    assert bio_labels(["x", "y"]) == ("O", "B-x", "I-x", "B-y", "I-y")
    for kinds in ("person", [], ["x", "x"]):
        with pytest.raises(TaskError, match="a list of different kinds"):
            bio_labels(kinds)


def test_iob1_becomes_iob2():
    """B stands in IOB1 only where an entity follows another of its kind."""
    given = ["I-PER", "I-PER", "O", "I-LOC", "B-LOC", "I-ORG", "I-ORG"]
    assert to_iob2(given, "iob1") == ["B-PER", "I-PER", "O", "B-LOC", "B-LOC", "B-ORG", "I-ORG"]
    assert entities_of(given) == entities_of(to_iob2(given, "iob1"))


@pytest.mark.parametrize("tags", ["O I-PER", "I-PER", "B-LOC I-PER"])
def test_iob1_is_recognised_where_iob2_is_said(tags):
    with pytest.raises(TaskError, match=r"begins with 'B-PER'.*SCHEME='iob1'"):
        to_iob2(tags.split(), "iob2")
    assert to_iob2(["B-PER", "I-PER", "O", "B-LOC"], "iob2") == ["B-PER", "I-PER", "O", "B-LOC"]


def f1(targets, predictions):
    found = metrics.entity_f1(
        [line.split() for line in targets], [line.split() for line in predictions]
    )
    return tuple(found[f"entity_{name}"] for name in ("precision", "recall", "f1"))


def test_f1_of_seqevals_first_example_is_half():
    """One entity begins a word too early, the other is right."""
    targets = ["O O O B-MISC I-MISC I-MISC O", "B-PER I-PER O"]
    predictions = ["O O B-MISC I-MISC I-MISC I-MISC O", "B-PER I-PER O"]
    assert f1(targets, predictions) == (50, 50, 50)
    words = [line.split() for line in targets], [line.split() for line in predictions]
    # Eight of ten words: the entity's B is now its I.
    assert metrics.word_accuracy(*words) == {"word_accuracy": 80}


def test_f1_of_seqevals_second_example_is_one_without_strictness():
    assert f1(["B-NP I-NP O"], ["I-NP I-NP O"]) == (100, 100, 100)


def test_precision_and_recall_by_hand():
    # Right: PER. Wrong: LOC has another kind, MISC is made up; ORG is missed.
    targets = ["B-PER O B-LOC", "B-ORG I-ORG O"]
    predictions = ["B-PER O B-ORG", "O O B-MISC"]
    precision, recall, both = f1(targets, predictions)
    assert precision == pytest.approx(100 / 3) and recall == pytest.approx(100 / 3)
    assert both == pytest.approx(100 / 3)
    assert f1(["B-A B-A"], ["B-A O"]) == (100, 50, pytest.approx(200 / 3))
    assert f1(["O"], ["O"]) == f1(["B-A"], ["O"]) == f1(["O"], ["B-A"]) == (0, 0, 0)


def test_an_entity_does_not_go_on_in_the_next_sentence():
    assert f1(["B-A", "I-A"], ["B-A", "I-A"]) == (100, 100, 100)
    assert f1(["B-A", "B-A"], ["B-A", "I-A"]) == (100, 100, 100)


def test_a_sentence_with_other_words_is_refused():
    for metric in (metrics.entity_f1, metrics.word_accuracy):
        with pytest.raises(TaskError, match="2 targets and 1 predictions in row 0"):
            metric([["O", "O"]], [["O"]])
