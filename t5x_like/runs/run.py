"""What can be asked of a run: text, likelihoods, predictions, vectors, attention."""

import functools
import typing
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from t5x_like import interpretability
from t5x_like.decoding import Strategy, generate_text, prompts_of
from t5x_like.decoding.generation_config import Choice, longest_answer
from t5x_like.decoding.options import ANSWER, Question, Reading, score_options
from t5x_like.decoding.scoring import Score, encoded_pairs, score_text
from t5x_like.decoding.text import TextGeneration, checked_texts
from t5x_like.errors import UserError
from t5x_like.evaluation.one_task import for_task
from t5x_like.evaluation.prediction import Text
from t5x_like.interpretability.reading import as_text
from t5x_like.protocols import Decodes, Model, label_names
from t5x_like.runs import at_hand
from t5x_like.runs.at_hand import Pooling, Reader
from t5x_like.runs.best_of import best_of, judge_of
from t5x_like.runs.own_generation import generation_config, own_settings
from t5x_like.runs.rewards import RewardReader
from t5x_like.runs.token_table import OfWords, is_table, means

if TYPE_CHECKING:
    import pandas as pd


class Run(OfWords):
    """A run, with what can be asked of it; made by `load_run`. See `OpenedRun` for what it has."""

    def generate(
        self,
        texts: Sequence[str],
        *,
        temperature: float | None = None,
        top_k: int | None = None,
        top_p: float | None = None,
        strategy: Strategy | None = None,
        max_new_tokens: int | None = None,
        min_new_tokens: int | None = None,
        repetition_penalty: float | None = None,
        stop_strings: Sequence[str] | None = None,
        samples: int = 1,
        choice: Choice = "likelihood",
        batch_size: int = 8,
        seed: int = 0,
    ) -> list[str]:
        """What the model answers to, or continues, each text with.

        What is None is as an imported run's `generation_config.json` says, or else as said below.

        Args:
          texts: inputs of the task, or for a task without inputs the beginnings.
          temperature: 0 for the likeliest token each time; 1 unless said otherwise.
          top_k: draw from this many of the likeliest tokens only.
          top_p: draw from the likeliest tokens that hold this probability only.
          strategy: instead of the three above, `decoding.BeamSearch()` for example.
          max_new_tokens: longest answer; the task's length of `targets` unless said otherwise.
          min_new_tokens: how many tokens come before an end token.
          repetition_penalty: above 1 makes tokens that are there already less likely.
          stop_strings: texts of which the first to be complete ends an answer, and is cut off.
          samples: how many texts are drawn for each, of which one is chosen.
          choice: by "likelihood" for each token, by "vote" for the most frequent answer, which the
            task's postprocessor finds in a text, or by `decoding.SampleAndRank()`.
          batch_size: texts decoded together.
          seed: of what is drawn.
        """
        found = self._drawn(
            texts,
            batch_size,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            strategy=strategy,
            max_new_tokens=max_new_tokens,
            min_new_tokens=min_new_tokens,
            repetition_penalty=repetition_penalty,
            stop_strings=stop_strings,
            samples=samples,
            choice=choice,
            seed=seed,
        )
        return [one.text for one in found]

    def _drawn(
        self, texts: Sequence[str], batch_size: int, **settings: Any
    ) -> list[TextGeneration]:
        """The text for each prompt with the samples that it was chosen of; see `generate`."""
        prompts_of(self.model)  # refuses one that writes no text
        self._say_what_is_cut(texts)
        longest = longest_answer(self.task_feature_lengths, settings["max_new_tokens"])
        return generate_text(
            cast(Decodes, self.model),
            self.params,
            self.codec,
            texts,
            config=generation_config(self._own_generation, longest=longest, **settings),
            batch_size=batch_size,
            answer_of=lambda number, text: self.task.tasks[0][0].postprocess(text, {}, False),
        )

    def best_of(
        self,
        texts: Sequence[str],
        judge: Any,
        *,
        samples: int = 16,
        temperature: float = 1.0,
        top_k: int | None = None,
        max_new_tokens: int | None = None,
        batch_size: int = 16,
        seed: int = 0,
    ) -> "pd.DataFrame":
        """Of several texts for each prompt the one of the highest reward: best of n.

        Args:
          texts: as for `generate`.
          judge: a run that has learned comparisons, or a function of prompts and as many texts that
            gives the reward of each.
          samples: how many texts are drawn for each.
          temperature: as for `generate`, above 0.
          top_k: as for `generate`.
          max_new_tokens: as for `generate`.
          batch_size: as for `generate`.
          seed: of what is drawn.

        Returns:
          A row for each prompt: `prompt`, `text`, `reward`, and `mean_reward` of all its samples.
        """
        reward = judge_of(judge)
        found = self._drawn(
            texts,
            batch_size,
            samples=samples,
            temperature=temperature,
            top_k=top_k,
            max_new_tokens=max_new_tokens,
            seed=seed,
        )
        return best_of(texts, found, reward)

    @functools.cached_property
    def _own_generation(self) -> dict[str, Any]:
        return own_settings(self.model_dir)

    def score(
        self,
        *,
        targets: Sequence[str],
        inputs: Sequence[str] | None = None,
        end_token: bool | None = None,
        batch_size: int = 8,
    ) -> np.ndarray:
        """The natural-log likelihood of each target given its input, float64 `[len(targets)]`.

        Args:
          targets: texts to be scored.
          inputs: inputs of the task; of a task without, what is before each target in one text.
          end_token: whether the end of a target counts as one of its tokens; None: where the task's
            targets end with a token, as they do unless it says `add_eos = False`.
          batch_size: texts scored together.
        """
        found = self._scores(targets, inputs, end_token, batch_size)
        return np.array([one.total for one in found])

    def token_scores(
        self,
        *,
        targets: Sequence[str],
        inputs: Sequence[str] | None = None,
        end_token: bool | None = None,
        batch_size: int = 8,
    ) -> list["pd.DataFrame"]:
        """What `score` sums up: for each target a row for each token.

        The columns are `token`, its text, and `log_likelihood`, natural, given those before it. The
        end token, where it counts, is the last row. The arguments are those of `score`.
        """
        import pandas as pd

        found = self._scores(targets, inputs, end_token, batch_size)
        _, ids = encoded_pairs(self.codec, targets, inputs, end_token)
        return [
            pd.DataFrame(
                {"token": as_text(self.codec, "decoder", tokens), "log_likelihood": one.tokens}
            )
            for tokens, one in zip(ids, found, strict=True)
        ]

    def _scores(
        self,
        targets: Sequence[str],
        inputs: Sequence[str] | None,
        end_token: bool | None,
        batch_size: int,
    ) -> list[Score]:
        if inputs is not None:
            self._say_what_is_cut(inputs)
        return score_text(
            cast(Decodes, self.model),
            self.params,
            self.codec,
            targets=targets,
            inputs=inputs,
            end_token=end_token,
            batch_size=batch_size,
        )

    def rank(
        self,
        question: str,
        options: Sequence[str],
        *,
        delimiter: str = " ",
        reading: Reading | None = None,
        unconditional_context: str = ANSWER,
    ) -> "pd.DataFrame":
        """How likely each option is after a question, a row for each.

        Columns are `option` and what options are ranked by, in natural logarithms, the highest
        first: `sum`, `per_token`, `per_character`, `per_byte` and `unconditional`.

        Args:
          question: what the model reads first, written as the prompts that it knows.
          options: the texts, two or more.
          delimiter: what stands between question and option.
          reading: None reads the question as inputs where the run's task has them, else as text.
          unconditional_context: what stands in the question's place for `unconditional`.

        Raises:
          UserError: fewer than two options, or one without text.
        """
        import pandas as pd

        texts = checked_texts(options, "options")
        if len(texts) < 2:
            raise UserError(
                f"options has {len(texts)} text{'s' * (len(texts) != 1)}, and two or more are "
                "ranked: `score` gives the log-likelihood of one."
            )
        if reading is None:
            reading = Reading("text" if self.codec.inputs is None else "inputs")
        (found,), cut = score_options(
            cast(Decodes, self.model),
            self.params,
            self.codec,
            [Question([question], [delimiter + text for text in texts])],
            reading,
            unconditional_context=unconditional_context,
        )
        if cut.cut:
            warnings.warn(str(cut), stacklevel=2)
        return pd.DataFrame({"option": texts} | found.normalized)

    def _say_what_is_cut(self, texts: Sequence[Text], reader: Reader | None = None) -> None:
        """Warns of texts that are longer than the task's: they lose their end, or beginning."""
        if cut := at_hand.what_is_cut(self.codec, reader, texts):
            warnings.warn(cut, stacklevel=4)  # where the caller of a method of this class is

    def predict(self, texts: Sequence[Text], task: str | None = None) -> dict[str, np.ndarray]:
        """What the model's heads give for each text, by name, the texts first.

        `lengths`, int32 `[texts]`, says how many tokens each text has: outputs for each token are
        padded to the longest, and what stands beyond a text's length means nothing. Numbers of
        classes come as the classes' names. Tags and their probabilities are those of the words,
        `[texts, words]`; "" where a text has fewer words, or a row no room for one. A task of
        choices has these as a second axis of everything but `choice`.

        Of a model that marks answers in texts instead `answer`, part of the text or "" for none;
        `span`, int32 `[texts, 2]`, the characters from which and to before which it stands, -1 for
        none; `probability` and `null_score_difference`, float32, see `evaluation.spans`.

        Args:
          texts: of a task with labels read as its rows are, special tokens included, a pair as two
            texts or one with a tab between them, choices after their text and a text after its
            question likewise, words as a list or a text; of any other as they are, without special
            tokens.
          task: which of several, where the run learns several that each have a head; its name.

        Raises:
          UserError: the model has no head that predicts.
        """
        found = self._outputs(texts, None, task)
        for name, labels in label_names(self._reading(task)[0]).items():
            # -1, of a word without a tag, is the last.
            found[name] = np.array([*labels, ""])[found[name]]
        return found

    def reward(self, texts: Sequence[str], prompts: Sequence[str] | None = None) -> np.ndarray:
        """How good each answer is, float32 `[texts]`, by a model that has learned comparisons.

        Args:
          texts: answers; without `prompts` each with its prompt before it.
          prompts: as many, as the task's template writes them.

        Raises:
          UserError: the model gives no rewards, or there are more or fewer prompts than texts.
        """
        texts = checked_texts(texts, "texts")
        asked = [""] * len(texts) if prompts is None else checked_texts(prompts, "prompts")
        if len(asked) != len(texts):
            raise UserError(f"{len(texts)} texts and {len(asked)} prompts: give as many of both.")
        reader = RewardReader.for_task(self.task, self.model, self.task_feature_lengths)
        return reader.rewards(self.model, self.params, asked, texts)

    def embed(
        self, texts: Sequence[Text], pooling: Pooling = "mean", task: str | None = None
    ) -> np.ndarray:
        """A vector for each text, float32 `[texts, e]`, of the last hidden states of its tokens.

        Without an encoder they know what stands before a token alone. For a task of choices
        `[texts, choices, e]`. Of vectors of words the mean of a text's.

        Args:
          texts: as for `predict`.
          pooling: "mean" of the tokens, "first" token's, or "pooled", what classifies a row.
          task: as for `predict`.

        Raises:
          UserError: the model has no such vector.
        """
        if pooling not in typing.get_args(Pooling):
            raise UserError(f"pooling is {pooling!r}: give 'mean', 'first' or 'pooled'.")
        if is_table(self.model):
            return means(self.word_vectors, self.codec.targets.vocabulary, texts, pooling)
        name = "pooled" if pooling == "pooled" else "hidden_states"
        found = self._outputs(texts, (name,), task)
        if name not in found:
            raise UserError(f"{type(self.model).__name__} gives no {name.replace('_', ' ')}.")
        return at_hand.pooled(found[name], found["lengths"], pooling)

    def _outputs(
        self, texts: Sequence[Text], names: tuple[str, ...] | None, task: str | None
    ) -> dict[str, np.ndarray]:
        """Outputs of the model by name, and `lengths`."""
        model, reader = self._reading(task)
        self._say_what_is_cut(texts, reader)
        return at_hand.outputs(model, self.params, self.codec, reader, texts, names)

    def _reading(self, task: str | None) -> tuple[Model, Reader | None]:
        """The model as it is for a task of the run, and what makes rows for its head, if any."""
        chosen = self.task
        if task is not None:
            members = {member.name: member for member, _ in chosen.tasks}
            if task not in members:
                raise UserError(f"task is {task!r}: the run learns {', '.join(members)}.")
            chosen = members[task]
        model = for_task(self.model, chosen)
        return model, at_hand.reader_of(model, chosen, self.task_feature_lengths)

    def attention(
        self,
        texts: Sequence[Text],
        targets: Sequence[str] | None = None,
        task: str | None = None,
    ) -> list[interpretability.AttentionMaps]:
        """The attention of every layer and head over each text.

        Args:
          texts: inputs of the task, or for a task without inputs what the decoder reads; of a run
            with a head as for `predict`, and a text of several rows has as many maps: one for each
            choice, or for each window in which an answer is looked for.
          targets: answers to inputs, that the decoder reads; None: the model's own, the likeliest
            token each time.
          task: as for `predict`.
        """
        model, reader = self._reading(task)
        read = self.codec, texts, self._answers(texts, targets, reader), reader
        return interpretability.attention_maps(model, self.params, *read)

    def routing(
        self, texts: Sequence[Text], targets: Sequence[str] | None = None, task: str | None = None
    ) -> interpretability.Routing:
        """Where the routers of experts send each token of the texts, read as one batch.

        Args:
          texts: as for `attention`.
          targets: as for `attention`.
          task: as for `predict`.

        Raises:
          UserError: the model has no experts.
        """
        model, reader = self._reading(task)
        read = self.codec, texts, self._answers(texts, targets, reader), reader
        return interpretability.routing(model, self.params, *read)

    def _answers(
        self, texts: Sequence[Text], targets: Sequence[str] | None, reader: Reader | None
    ) -> Sequence[str] | None:
        if targets is None and reader is None and self.codec.inputs is not None:
            return self.generate(cast(Sequence[str], texts), temperature=0.0)
        self._say_what_is_cut(texts, reader)
        return targets
