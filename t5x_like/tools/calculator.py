"""A calculator: reads arithmetic, with units of mass, length and time, and evaluates no code."""

import dataclasses
import re
from collections.abc import Sequence
from fractions import Fraction

# Of each unit its kind and how many of the kind's base unit it is, exactly.
_UNITS = {
    "kg": ("mass", Fraction(1)),
    "g": ("mass", Fraction(1, 1000)),
    "mg": ("mass", Fraction(1, 10**6)),
    "t": ("mass", Fraction(1000)),
    "lb": ("mass", Fraction("0.45359237")),
    "oz": ("mass", Fraction("0.45359237") / 16),
    "m": ("length", Fraction(1)),
    "km": ("length", Fraction(1000)),
    "cm": ("length", Fraction(1, 100)),
    "mm": ("length", Fraction(1, 1000)),
    "in": ("length", Fraction("0.0254")),
    "ft": ("length", Fraction("0.3048")),
    "yd": ("length", Fraction("0.9144")),
    "mi": ("length", Fraction("1609.344")),
    "s": ("time", Fraction(1)),
    "min": ("time", Fraction(60)),
    "h": ("time", Fraction(3600)),
    "d": ("time", Fraction(86400)),
}
_UNITS |= {"lbs": _UNITS["lb"]}
_INTO = ("in", "to")
# A comma separates groups of three digits. `1,5` is refused, because some write 1.5 so: it was 15.
_NUMBER = r"(?:\d{1,3}(?:,\d{3})+(?![\d,])|\d++(?!,))(?:\.\d+)?|\.\d+"
_TOKEN = re.compile(rf"\s*(?:({_NUMBER})|([A-Za-z]+)|(\*\*|[-+*/^()%]))")
_SAME = str.maketrans({"−": "-", "–": "-", "×": "*", "·": "*", "÷": "/"})

# Longer queries are no calculations; numbers of more bits would take long, and nobody reads them.
_MOST_CHARACTERS, _MOST_BITS, _MOST_DEPTH = 500, 4096, 50


@dataclasses.dataclass(frozen=True)
class Calculator:
    """Answers arithmetic: `184624 - 18371`, `2 lb + 3 kg`, `10 km in mi`.

    Numbers are fractions, so that sums of whole numbers are exact whatever their size. Commas stand
    between groups of three digits; a decimal comma is no arithmetic. There are
    `+ - * /`, powers (`^`, `**`), brackets and `%`. A sum has the unit of its first term. What is
    not arithmetic, divides by zero or adds a length to a mass has no answer.
    """

    def __call__(self, query: str) -> list[str]:
        """The result as a list of one text; an empty list where there is none."""
        text = query.strip().translate(_SAME).rstrip("=? ")
        if len(text) > _MOST_CHARACTERS:
            return []
        try:
            found = _Parser(_tokens(text)).parsed()
        except (_NoArithmetic, ZeroDivisionError):
            return []
        return [str(found)]


class _NoArithmetic(Exception):
    """A text that says no calculation."""


@dataclasses.dataclass(frozen=True)
class _Quantity:
    """A number with a unit, or with none.

    Attributes:
      value: in the base unit.
      unit: it is shown in; "" for none.
    """

    value: Fraction
    unit: str = ""

    def __post_init__(self) -> None:
        if max(abs(self.value.numerator), self.value.denominator).bit_length() > _MOST_BITS:
            raise _NoArithmetic

    @property
    def kind(self) -> str:
        """Mass, length or time; "" for none."""
        return _UNITS[self.unit][0] if self.unit else ""

    def __str__(self) -> str:
        value = self.value / _UNITS[self.unit][1] if self.unit else self.value
        return f"{_number(value)} {self.unit}".rstrip()


def _number(value: Fraction) -> str:
    """A fraction as a decimal: whole ones exactly, others with seven digits that count."""
    if value.denominator == 1:
        return str(value.numerator)
    size, power = abs(value), 0
    while size * 10**power < 1:
        power += 1
    whole = len(str(int(size))) if power == 0 else 0
    places = max(2, 7 - whole) if power == 0 else power + 6
    scaled = str(abs(round(value * 10**places))).rjust(places + 1, "0")
    text = f"{scaled[:-places]}.{scaled[-places:]}".rstrip("0").rstrip(".")
    return f"-{text}" if value < 0 else text


