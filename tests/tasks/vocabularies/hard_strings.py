"""Strings that tokenizers stumble over: accents, scripts without spaces, emoji, control characters,
whitespace of every kind, words longer than any limit, and special tokens spelled out.

Code points are of Unicode 8 and before, on which Python and the `tokenizers` library agree.
"""

import functools

import numpy as np

_KINDS = {
    "lower": "abcdefghijklmnopqrstuvwxyz",
    "upper": "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
    "digits": "0123456789٠١٢३४५²½Ⅷ",
    "ascii punctuation": "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~",
    "punctuation": "¡§«»¿–—‘’“”„…‰′※،؛؟।॥、。「」『』・！？",
    "symbols": "€£¥©®™°±×÷√∞≠≤∑∂←↑→↓■●★☃♥♪￥＋",
    "accents": "àáâãäåçèéêëìíîïñòóôõöøùúûüýÿÀÉÎÕÜÑÇŁłĐđŠšŽžČčĞğİıŐőßẞṩἄῷǅ",
    "combining": "e\u0301a\u0308o\u0302\u0323c\u0327n\u0303\u20d7\u0e33\u093f\u09be",
    "cyrillic": "абвгдежзийклмнопрстуфхцчшщъыьэюяЁЙЇҐ",
    "greek": "αβγδεζηθικλμνξοπρσςτυφχψωάέήίΑΣΩϊΐ",
    "semitic": "שלוםעבריתאבגדהمرحباالعربيةء\u0651\u064e\u05b8\u05bc",
    "indic": "नमस्तेहिन्दीवणक्कम்বাংলাสวัสดีภาษาไทย",
    "cjk": "中文漢字測試學習語言模型日本語豈\U00020000\U0002a6d6",
    "kana": "ひらがなカタカナｶﾅがぎぐパピプ゛",
    "hangul": "한국어모델각힣ㄱㅏ\u1112\u1161\u11ab",
    "emoji": "😀😂🤔👍🏽👩\u200d💻❤\ufe0f🇩🇪🦀🎉",
    "controls": "\x00\x01\x07\x08\x0b\x0c\x1b\x1f\x7f\x80\x9f",
    "formats": "\ufffd\u200b\u200c\u200d\u2060\ufeff\u00ad\u202e\ue000",
    "whitespace": " \t\n\r\u00a0\u1680\u2000\u2003\u2009\u202f\u205f\u3000\u2028\u2029\x85",
    "wide": "ＡＢＣａｂｃ１２３ﬁﬂﬀ𝐀𝑏𝟙",
}  # fmt: skip
SPECIAL = ("[MASK]", "[CLS]", "[SEP]", "[UNK]", "[PAD]", "<s>", "</s>", "<mask>", "<pad>", "<unk>")
_PLAIN = ("the", "unaffable", "Tokenization", "naïve", "don't", "state-of-the-art", "3.14", "e.g.")
_JOINTS = ("", " ", "  ", "\n", "\t ", "\u3000", "\r\n", "\u00a0")


@functools.cache
def hard_strings(count=1_000, seed=0):
    """So many strings, the same for the same seed: of one kind of character, and of several."""
    rng = np.random.default_rng(seed)
    kinds = list(_KINDS.values())

    def word(kind):
        size = int(rng.choice([1, 2, 3, 5, 8, 12, 99, 100, 101], p=[0.1, 0.2, 0.2, 0.2, 0.15, 0.1,
                                                                 0.01, 0.02, 0.02]))  # fmt: skip
        return "".join(rng.choice(list(kind), size=size))

    found = ["", " ", "\n\n", "\x00", "##able", "a" * 100, "a" * 101, "é" * 200, "é" * 201]
    while len(found) < count:
        own = [kinds[i] for i in rng.choice(len(kinds), size=int(rng.integers(1, 5)))]
        parts = []
        for _ in range(int(rng.integers(1, 9))):
            draw = rng.random()
            if draw < 0.1:
                parts.append(str(rng.choice(SPECIAL)))
            elif draw < 0.25:
                parts.append(str(rng.choice(_PLAIN)))
            else:
                parts.append(word(own[int(rng.integers(len(own)))]))
            parts.append(str(rng.choice(_JOINTS)))
        found.append("".join(parts))
    return tuple(found)
