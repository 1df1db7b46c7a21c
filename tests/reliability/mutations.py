"""Inputs that are nearly right: what is valid, with a few changes that a fault or a slip makes."""

from typing import Any

from hypothesis import strategies as st


@st.composite
def spoiled(draw, valid: bytes, tokens: tuple[bytes, ...] = ()) -> bytes:
    """`valid` with one to four changes: bytes cut, doubled, swapped, flipped or put in.

    Args:
      draw: of Hypothesis.
      valid: what is changed.
      tokens: what is put in, besides single bytes.
    """
    content = bytearray(valid)
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(content)))
        end = min(len(content), start + draw(st.integers(0, 12)))
        match draw(st.sampled_from(("cut", "double", "flip", "put", "end"))):
            case "cut":
                del content[start:end]
            case "double":
                content[start:start] = content[start:end]
            case "flip" if start < len(content):
                content[start] ^= 1 << draw(st.integers(0, 7))
            case "put":
                content[start:start] = draw(
                    st.sampled_from(tokens) if tokens else st.binary(max_size=4)
                )
            case "end":
                del content[start:]
    return bytes(content)


def json_values() -> st.SearchStrategy[Any]:
    """Values of every JSON type, with numbers that are too large, and a little nesting."""
    plain = (
        st.none()
        | st.booleans()
        | st.integers(-3, 3)
        | st.sampled_from([10**6, 10**10, 2**63, -(2**63), 10**40])
        | st.floats(allow_nan=False)
        | st.text(max_size=8)
    )
    return st.recursive(
        plain, lambda inner: st.lists(inner, max_size=3) | objects(inner), max_leaves=6
    )


def objects(values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """JSON objects of these values."""
    return st.dictionaries(st.text(max_size=8), values, max_size=4)


@st.composite
def changed(draw, valid: dict[str, Any]) -> dict[str, Any]:
    """A JSON object with one to three of its values replaced, taken out or put in."""
    value = dict(valid)
    for _ in range(draw(st.integers(1, 3))):
        name = draw(st.sampled_from(sorted(valid)) | st.text(max_size=8))
        if draw(st.booleans()):
            value[name] = draw(json_values())
        else:
            value.pop(name, None)
    return value
