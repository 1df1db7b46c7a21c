"""Documents of certain languages."""

import dataclasses
import functools
from collections import Counter
from typing import Any

from tasks.dropped import drop
from tasks.errors import TaskError


@functools.cache
def _identifier() -> Any:
    try:
        from py3langid import langid
    except ImportError:
        raise TaskError(
            "filters.Language needs py3langid: pip install 't5x-like[corpora]'."
        ) from None
    return langid.LanguageIdentifier.from_model_file(langid.MODEL_FILE, norm_probs=True)


@dataclasses.dataclass(frozen=True)
class Language:
    """Keeps documents of some languages, by the byte n-grams of langid (Lui and Baldwin 2012).

    C4 takes langdetect, which is not kept up any more; their probabilities differ.

    Attributes:
      languages: by their codes in ISO 639-1.
      min_probability: least probability of the likeliest language.

    Raises:
      TaskError: no language, or one that is not known.
    """

    languages: tuple[str, ...] = ("en",)
    min_probability: float = 0.99

    def __post_init__(self) -> None:
        if not self.languages or isinstance(self.languages, str):
            raise TaskError(
                f"filters.Language.languages is {self.languages!r}: a list of codes is needed, "
                "such as ['en', 'de']."
            )

    def __call__(self, text: str, reasons: Counter[str]) -> str | None:
        """The text as it is, or None.

        Raises:
          TaskError: py3langid is not installed, or does not know one of the languages.
        """
        identifier = _identifier()
        unknown = set(self.languages) - set(map(str, identifier.labels))
        if unknown:
            raise TaskError(
                f"filters.Language.languages: {sorted(unknown)[0]!r} is not among those that "
                f"py3langid knows: {', '.join(sorted(map(str, identifier.labels)))}."
            )
        language, probability = identifier.classify(text)
        if language in self.languages and probability >= self.min_probability:
            return text
        other = "another language" if language not in self.languages else "an unsure language"
        drop(reasons, f"document: {other}", text)
        return None
