"""BERT's tokenizer written from its description (Devlin et al. 2019's released code): the tests'
second opinion on WordPiece. Slow, and for short texts.
"""

import unicodedata


def words(text, lower_case):
    """The words of a text: cleaned, CJK characters apart, lower-cased, split at punctuation."""
    cleaned = "".join(_cleaned(c) for c in text)
    found = []
    for word in cleaned.split(" "):
        if lower_case:
            # Accents go first, so that İ becomes i and not i with a dot over it.
            word = "".join(c for c in unicodedata.normalize("NFD", word) if not _is_mark(c))
            # Each for itself: Python makes a Σ at the end of a word ς, the tokenizers library σ.
            word = "".join(map(str.lower, word))
        part = ""
        for c in word:
            if _is_punctuation(c):
                found += [part, c]
                part = ""
            else:
                part += c
        found.append(part)
    return [word for word in found if word]


def pieces(word, vocabulary, longest_word=100):
    """The longest pieces from the left, or the unknown token."""
    if len(word) > longest_word:
        return ["[UNK]"]
    found, begin = [], 0
    while begin < len(word):
        prefix = "##" if begin else ""
        ends = range(len(word), begin, -1)
        end = next((e for e in ends if prefix + word[begin:e] in vocabulary), None)
        if end is None:
            return ["[UNK]"]
        found.append(prefix + word[begin:end])
        begin = end
    return found


def encode(text, vocabulary, lower_case, longest_word=100):
    """The ids of a text."""
    found = [pieces(word, vocabulary, longest_word) for word in words(text, lower_case)]
    return [vocabulary[piece] for word in found for piece in word]


def _cleaned(c):
    if c in "\t\n\r" or unicodedata.category(c) == "Zs" or c in "\u2028\u2029":
        return " "
    if ord(c) in (0, 0xFFFD) or unicodedata.category(c) in ("Cc", "Cf", "Cn", "Co", "Cs"):
        return ""
    return f" {c} " if _is_cjk(ord(c)) else c


def _is_mark(c):
    return unicodedata.category(c) == "Mn"


def _is_punctuation(c):
    """All of ASCII that is neither a letter, a digit nor a space counts, `^` and `$` too."""
    if ord(c) < 128:
        return c.isprintable() and not c.isalnum() and c != " "
    return unicodedata.category(c).startswith("P")


def _is_cjk(code):
    blocks = (
        (0x4E00, 0x9FFF), (0x3400, 0x4DBF), (0x20000, 0x2A6DF), (0x2A700, 0x2B73F),
        (0x2B740, 0x2B81F), (0x2B820, 0x2CEAF), (0xF900, 0xFAFF), (0x2F800, 0x2FA1F),
    )  # fmt: skip
    return any(first <= code <= last for first, last in blocks)
