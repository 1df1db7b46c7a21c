"""Metrics of translations, summaries and other text that is generated.

By the libraries that the field reports them with: sacrebleu, rouge-score, NLTK.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from tasks.errors import TaskError
from tasks.metrics.arguments import Several, answers_and_texts, refused


def bleu(targets: Sequence[Several], predictions: Sequence[str]) -> dict[str, float]:
    """Corpus BLEU by sacrebleu, with international tokenization and exponential smoothing.

    Args:
      targets: a text each, or several.
      predictions: as many.
    """
    import sacrebleu

    references, guesses = _references_and_texts("bleu", targets, predictions)
    score = sacrebleu.corpus_bleu(
        guesses, _streams(references), smooth_method="exp", tokenize="intl"
    )
    return {"bleu": float(score.score)}


def chrf(
    targets: Sequence[Several], predictions: Sequence[str], word_order: int = 0
) -> dict[str, float]:
    """Corpus chrF by sacrebleu: F2 of n-grams of characters, up to six (Popović 2015).

    Args:
      targets: a text each, or several.
      predictions: as many.
      word_order: up to how many words n-grams of words count as well; 2 is chrF++ (Popović 2017).
    """
    import sacrebleu

    references, guesses = _references_and_texts("chrf", targets, predictions)
    score = sacrebleu.corpus_chrf(guesses, _streams(references), word_order=word_order)
    return {"chrf": float(score.score)}


def nist(targets: Sequence[Several], predictions: Sequence[str], n: int = 5) -> dict[str, float]:
    """NIST by NLTK: matching n-grams weighted by their information, not in percent.

    Doddington 2002, equation 3, of words in lower case as `mteval-v13a` parts them.

    Args:
      targets: a text each, or several.
      predictions: as many.
      n: words of the longest n-grams; 4 for NIST-4.
    """
    from nltk.translate.nist_score import corpus_nist

    references, guesses = _references_and_texts("nist", targets, predictions)
    found = [_tokens(text.lower()) for text in guesses]
    expected = [[_tokens(text.lower()) for text in each] for each in references]
    # NLTK divides by the number of n-grams, of which short texts may have none.
    longest = min(n, max(map(len, found)))
    words = any(len(text) for texts in expected for text in texts)
    return {"nist": float(corpus_nist(expected, found, longest)) if longest and words else 0.0}


def meteor(
    targets: Sequence[Several], predictions: Sequence[str], synonyms: bool = True
) -> dict[str, float]:
    """METEOR by NLTK: the mean over all texts, each against the best of its references.

    Words match that are equal, of one stem or synonyms (Banerjee and Lavie 2005, with the weights
    of Lavie and Agarwal 2007 for English). NLTK's is not the METEOR 1.5 of Denkowski and Lavie
    2014, which knows paraphrases too: the numbers differ.

    Args:
      targets: a text each, or several.
      predictions: as many.
      synonyms: whether WordNet's synonyms match.

    Raises:
      TaskError: WordNet's data is not on this machine.
    """
    from nltk.translate.meteor_score import meteor_score

    rows = zip(*_references_and_texts("meteor", targets, predictions), strict=True)
    wordnet = _wordnet() if synonyms else _NoSynonyms()
    scores = [
        meteor_score([_tokens(text) for text in texts], _tokens(guess), wordnet=wordnet)
        for texts, guess in rows
    ]
    return {"meteor": 100 * float(np.mean(scores))}


class _NoSynonyms:
    def synsets(self, word: str) -> list[Any]:
        return []


def _wordnet() -> Any:
    """WordNet, which NLTK reads from data that it does not bring.

    Raises:
      TaskError: it is not there.
    """
    from nltk.corpus import wordnet

    try:
        wordnet.ensure_loaded()
    except LookupError:
        raise TaskError(
            "METEOR needs WordNet's data, which is not on this machine: `python -m nltk.downloader "
            "wordnet` gets it, and `metrics.meteor.synonyms = False` does without synonyms."
        ) from None
    return wordnet


def _references_and_texts(
    metric: str, targets: Sequence[Several], predictions: Sequence[str]
) -> tuple[list[list[str]], list[str]]:
    """The references of each row, of which a text is the only one, and what was generated.

    Raises:
      TaskError: as many of both are needed, and texts; or a row has no reference.
    """
    references, guesses = answers_and_texts(metric, targets, predictions)
    if not all(references):
        raise refused(metric, [], "each row needs a reference, one text or more")
    return references, guesses


def _streams(references: Sequence[Sequence[str]]) -> list[Sequence[Any]]:
    """As sacrebleu reads them: a list of the first of all rows, one of the second, and so on."""
    return list(itertools.zip_longest(*references))


def _tokens(text: str) -> list[str]:
    from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

    return Tokenizer13a()(text).split()


def rouge(targets: Sequence[Several], predictions: Sequence[str]) -> dict[str, float]:
    """Mean F-measures of ROUGE-1, ROUGE-2 and summary-level ROUGE-L, by rouge-score.

    A sentence ends at ` . `, as in T5's metric. T5 reports the middle of a bootstrap
    interval, which differs from this mean by sampling noise.

    Args:
      targets: a text each, or several, of which each F-measure takes the best.
      predictions: as many.
    """
    from rouge_score import rouge_scorer

    rows = zip(*_references_and_texts("rouge", targets, predictions), strict=True)
    names = ("rouge1", "rouge2", "rougeLsum")
    scorer = rouge_scorer.RougeScorer(names)
    scores = [
        scorer.score_multi([_lines(text) for text in texts], _lines(guess)) for texts, guess in rows
    ]
    return {n: 100 * float(np.mean([score[n].fmeasure for score in scores])) for n in names}


def _lines(text: str) -> str:
    return text.replace(" . ", " .\n")
