"""Filters by length, pattern, list, language and function; sources that apply them."""

import dataclasses
import functools
import hashlib
import inspect
from collections import Counter

import pytest

from tasks.errors import TaskError
from tasks.filters import C4, BadWords, Function, GopherQuality, Language, Length, Pattern
from tasks.sources import Filtered, HoldOut, TextFiles


def filtered(one, text):
    reasons = Counter()
    return one(text, reasons), dict(reasons)


@pytest.mark.parametrize(
    ("settings", "text", "reason"),
    [
        ({}, "", "too short"),
        ({"min_characters": 3}, "abc", None),
        ({"max_characters": 2}, "abc", "too long"),
        ({"min_words": 3}, "a b", "too short"),
        ({"max_words": 2}, "a b c", "too long"),
        ({"max_words": 3}, "a b c", None),
    ],
)
def test_length(settings, text, reason):
    kept, reasons = filtered(Length(**settings), text)
    assert (kept, reasons) == ((None, {f"document: {reason}": 1}) if reason else (text, {}))


def test_a_pattern_drops_documents_or_lines_or_keeps_them():
    text = "one 1\ntwo\nthree 3"
    assert filtered(Pattern(r"\d"), text) == (None, {"document: pattern": 1})
    assert filtered(Pattern(r"\d", keeps=True), text) == (text, {})
    digits = Pattern(r"\d", lines=True, name="digits")
    assert filtered(digits, text) == ("two", {"line: digits": 2})
    assert filtered(digits, "1")[0] is None
    with pytest.raises(TaskError, match=r"'\(' is no regular expression: missing \)"):
        Pattern("(")


def shout(text):
    return text.upper() if "!" in text else len(text) > 3


def test_a_function_changes_keeps_or_drops():
    assert filtered(Function(shout), "hey!") == ("HEY!", {})
    assert filtered(Function(shout), "long") == ("long", {})
    assert filtered(Function(shout), "no") == (None, {"document: shout": 1})
    with pytest.raises(TaskError, match="returned a int"):
        filtered(Function(len, name="length"), "a")


class Longer:
    """A callable without a __repr__."""

    __slots__ = ("n",)

    def __init__(self, n):
        self.n = n

    def __call__(self, text):
        return len(text) >= self.n


@dataclasses.dataclass(frozen=True)
class LongerToo:
    """A callable with one."""

    n: int

    def __call__(self, text):
        return len(text) >= self.n


def shorter(n):
    return lambda text: len(text) < n


def test_a_function_is_what_it_is_and_is_given():
    """The same in every process, and another for other arguments."""
    source = inspect.getsource(shout)
    assert (
        repr(Function(shout)) == f"Function(shout, {hashlib.sha256(source.encode()).hexdigest()})"
    )
    at_least = functools.partial(Longer.__call__, Longer(3))
    assert filtered(Function(at_least), "no")[1] == {"document: __call__": 1}
    made = [
        (lambda n, make=make: Function(make(n)))
        for make in (
            Longer, LongerToo, shorter, lambda n: Longer(n).__call__,
            lambda n: {"no" * n}.__contains__,
            lambda n: functools.partial(Longer.__call__, Longer(n)),
            lambda n: functools.partial(filtered, [Longer(n)]),
        )
    ]  # fmt: skip
    for make in made:
        assert repr(make(3)) == repr(make(3)) != repr(make(4))
    assert len({repr(make(3)) for make in made}) == len(made)
    with pytest.raises(TaskError, match=r"an object of builtins\.object nothing is known"):
        repr(Function(functools.partial(shout, object())))
    with pytest.raises(TaskError, match=r"the source of '__main__\.f' cannot be read: define it"):
        repr(Function(of_no_file()))


def of_no_file():
    names = {"__name__": "__main__"}
    exec("def f(text): return True", names)
    return names["f"]


