"""A vocabulary to read by eye, for tests of what happens to text."""

import dataclasses


class Letters:
    """a, b, c, … are 3, 4, 5, …; a text ends with 1, and a decoder begins with 0."""

    eos_id = 1

    def encode(self, text):
        """Ids of letters."""
        return [ord(letter) - ord("a") + 3 for letter in text]

    def decode(self, ids):
        """Letters of ids; what is none is left out."""
        return "".join(chr(i + ord("a") - 3) for i in ids if i >= 3)


@dataclasses.dataclass
class Feature:
    """A feature of letters, as a task has them."""

    vocabulary: Letters = dataclasses.field(default_factory=Letters)
    add_eos: bool = True