def _tokens(text: str) -> list[str]:
    found, place = [], 0
    while place < len(text):
        match = _TOKEN.match(text, place)
        if match is None:
            raise _NoArithmetic
        found.append(match[0].strip())
        place = match.end()
    return found


class _Parser:
    """Reads a sum of products of powers; each method one of these."""

    def __init__(self, tokens: Sequence[str]) -> None:
        self._tokens, self._place, self._depth = tokens, 0, 0

    def parsed(self) -> _Quantity:
        """The value of all tokens.

        Raises:
          _NoArithmetic: they say no calculation; a number alone is none.
        """
        if len(self._tokens) < 2 or not any(
            one[0].isdigit() or one[0] == "." for one in self._tokens
        ):
            raise _NoArithmetic
        found = self._sum()
        if self._next() in _INTO:
            self._place += 1
            unit = self._taken()
            if unit not in _UNITS or _UNITS[unit][0] != found.kind:
                raise _NoArithmetic
            found = _Quantity(found.value, unit)
        elif found.unit and len(self._tokens) == 2:
            raise _NoArithmetic  # `3 kg`: nothing is asked
        if self._place < len(self._tokens):
            raise _NoArithmetic
        return found

    def _next(self, ahead: int = 0) -> str:
        place = self._place + ahead
        return self._tokens[place] if place < len(self._tokens) else ""

    def _taken(self) -> str:
        self._place += 1
        return self._tokens[self._place - 1] if self._place <= len(self._tokens) else ""

    def _sum(self) -> _Quantity:
        self._depth += 1
        if self._depth > _MOST_DEPTH:
            raise _NoArithmetic
        found = self._product()
        while self._next() in ("+", "-"):
            sign = 1 if self._taken() == "+" else -1
            other = self._product()
            if other.kind != found.kind:
                raise _NoArithmetic
            found = _Quantity(found.value + sign * other.value, found.unit)
        self._depth -= 1
        return found

    def _product(self) -> _Quantity:
        found = self._signed()
        while self._next() in ("*", "/"):
            divides = self._taken() == "/"
            other = self._signed()
            if divides and other.kind == found.kind:
                found = _Quantity(found.value / other.value)
            elif other.unit and (divides or found.unit):
                raise _NoArithmetic  # neither areas nor speeds
            else:
                value = found.value / other.value if divides else found.value * other.value
                found = _Quantity(value, found.unit or other.unit)
        return found

    def _signed(self) -> _Quantity:
        signs = 0
        while self._next() in ("+", "-"):
            signs += self._taken() == "-"
        found = self._power()
        return _Quantity(-found.value, found.unit) if signs % 2 else found

    def _power(self) -> _Quantity:
        base = self._atom()
        if self._next() not in ("^", "**"):
            return base
        self._place += 1
        self._depth += 1
        if self._depth > _MOST_DEPTH:
            raise _NoArithmetic
        exponent = self._signed()
        self._depth -= 1
        size = max(abs(base.value.numerator), base.value.denominator).bit_length()
        fits = exponent.value.denominator == 1 and abs(exponent.value) * size <= 2 * _MOST_BITS
        if base.unit or exponent.unit or not fits:
            raise _NoArithmetic
        return _Quantity(base.value ** int(exponent.value))

    def _atom(self) -> _Quantity:
        token = self._taken()
        if token == "(":
            found = self._sum()
            if self._taken() != ")":
                raise _NoArithmetic
        elif token and (token[0].isdigit() or token[0] == "."):
            found = _Quantity(Fraction(token.replace(",", "")))
        else:
            raise _NoArithmetic
        if self._next() == "%":
            self._place += 1
            return _Quantity(found.value / 100, found.unit)
        unit = self._next()
        # `3 in + 2 in` are inches; `3 in cm` has no unit that could be changed to another.
        follows = self._next(1)
        changes = unit == "in" and follows in _UNITS and follows != "in"
        if unit in _UNITS and not found.unit and not changes:
            self._place += 1
            return _Quantity(found.value * _UNITS[unit][1], unit)
        return found
