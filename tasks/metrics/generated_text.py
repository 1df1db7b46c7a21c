"""Metrics of translations, summaries and other text that is generated.

By the libraries that the field reports them with: sacrebleu, rouge-score, NLTK.
"""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np

from tasks.errors import TaskError
from tasks.metrics.arguments import check_lengths

References = str | Sequence[str]
"""What was expected: a text, or several of which each is as good."""


def bleu(targets: Sequence[str], predictions: Sequence[str]) -> dict[str, float]:
    """Corpus BLEU by sacrebleu, with international tokenization and exponential smoothing."""
    import sacrebleu

    check_lengths(targets, predictions)
    score = sacrebleu.corpus_bleu(
        list(predictions), [list(targets)], smooth_method="exp", tokenize="intl"
    )
    return {"bleu": float(score.score)}


def chrf(
    targets: Sequence[References], predictions: Sequence[str], word_order: int = 0
) -> dict[str, float]:
    """Corpus chrF by sacrebleu: F2 of n-grams of characters, up to six (Popović 2015).

    Args:
      targets: a text each, or several.
      predictions: as many.
      word_order: up to how many words n-grams of words count as well; 2 is chrF++ (Popović 2017).
    """
    import sacrebleu

    check_lengths(targets, predictions)
    # One list for the first text of all, one for the second, …
    streams = list(itertools.zip_longest(*map(_references, targets)))
    score = sacrebleu.corpus_chrf(list(predictions), streams, word_order=word_order)
    return {"chrf": float(score.score)}


def nist(targets: Sequence[References], predictions: Sequence[str], n: int = 5) -> dict[str, float]:
    """NIST by NLTK: matching n-grams weighted by their information, not in percent.

    Doddington 2002, equation 3, of words in lower case as `mteval-v13a` parts them.

    Args:
      targets: a text each, or several.
      predictions: as many.
      n: words of the longest n-grams; 4 for NIST-4.
    """
    from nltk.translate.nist_score import corpus_nist

    check_lengths(targets, predictions)
    guesses = [_tokens(text.lower()) for text in predictions]
    references = [[_tokens(text.lower()) for text in _references(target)] for target in targets]
    # NLTK divides by the number of n-grams, of which short texts may have none.
    longest = min(n, max(map(len, guesses)))
    words = any(len(text) for texts in references for text in texts)
    return {"nist": float(corpus_nist(references, guesses, longest)) if longest and words else 0.0}


def meteor(
    targets: Sequence[References], predictions: Sequence[str], synonyms: bool = True
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

    check_lengths(targets, predictions)
    wordnet = _wordnet() if synonyms else _NoSynonyms()
    scores = [
        meteor_score(
            [_tokens(text) for text in _references(target)], _tokens(guess), wordnet=wordnet
        )
        for target, guess in zip(targets, predictions, strict=True)
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


def _references(target: References) -> list[str]:
    return [target] if isinstance(target, str) else list(target)


def _tokens(text: str) -> list[str]:
    from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a

    return Tokenizer13a()(text).split()


def rouge(targets: Sequence[str], predictions: Sequence[str]) -> dict[str, float]:
    """Mean F-measures of ROUGE-1, ROUGE-2 and summary-level ROUGE-L, by rouge-score.

    A sentence ends at ` . `, as in T5's metric. T5 reports the middle of a bootstrap
    interval, which differs from this mean by sampling noise.
    """
    from rouge_score import rouge_scorer

    check_lengths(targets, predictions)
    names = ("rouge1", "rouge2", "rougeLsum")
    scorer = rouge_scorer.RougeScorer(names)
    scores = [
        scorer.score(target.replace(" . ", " .\n"), prediction.replace(" . ", " .\n"))
        for target, prediction in zip(targets, predictions, strict=True)
    ]
    return {n: 100 * float(np.mean([score[n].fmeasure for score in scores])) for n in names}
