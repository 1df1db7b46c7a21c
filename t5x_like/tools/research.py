"""LaMDA's research loop: a draft, queries to tools, and the answer that these lead to."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from t5x_like.decoding.text import TextGeneration
from t5x_like.errors import UserError

# In a line of answers.
DRAFT, QUERIES = "draft", "queries"
# Whom the first word of what is written is meant for.
TOOLSET, USER = "TS,", "User,"
_FOUND = "TS"


class Tool(Protocol):
    """What can be asked while a model answers."""

    def __call__(self, query: str) -> Sequence[str]:
        """What it finds; nothing where the query is none that it can answer."""


# Prompts, which rows of all these are, and the round, from 0, to what the model writes.
Write = Callable[[Sequence[str], Sequence[int], int], Sequence[TextGeneration]]
# Makes something once for all processes.
Once = Callable[[Callable[[], Any]], Any]


@dataclasses.dataclass(frozen=True)
class Researched:
    """An answer, and how it came about.

    Attributes:
      answer: what is said to the user, see `for_user`.
      draft: what the model wrote first.
      queries: what was looked up, in order, with what the model was then shown.
    """

    answer: TextGeneration
    draft: str
    queries: Sequence[tuple[str, Sequence[str]]]


@dataclasses.dataclass(frozen=True)
class Research:
    """Lets a model look up what it has drafted (Thoppilan et al. 2022, section 6.2).

    After a prompt the model writes a draft. It goes on after `prompt draft RESEARCH` with `TS,
    query`, and reads `prompt draft RESEARCH TS, query TS result RESEARCH`, or with `User, answer`,
    which ends it; so `tasks.sources.RatedResponses` writes it for training. All tools are asked in
    their order and their lists put together. What a dialogue was shown is not shown again: by
    asking the same once more, a model sees the next result. After so many rounds only an answer can
    be written, since `User,` then stands there already.

    Attributes:
      tools: asked in this order; the paper's is calculator, translator, retrieval.
      rounds: most queries of a prompt; 4 in the paper.
      results: shown for a query; 1 in the paper.
      sentinel: what a query or an answer is asked for by.
    """

    tools: Sequence[Tool]
    rounds: int = 4
    results: int = 1
    sentinel: str = "RESEARCH"

    def __post_init__(self) -> None:
        object.__setattr__(self, "tools", tuple(self.tools))  # a list, from gin
        if not self.tools:
            raise UserError(
                "Research.tools is empty: give [@tools.Calculator()] or others (TOOLS)."
            )
        for tool in self.tools:
            if not callable(tool):
                raise UserError(
                    f"Research.tools has {tool!r}: a tool is a function of a text that returns a "
                    "list of texts."
                )
        for name in ("rounds", "results"):
            if getattr(self, name) < 1:
                raise UserError(f"Research.{name} is {getattr(self, name)}: give 1 or more.")

    def __str__(self) -> str:
        """For comparison and for a person; a function has its name."""
        named = ", ".join(getattr(tool, "__name__", None) or repr(tool) for tool in self.tools)
        return f"tools=[{named}], rounds={self.rounds}, results={self.results}"

    def found(self, query: str) -> list[str]:
        """What all tools find.

        Raises:
          UserError: a tool fails, or gives no list of texts; the message names both.
        """
        results: list[str] = []
        for tool in self.tools:
            name = getattr(tool, "__name__", None) or type(tool).__name__
            try:
                own = tool(query)
            except Exception as error:
                if getattr(error, "exit_code", None) == UserError.exit_code:
                    raise
                raise UserError(f"tool {name} failed on {query[:60]!r}: {error!r}.") from error
            if isinstance(own, str) or not all(isinstance(one, str) for one in own):
                raise UserError(f"tool {name} gave {own!r}: a list of texts is needed.")
            results += own
        return results

    def _each(self, queries: Sequence[str]) -> list[list[str]]:
        return [self.found(query) for query in queries]

    def answers(
        self, prompts: Sequence[str], write: Write, once: Once = lambda make: make()
    ) -> list[Researched]:
        """The answer to each prompt.

        Args:
          prompts: as the model knows them, up to where a response begins.
          write: goes on from prompts. Of several texts for one, the chosen one says whether
            something is looked up.
          once: makes in one process what all of them then have; tools are asked within it.
        """
        drafts = [one.text.strip() for one in write(prompts, range(len(prompts)), 0)]
        said = [f"{prompt} {draft}" for prompt, draft in zip(prompts, drafts, strict=True)]
        queries: list[list[tuple[str, list[str]]]] = [[] for _ in prompts]
        answers: list[TextGeneration | None] = [None] * len(prompts)
        waiting = list(range(len(prompts)))
        for step in range(1, self.rounds + 2):
            last = step > self.rounds
            if not waiting:
                break
            asked = [f"{said[i]} {self.sentinel}{f' {USER}' if last else ''}" for i in waiting]
            wanted: list[tuple[int, str, str]] = []
            for i, prompt, one in zip(waiting, asked, write(asked, waiting, step), strict=True):
                text = one.text.strip()
                if _asks(text) and not last:
                    wanted.append((i, prompt, text.removeprefix(TOOLSET).strip()))
                else:
                    # Without a mark it is an answer too: nothing else could be done with it.
                    answers[i] = for_user(one)
            looked_up = [query for _, _, query in wanted]
            results = once(functools.partial(self._each, looked_up))
            for (i, prompt, query), own in zip(wanted, results, strict=True):
                shown = {text for _, texts in queries[i] for text in texts}
                new = [text for text in own if text not in shown][: self.results]
                queries[i].append((query, new))
                said[i] = " ".join([prompt, f"{TOOLSET} {query}", _FOUND, *new])
            waiting = [i for i, _, _ in wanted]
        return [
            Researched(answer, draft, own)
            for answer, draft, own in zip(answers, drafts, queries, strict=True)
            if answer is not None
        ]


def for_user(one: TextGeneration) -> TextGeneration:
    """An answer without the mark before it, with those of its samples that are answers."""
    samples = [for_user(each) for each in one.samples if not _asks(each.text)]
    return dataclasses.replace(
        one, text=one.text.strip().removeprefix(USER).strip(), samples=samples
    )


def _asks(text: str) -> bool:
    return text.strip().startswith(TOOLSET)


def told(found: Researched) -> Mapping[str, Any]:
    """How an answer came about, for a line of answers."""
    looked_up = [{"query": query, "results": list(results)} for query, results in found.queries]
    return {DRAFT: found.draft, QUERIES: looked_up}