def test_bad_words_stand_apart_in_any_case(tmp_path):
    (tmp_path / "bad").write_text("darn\nheck of a\n\n")
    one = BadWords(str(tmp_path / "bad"))
    assert filtered(one, "Darn, it rains") == (None, {"document: a bad word": 1})
    assert filtered(one, "a HECK of a day")[0] is None
    assert filtered(one, "darned") == ("darned", {})
    (tmp_path / "marked").write_text("\ufeffdarn\nheck of a\n\n")  # a byte-order mark is no word's
    marked = BadWords(str(tmp_path / "marked"))
    assert filtered(marked, "Well, darn") == (None, {"document: a bad word": 1})
    assert repr(marked) == repr(one)
    with pytest.raises(TaskError, match="not found"):
        filtered(BadWords(str(tmp_path / "none")), "")
    (tmp_path / "empty").write_text("\n")
    with pytest.raises(TaskError, match="has no word"):
        filtered(BadWords(str(tmp_path / "empty")), "")


def test_languages_are_told_apart():
    pytest.importorskip("py3langid")
    english = "The cat sat on the mat and purred loudly at the dog."
    german = "Die Katze sitzt auf der Matte und schnurrt sehr laut."
    assert filtered(Language(("en",)), english) == (english, {})
    assert filtered(Language(["en"]), german) == (None, {"document: another language": 1})
    assert filtered(Language(["de"], min_probability=0.5), german) == (german, {})
    with pytest.raises(TaskError, match="'klingon' is not among"):
        filtered(Language(("klingon",)), english)
    with pytest.raises(TaskError, match="a list of codes"):
        Language("en")


@pytest.fixture
def source(tmp_path):
    (tmp_path / "a.txt").write_text("one\ntwo words\nthree words here")
    (tmp_path / "b.txt").write_text("four words are here\nx")
    return TextFiles(files={"train": f"{tmp_path}/*.txt"}, separator="\n")


def test_a_source_gives_what_its_filters_leave_in_its_own_shards(source):
    found = Filtered(source, [Length(min_words=2), Pattern("three")])
    assert [row["text"] for row in found.rows("train")] == ["two words", "four words are here"]
    assert found.dropped == {"document: too short": 2, "document: pattern": 1}
    assert list(found.shards("train")) == list(source.shards("train"))
    last = found.shards("train")[1:]
    assert [row["text"] for row in found.rows("train", last)] == ["four words are here"]


def test_settings_of_filters_change_the_fingerprint_and_what_was_dropped_does_not(source, tmp_path):
    def made(*filters):
        return Filtered(source, filters)

    one = made(Length(min_words=2))
    before = one.fingerprint()
    list(one.rows("train"))
    assert before == one.fingerprint() == made(Length(min_words=2)).fingerprint()
    (tmp_path / "bad").write_text("darn")
    others = [
        made(Length(min_words=3)), made(C4()), made(C4(version="jmlr")), made(GopherQuality()),
        made(Function(shout)), made(BadWords(str(tmp_path / "bad"))),
    ]  # fmt: skip
    assert len({before, *(other.fingerprint() for other in others)}) == 7
    (tmp_path / "other").write_text("drat")
    assert made(BadWords(str(tmp_path / "other"))).fingerprint() != others[-1].fingerprint()


def test_a_filter_that_says_where_it_is_is_refused(source):
    class Mine:
        def __call__(self, text, reasons):
            return text

    with pytest.raises(TaskError, match=r"Mine object' nothing is known but where .* dataclass"):
        Filtered(source, (Length(), Mine())).fingerprint()


def test_what_leaves_nothing_says_so(source):
    held_out = HoldOut(Filtered(source, (Length(min_words=9),)))
    assert list(held_out.rows("train")) == []
    assert held_out.source.why_empty("train").endswith("drop all there is: document: too short")
    with pytest.raises(TaskError, match=r"Filtered\.filters is empty"):
        Filtered(source, ())
    with pytest.raises(TaskError, match=r"column is 'body': its source has text"):
        Filtered(source, (Length(),), column="body")
