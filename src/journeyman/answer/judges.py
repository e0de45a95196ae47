"""Judge models for graders: on this machine by id, or behind an OpenAI-compatible URL that the grader names."""

from __future__ import annotations

from collections.abc import Callable

from journeyman.answer.answerer import Answerer
from journeyman.answer.remote import RemoteModel
from journeyman.errors import RequestError
from journeyman.generate.sampling import Sampling
from journeyman.grade.judged import Question
from journeyman.grade.score import NotMeasurableError
from journeyman.records import Answer, Message

Local = Callable[[str], Answerer]
Secret = Callable[[str], str | None]
DEFAULT_KEY = "OPENAI_API_KEY"


class Judges:
    """Asks the model that a question names; a remote one keeps its connection.

    Raises NotMeasurableError where the model refuses this question (it is too long for it), and what the models
    themselves raise where they can't be asked at all: a judge that is away must not look like a row without a score.
    """

    def __init__(self, local: Local, secret: Secret) -> None:
        self._local = local
        self._secret = secret
        self._remote: dict[tuple[str, str, str], RemoteModel] = {}

    def __call__(self, question: Question) -> str:
        """What the judge says."""
        return self.ask(question).text

    def ask(self, question: Question) -> Answer:
        """The judge's answer, with what it cost."""
        messages = [Message(role, text) for role, text in question.messages]  # type: ignore[arg-type]
        try:
            sampling = Sampling(
                max_tokens=question.max_tokens,
                temperature=question.temperature,
                top_p=question.top_p,
                seed=question.seed,
                json_schema=question.schema,
            )
            return self._answerer(question).answers([messages], sampling)[0]
        except RequestError as error:
            message = f"the judge {question.model} refused: {error.message}"
            raise NotMeasurableError(message, fault="judge_away") from error

    def _answerer(self, question: Question) -> Answerer:
        if not question.url:
            return self._local(question.model)
        where = (question.url, question.model, question.key or DEFAULT_KEY)
        if where not in self._remote:
            self._remote[where] = RemoteModel(question.url, question.model, key=self._secret(where[2]))
        return self._remote[where]
