"""A run as a model of lm-evaluation-harness, whose tasks are then measured of it.

```python
import lm_eval
from t5x_like.runs.harness import HarnessModel

results = lm_eval.simple_evaluate(model=HarnessModel("runs/demo"), tasks=["hellaswag"])
```
"""

import contextlib
import dataclasses
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

import numpy as np
from etils import epath

from t5x_like.decoding import BeamSearch, Strategy, prompts_of, sampling_strategy
from t5x_like.decoding.continuations import check_batch_size
from t5x_like.decoding.generate import generate, prepare
from t5x_like.decoding.options import Contexts, Cut, Reading, score_pairs
from t5x_like.errors import UserError
from t5x_like.evaluation import windows
from t5x_like.evaluation.interrupted import identity_of
from t5x_like.host.journal import NO_JOURNAL, FileJournal, Journal, read
from t5x_like.host.progress import ProgressBar
from t5x_like.partitioning import Partitioner
from t5x_like.protocols import Decodes, longest_row
from t5x_like.runs import load_run
from t5x_like.runs.run import Run

try:
    from lm_eval.api.model import LM
except ImportError:  # the extra [lm-eval]; without it nobody asks for more than the methods
    LM = object

# What lm_eval takes for a model that reads any number of tokens, and for tasks that do not say.
_WINDOW, _NEW_TOKENS = 2048, 256
# The names that tasks have for the longest text, the first of which counts.
_LENGTHS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")


class HarnessModel(LM):  # type: ignore[misc, valid-type]
    """A run for `lm_eval.simple_evaluate(model=...)`.

    Texts become tokens as lm_eval's own backend for transformers makes them of the exported model:
    context and continuation are encoded together and cut at the context's length, and what has no
    room loses its beginning (Gao et al. 2024, section 4.2, and the released code, 0.4.13).

    Attributes:
      reading: how contexts are read.
      batch_size: texts handled together.
    """

    reading: Reading
    batch_size: int

    def __init__(
        self,
        run: Run | str,
        *,
        step: int | None = None,
        contexts: Contexts = "text",
        start_token: bool | None = None,
        batch_size: int = 32,
    ) -> None:
        """Opens the run.

        Args:
          run: a run, or its MODEL_DIR.
          step: of a MODEL_DIR, the checkpoint; None for the newest.
          contexts: see `Reading`.
          start_token: whether a decoder reads it before a context. None is as transformers does:
            not where it is the end token too, as GPT-2's, which parts the texts of training. The
            numbers that are published of such models were made so.
          batch_size: texts handled together.

        Raises:
          UserError: no run, no vocabulary, or a model that writes no text.
        """
        super().__init__()
        check_batch_size(batch_size)
        self._run = load_run(run, step) if isinstance(run, str) else run
        self._layout = prompts_of(self._run.model)
        self._model = cast(Decodes, self._run.model)
        if start_token is None:
            start_token = self._run.codec.start_id not in self._run.codec.end_ids
        self.reading = Reading(contexts, start_token).of_model(self._model)
        if self.reading.contexts == "inputs" and self._run.codec.inputs is None:
            raise UserError("contexts is 'inputs', but the run's task has none: give 'text'.")
        self.batch_size = batch_size
        self._journal: Journal = NO_JOURNAL
        self._prepared: Any = None

    @contextlib.contextmanager
    def remembering(self, directory: epath.Path) -> Iterator[None]:
        """Keeps results of batches on disk as they come, until the block is done.

        A block that was interrupted goes on from them.

        Args:
          directory: for the file.
        """
        run = self._run
        identity = identity_of(self._model, run.params, run.model_dir, run.step, Partitioner(), {})
        path = directory / f"{run.step}.{identity}.partial.jsonl"
        opened = FileJournal(path, read(path))
        self._journal = opened
        try:
            yield
            opened.remove()
        finally:
            self._journal = NO_JOURNAL
            opened.close()

    # -- What lm_eval asks ------------------------------------------------------------------------

    def loglikelihood(self, requests: Sequence[Any]) -> list[tuple[float, bool]]:
        """The log-likelihood of each continuation, and whether greedy decoding would write it.

        Args:
          requests: lm_eval's instances, whose `args` are context and continuation.
        """
        pairs = [request.args for request in requests]
        with self._bar("loglikelihood", len(pairs)) as bar:
            scores, cut = score_pairs(
                self._model,
                self._run.params,
                self._run.codec,
                pairs,
                self.reading,
                batch_size=self.batch_size,
                progress=bar.add,
                journal=self._journal,
            )
        _say(cut)
        return [(one.total, one.greedy) for one in scores]

    def loglikelihood_rolling(self, requests: Sequence[Any]) -> list[float]:
        """The log-likelihood of each text, by windows that each count all that is new in them.

        Args:
          requests: lm_eval's instances, whose `args` are one text.

        Raises:
          UserError: the model has an encoder.
        """
        if self._layout.needs_inputs:
            raise UserError(
                f"{type(self._model).__name__} has an encoder: a task of whole texts "
                "(loglikelihood_rolling) needs a model that reads a text as it is."
            )
        codec, window = self._run.codec, self.max_length
        encode = codec.targets.vocabulary.encode
        documents = [np.array(encode(request.args[0]), np.int32) for request in requests]
        total = windows.count_windows([one.size for one in documents], window, window)
        with self._bar("loglikelihood_rolling", total) as bar:
            found = windows.document_likelihoods(
                self._model,
                self._run.params,
                documents,
                start_id=codec.start_id,
                window=window,
                stride=window,
                batch_size=self.batch_size,
                progress=bar.add,
                journal=self._journal,
            )
        return [one.log_likelihood for one in found]

    def generate_until(self, requests: Sequence[Any]) -> list[str]:
        """What the model writes after each context, up to the first of the strings that end it.

        Args:
          requests: lm_eval's instances, whose `args` are a context and how it is continued.

        Raises:
          UserError: a way of generating that is not known here, or no room for the new tokens.
        """
        if self._prepared is None:
            self._prepared = prepare(self._model, self._run.params)
        by_way: dict[_Way, list[int]] = {}
        for place, request in enumerate(requests):
            by_way.setdefault(_way(request.args[1]), []).append(place)
        texts = [""] * len(requests)
        with self._bar("generate_until", len(requests)) as bar:
            for way, places in by_way.items():
                contexts = [requests[place].args[0] for place in places]
                written = self._generate(way, contexts, bar.add)
                for place, text in zip(places, written, strict=True):
                    texts[place] = text
        return texts

    # -- What lm_eval notes -----------------------------------------------------------------------

    @property
    def max_length(self) -> int:
        """Most tokens that are read at once."""
        return longest_row(self._model) or _WINDOW

    @property
    def eot_token_id(self) -> int:
        """The token that ends a text."""
        return self._run.codec.end_ids[0]

    @property
    def tokenizer_name(self) -> str:
        """The vocabulary; lm_eval tells tokenized requests apart by it."""
        vocabulary = self._run.codec.targets.vocabulary
        return str(getattr(vocabulary, "path", type(vocabulary).__name__)).replace("/", "__")

    def get_model_info(self) -> dict[str, Any]:
        """What the results say of the model."""
        return {
            "model_dir": str(self._run.model_dir),
            "model_step": self._run.step,
            "model_class": type(self._model).__name__,
            "model_num_parameters": self._model.parameter_count(),
            "model_reading": self.reading.told(self._model, self._run.codec),
            "batch_size": self.batch_size,
        }

    # -- Generation -------------------------------------------------------------------------------

    def _generate(
        self, way: "_Way", contexts: Sequence[str], progress: Callable[[int], None]
    ) -> list[str]:
        """What follows each of the contexts."""
        codec = self._run.codec
        prompts = [self._prompt(context, way) for context in contexts]
        found = generate(
            self._model,
            self._run.params,
            prompts,
            max_new_tokens=way.length,
            strategy=way.strategy,
            eos_id=codec.end_ids,
            bos_id=codec.start_id if self._layout.needs_inputs else None,
            bidirectional_prompt=codec.bidirectional_prompt and self.reading.contexts == "inputs",
            batch_size=self.batch_size,
            stop=codec.stop(way.until),
            decoding_params=self._prepared,
            progress=progress,
            journal=self._journal,
        )
        if self.reading.contexts == "text":
            codec = dataclasses.replace(codec, inputs=None)  # one text, whatever the task has
        texts = map(codec.decode_after, prompts, [one.tokens for one in found])
        return [_cut(text, way.until) for text in texts]

    def _prompt(self, context: str, way: "_Way") -> list[int]:
        """A context's tokens, the last ones that leave room for the new tokens."""
        codec = self._run.codec
        feature = codec.targets if self.reading.contexts == "text" else codec.inputs
        assert feature is not None
        tokens = list(feature.vocabulary.encode(context))
        if feature is codec.inputs and feature.add_eos:
            tokens.append(feature.vocabulary.eos_id)
        if self._layout.needs_inputs:
            return tokens[-(codec.input_length or len(tokens)) :]
        if self.reading.start_token or not tokens:
            tokens = [codec.start_id, *tokens]
        room = len(tokens) if longest_row(self._model) is None else self.max_length - way.length
        if room < 1:
            raise UserError(
                f"a task wants {way.length} new tokens, but the model's max_length is "
                f"{self.max_length}: set max_gen_toks in its generation_kwargs to a smaller number."
            )
        return tokens[-room:]

    def _bar(self, kind: str, total: int) -> ProgressBar:
        return ProgressBar(total, label=kind, stream=sys.stderr)


