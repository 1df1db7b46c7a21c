"""GPT-3's filter of quality: a classifier of documents by their words, and a draw by its score.

Brown et al. 2020, appendix A: a logistic regression on hashed words tells curated text from what
was crawled, and a document is kept where a draw from a Pareto distribution is above 1 - score.
"""

import dataclasses
import functools
import hashlib
import io
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from tasks.dropped import drop
from tasks.errors import TaskError
from tasks.sources.reading import unavailable
from tasks.sources.wrappers.hold_out import unit_hash

BUCKETS = 1 << 18  # Spark's HashingTF's
_STEPS = 200


def word_counts(text: str, buckets: int) -> tuple[np.ndarray, np.ndarray]:
    """The words of a document, hashed: int64 numbers of buckets, and float64 values.

    Words are in lower case and parted by white space; the values are their counts over the root of
    the sum of their squares, so that long documents weigh no more than short ones.
    """
    hashes = [zlib.crc32(word.encode("utf-8", "replace")) for word in text.lower().split()]
    places, counts = np.unique(np.array(hashes, np.int64) % buckets, return_counts=True)
    values = counts.astype(np.float64)
    return places, values / max(float(np.linalg.norm(values)), 1.0)


@dataclasses.dataclass(frozen=True)
class Classifier:
    """A logistic regression on `word_counts`.

    Attributes:
      weights: float32, of each bucket.
      bias: added to what they give.
      checksum: of the file that it was read from.
    """

    weights: np.ndarray
    bias: float
    checksum: str = ""

    def score(self, text: str) -> float:
        """The probability, 0 to 1, that a document is one of the positive ones."""
        places, values = word_counts(text, len(self.weights))
        logit = float(values @ self.weights[places]) + self.bias
        return float(1 / (1 + np.exp(-np.clip(logit, -700, 700))))

    def content(self) -> bytes:
        """What is written to a file."""
        file = io.BytesIO()
        np.savez_compressed(file, weights=self.weights, bias=np.float32(self.bias))
        return file.getvalue()


@functools.cache
def read_classifier(path: str) -> Classifier:
    """Reads what `t5x-like classifier` writes.

    Raises:
      TaskError: the file is missing, or is none.
    """
    try:
        data = Path(path).expanduser().read_bytes()
    except OSError as error:
        raise unavailable(path, error) from None
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            weights, bias = arrays["weights"], float(arrays["bias"])
    except Exception:  # whatever NumPy and zip raise of bytes that are no such file
        raise TaskError(
            f"file '{path}' is no classifier of documents: `t5x-like classifier` writes one."
        ) from None
    return Classifier(weights, bias, hashlib.sha256(data).hexdigest())


def fitted(positive: Iterable[str], negative: Iterable[str], buckets: int = BUCKETS) -> Classifier:
    """Fits a classifier: least logistic loss, with half the sum of the squared weights added.

    Args:
      positive: documents such as are wanted.
      negative: such as the corpus has.
      buckets: that words are hashed to.

    Raises:
      TaskError: there is no document of one kind.
    """
    from scipy import optimize, sparse

    places: list[np.ndarray] = []
    values: list[np.ndarray] = []
    counts = []
    for texts in (positive, negative):
        before = len(places)
        for text in texts:
            place, value = word_counts(text, buckets)
            places.append(place)
            values.append(value)
        counts.append(len(places) - before)
    if not all(counts):
        raise TaskError(
            f"there are {counts[0]:,} positive and {counts[1]:,} negative documents: some of each "
            "are needed."
        )
    ends = np.cumsum([0, *map(len, places)])
    # A bucket that no word falls into keeps the weight 0.
    met, columns = np.unique(np.concatenate(places), return_inverse=True)
    rows = sparse.csr_array((np.concatenate(values), columns, ends), shape=(sum(counts), len(met)))
    signs = np.repeat([1.0, -1.0], counts)

    def loss(weights_and_bias: np.ndarray) -> tuple[float, np.ndarray]:
        own, bias = weights_and_bias[:-1], weights_and_bias[-1]
        margins = signs * (rows @ own + bias)
        total = np.logaddexp(0, -margins).sum() + own @ own / 2
        pull = -signs / (1 + np.exp(np.clip(margins, -700, 700)))
        return float(total), np.append(rows.T @ pull + own, pull.sum())

    found = optimize.minimize(
        loss, np.zeros(len(met) + 1), jac=True, method="L-BFGS-B", options={"maxiter": _STEPS}
    )
    weights = np.zeros(buckets, np.float32)
    weights[met] = found.x[:-1]
    return Classifier(weights, float(found.x[-1]))


def accuracy(classifier: Classifier, positive: Sequence[str], negative: Sequence[str]) -> float:
    """The share of documents that are on the right side of a score of one half."""
    right = sum(classifier.score(text) > 0.5 for text in positive)
    right += sum(classifier.score(text) <= 0.5 for text in negative)
    return right / max(len(positive) + len(negative), 1)


class _Scored:
    """What filters by a classifier have in common."""

    classifier: str

    @property
    def files(self) -> tuple[str, ...]:
        """What is read."""
        return (self.classifier,)

    def __repr__(self) -> str:
        """By what stands in the file, so that another classifier is another filter."""
        names = [field.name for field in dataclasses.fields(self) if field.name != "classifier"]  # type: ignore[arg-type]
        settings = "".join(f", {name}={getattr(self, name)!r}" for name in names)
        checksum = read_classifier(self.classifier).checksum
        return f"{type(self).__name__}(sha256={checksum}{settings})"


@dataclasses.dataclass(frozen=True, repr=False)
class ParetoKept(_Scored):
    """Keeps a document with the probability (2 - score)^-alpha, as GPT-3's data were drawn.

    That is how often a draw from NumPy's Pareto distribution is above 1 - score. A hash of the text
    draws, so that a document has the same fate wherever it stands.

    Attributes:
      classifier: a file of `t5x-like classifier`.
      alpha: the larger, the fewer documents of low scores are kept.
      seed: draws anew.
    """

    classifier: str
    alpha: float = 9.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.alpha > 0:
            raise TaskError(f"filters.ParetoKept.alpha is {self.alpha}: it must be above 0.")

    def __call__(self, text: str, reasons: Counter[str]) -> str | None:
        """The text as it is, or None.

        Raises:
          TaskError: the file of the classifier is missing, or is none.
        """
        score = read_classifier(self.classifier).score(text)
        if unit_hash(f"{self.seed}\0{text}") < keep_probability(score, self.alpha):
            return text
        drop(reasons, "document: quality", text)
        return None


@dataclasses.dataclass(frozen=True, repr=False)
class MinScore(_Scored):
    """Drops documents of a low score, as LLaMA does those unlike pages that Wikipedia cites.

    Attributes:
      classifier: a file of `t5x-like classifier`.
      min_score: least probability that is kept.
    """

    classifier: str
    min_score: float = 0.5

    def __call__(self, text: str, reasons: Counter[str]) -> str | None:
        """The text as it is, or None; errors as of `ParetoKept`."""
        if read_classifier(self.classifier).score(text) >= self.min_score:
            return text
        drop(reasons, "document: quality", text)
        return None


def keep_probability(score: float, alpha: float = 9.0) -> float:
    """How often a draw of `np.random.pareto(alpha)` is above 1 - score."""
    return float((2 - score) ** -alpha)
