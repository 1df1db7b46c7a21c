"""Tags of words that say where names are: read, made one scheme of, and made entities of.

A tag is `O`, outside of every entity, or a place in an entity and the entity's kind, `B-person`.
IOB2, also called BIO: the first word of each entity has B, all others I. IOB1, as in CoNLL-2003's
files: all words have I, but for the first of an entity that follows another of its kind at once,
which has B (Ramshaw and Marcus 1995; Tjong Kim Sang and Veenstra 1999, section 2.1).
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

from tasks.errors import TaskError

Scheme = Literal["iob1", "iob2"]
OUTSIDE = "O"
_BEGIN, _INSIDE, _END, _SINGLE = "BIES"


class Entity(NamedTuple):
    """Words of one entity.

    Attributes:
      kind: such as `person`.
      begin: its first word, from 0.
      end: the word behind its last.
    """

    kind: str
    begin: int
    end: int


def bio_labels(entities: Sequence[str]) -> tuple[str, ...]:
    """All tags of these kinds of entities in IOB2: `O`, and B and I of each.

    Raises:
      TaskError: it is no list of different kinds.
    """
    if isinstance(entities, str) or not entities or len(set(entities)) < len(entities):
        raise TaskError(f"ENTITIES is {entities!r}: a list of different kinds is needed.")
    return (OUTSIDE, *(f"{place}-{kind}" for kind in entities for place in (_BEGIN, _INSIDE)))


def check_scheme(scheme: str | None, name: str) -> None:
    """Checks the name of a scheme, or None for tags that are of none.

    Args:
      scheme: what is checked.
      name: of the setting, for errors.

    Raises:
      TaskError: another one.
    """
    if scheme not in ("iob1", "iob2", None):
        raise TaskError(f"{name} is {scheme!r}: 'iob2', 'iob1' or None is needed.")


def to_iob2(tags: Sequence[str], scheme: Scheme) -> list[str]:
    """Tags of one sentence as IOB2.

    Raises:
      TaskError: IOB2 in which an entity begins with I, which IOB1 would be.
    """
    found: list[str] = []
    before = OUTSIDE
    for number, tag in enumerate(tags, start=1):
        place, kind = _parts(tag)
        begins = place == _INSIDE and _parts(before)[1] != kind
        if begins and scheme == "iob2":
            raise TaskError(
                f"word {number} of a row has the tag '{tag}' after "
                f"{repr(before) if number > 1 else 'nothing'}: in IOB2 an entity begins with "
                f"'{_BEGIN}-{kind}'. Files in IOB1, as CoNLL-2003's are, need SCHEME='iob1'."
            )
        found.append(f"{_BEGIN}-{kind}" if begins else tag)
        before = tag
    return found


def entities_of(tags: Sequence[str | None]) -> list[Entity]:
    """The entities of one sentence by the rule of CoNLL's evaluation, `conlleval`.

    A word begins one if its tag is B, or if it is I and the word before is outside or of another
    kind; so also IOB1, and what a model says that is neither, have entities. E and S, the last and
    the only word, are read as well. None, of a word without a tag, is outside.

    Raises:
      TaskError: a tag is of no such scheme.
    """
    found: list[Entity] = []
    before, kind_before = OUTSIDE, ""
    for number, tag in enumerate(tags):
        place, kind = _parts(OUTSIDE if tag is None else tag)
        ended = before in (OUTSIDE, _END, _SINGLE)
        if place != OUTSIDE and (place in (_BEGIN, _SINGLE) or ended or kind != kind_before):
            found.append(Entity(kind, number, number + 1))
        elif place != OUTSIDE:
            found[-1] = found[-1]._replace(end=number + 1)
        before, kind_before = place, kind
    return found


def _parts(tag: str) -> tuple[str, str]:
    """Place and kind of a tag; of `O` no kind.

    Raises:
      TaskError: it is of no known scheme.
    """
    place, dash, kind = tag.partition("-")
    if tag == OUTSIDE or (place in (_BEGIN, _INSIDE, _END, _SINGLE) and dash and kind):
        return place, kind
    raise TaskError(
        f"the tag '{tag}' is neither '{OUTSIDE}' nor like '{_BEGIN}-person' or '{_INSIDE}-person', "
        "as tags of entities are. Tags of another sort need SCHEME=None and "
        "METRICS=[@metrics.word_accuracy]."
    )