class _Way(NamedTuple):
    """How texts are generated.

    Attributes:
      strategy: how tokens are chosen.
      length: most new tokens.
      until: strings that end a text, none of them empty.
    """

    strategy: Strategy
    length: int
    until: tuple[str, ...]


def _way(arguments: Mapping[str, Any]) -> _Way:
    """What a task's `generation_kwargs` ask for, by lm_eval's names and those of transformers."""
    left = dict(arguments)
    until = left.pop("until", None) or ()
    # An empty string ends nothing in lm_eval.
    until = tuple(one for one in ([until] if isinstance(until, str) else until) if one)
    lengths = [left.pop(name, None) for name in _LENGTHS]
    length = next((int(one) for one in lengths if one is not None), _NEW_TOKENS)
    draws = bool(left.pop("do_sample", False))
    temperature = float(left.pop("temperature", 1.0 if draws else 0.0) or 0.0)
    top_k, top_p, beams = (left.pop(name, None) for name in ("top_k", "top_p", "num_beams"))
    penalty = float(left.pop("length_penalty", 1.0))
    if left:
        raise UserError(
            f"a task's generation_kwargs have {', '.join(map(repr, sorted(left)))}, which is not "
            "known here: until, max_gen_toks, do_sample, temperature, top_k, top_p, num_beams and "
            "length_penalty are."
        )
    if beams not in (None, 1):
        return _Way(BeamSearch(int(beams), penalty, "transformers"), length, until)
    if not draws:
        return _Way(sampling_strategy(0), length, until)
    return _Way(sampling_strategy(temperature, top_k or None, top_p), length, until)


def _cut(text: str, until: Sequence[str]) -> str:
    """The text before each of the strings, in turn, as lm_eval cuts it."""
    for end in until:
        text = text.split(end)[0]
    return text


def _say(cut: Cut) -> None:
    if cut.cut:
        print(cut, file=sys.stderr, flush=True)
