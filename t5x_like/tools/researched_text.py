"""How `infer` answers prompts where a model may look things up."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from t5x_like.decoding import GenerationConfig, SampleAndRank, TextGeneration, prompts_of
from t5x_like.decoding.generate import room_after
from t5x_like.decoding.prompt_files import PromptFile
from t5x_like.decoding.text import ranked
from t5x_like.evaluation.answering import GeneratedText, warn
from t5x_like.protocols import Decodes, Mixture, Task
from t5x_like.tools.research import DRAFT, QUERIES, Once, Research, told


class ResearchedText(GeneratedText):
    """Text that is generated, after the tools were asked that the model wants to ask.

    Args:
      model: see `GeneratedText`, as what follows.
      task: see there.
      task_feature_lengths: see there.
      prompts: see there.
      research: the tools, and how often they are asked.
      once: makes something in one process for all.
      config: how drafts, queries and answers are generated. Where texts are judged, drafts and
        answers are, as responses to their prompts; of queries the likeliest is taken.
      batch_size: prompts decoded together.
    """

    def __init__(
        self,
        model: Decodes,
        task: Task | Mixture,
        task_feature_lengths: Mapping[str, int],
        prompts: PromptFile,
        *,
        research: Research,
        once: Once,
        config: GenerationConfig,
        batch_size: int,
    ) -> None:
        super().__init__(
            model, task, task_feature_lengths, prompts, config=config, batch_size=batch_size
        )
        self._research, self._once = research, once
        self.settings = f"{config}, {research}"
        self.adds |= {DRAFT, QUERIES}
        self._shortened = False

    def __call__(
        self, texts: Sequence[str], first_row: int, progress: Callable[[int], None]
    ) -> list[dict[str, Any]]:
        """See `Answerer`."""
        given = [self._codec.encode(text) for text in texts]

        def write(prompts: Sequence[str], rows: Sequence[int], step: int) -> list[TextGeneration]:
            if step == 0:
                return self._written(given, self._config, first_row=first_row)
            # Other draws at each step.
            config = dataclasses.replace(
                self._config, seed=(self._config.seed + step * 7919) % 2**31
            )
            if isinstance(config.choice, SampleAndRank):
                # Queries are no responses, and no model has learned to judge them.
                config = dataclasses.replace(config, choice="likelihood")
            tokens = [self._last_tokens(prompt) for prompt in prompts]
            return self._written(tokens, config, first_row=first_row, rows=rows)

        found = self._research.answers(texts, write, self._once)
        answers = [one.answer for one in found]
        if isinstance(rank := self._config.choice, SampleAndRank):
            each = [one.samples or [one] for one in answers]
            answers = ranked(
                self._model,
                self._params,
                self._codec,
                given,
                each,
                rank,
                batch_size=self._batch_size,
            )
        progress(len(texts))
        return [
            {**self._told(answer), **told(one)} for answer, one in zip(answers, found, strict=True)
        ]

    def _last_tokens(self, text: str) -> list[int]:
        """A prompt that has grown, without its beginning where there is no room for it."""
        codec = self._codec
        ids, end = list(codec.read.vocabulary.encode(text)), codec.end_of_inputs
        excess = 0.0
        if not prompts_of(self._model).needs_inputs:
            room = room_after(self._model, len(ids) + len(end), codec.start_id)
            excess = self._config.max_new_tokens - room
        if codec.input_length is not None:
            excess = max(excess, len(ids) + len(end) - codec.input_length)
        if excess > 0 and not self._shortened:
            self._shortened = True
            warn(
                "prompts with what was looked up lose their beginning, for which there is no room "
                f"(TASK_FEATURE_LENGTHS, MAX_NEW_TOKENS): the first has {len(ids):,} tokens."
            )
        # Something is left to go on from, even where more is to be written than there is room for.
        return ids[min(int(max(0, excess)), max(0, len(ids) - 1)) :] + end
