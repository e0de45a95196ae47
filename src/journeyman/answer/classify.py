"""Classifiers as answerers: for closed label sets, the plain outsiders that a fine-tuned model has to beat.

Both are logistic regressions (scikit-learn's, L2) on what the user said last: on TF-IDF weights of words and letters,
and on the base's own hidden states. They answer with a label and write no token.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline, make_union
from sklearn.preprocessing import StandardScaler

from journeyman.answer.answerer import Tools
from journeyman.answer.retrieve import asked_text
from journeyman.errors import RequestError
from journeyman.generate.engine import Engine
from journeyman.records import Answer, Example, Message, Usage
from journeyman.train.loss import hidden_states

if TYPE_CHECKING:
    from journeyman.generate.sampling import Sampling

TFIDF_STRENGTHS = (1.0, 10.0, 100.0)
HEAD_STRENGTHS = (0.001, 0.01, 0.1)
"""The inverse penalties that are tried; the validation rows choose."""


class TfidfClassifier:
    """TF-IDF of words and word pairs, and of 2 to 5 letters within words; then logistic regression."""

    def __init__(self, train: Sequence[Example], validation: Sequence[Example], name: str = "tfidf") -> None:
        self.name = name
        self._model = _best(
            lambda strength: make_pipeline(
                make_union(
                    TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True),
                    TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 5), sublinear_tf=True, min_df=2),
                ),
                LogisticRegression(C=strength, max_iter=1000),
            ),
            TFIDF_STRENGTHS,
            [asked_text(e.prompt) for e in train],
            _labels(train),
            [asked_text(e.prompt) for e in validation],
            _labels(validation),
        )

    def answers(
        self, conversations: Sequence[Sequence[Message]], sampling: Sampling, tools: Sequence[Tools] = ()
    ) -> list[Answer]:
        """A label a conversation. No language model is asked: no token is read or written."""
        labels = self._model.predict([asked_text(c) for c in conversations])
        return [Answer(str(label), "end", Usage(0, 0)) for label in labels]


class HeadClassifier:
    """Logistic regression on the base's last hidden states: that of the last token beside the mean of all tokens.

    Rows that do not fit the base's context teach it nothing; `left_out` counts them.
    """

    def __init__(
        self, engine: Engine, train: Sequence[Example], validation: Sequence[Example], name: str = "head"
    ) -> None:
        self.name = name
        self._engine = engine
        given = len(train) + len(validation)
        train, validation = ([e for e in rows if self._fits(e.prompt)] for rows in (train, validation))
        self.left_out = given - len(train) - len(validation)
        several = len(set(_labels(train))) > 1
        self._model = several and _best(
            lambda strength: make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=1000)),
            HEAD_STRENGTHS,
            self._states([e.prompt for e in train]),
            _labels(train),
            self._states([e.prompt for e in validation]),
            _labels(validation),
        )

    def answers(
        self, conversations: Sequence[Sequence[Message]], sampling: Sampling, tools: Sequence[Tools] = ()
    ) -> list[Answer]:
        """A label a conversation; its tokens are read, and none is written."""
        if not self._model:
            raise RequestError("the training rows that fit the context have not two labels to choose from", code="nothing_learned")
        read = [len(self._ids(c)) for c in conversations]
        labels = self._model.predict(self._states(conversations))
        return [Answer(str(label), "end", Usage(n, 0)) for label, n in zip(labels, read, strict=True)]

    def _fits(self, conversation: Sequence[Message]) -> bool:
        return len(self._engine.chat.prompt_ids(conversation)) <= self._engine.context_tokens

    def _ids(self, conversation: Sequence[Message]) -> list[int]:
        ids = self._engine.chat.prompt_ids(conversation)
        if len(ids) > self._engine.context_tokens:
            raise RequestError(
                f"this model's context is {self._engine.context_tokens} tokens, and the messages have {len(ids)}",
                where="messages",
                fix="shorten the messages",
                code="context_length_exceeded",
            )
        return list(ids)

    @torch.inference_mode()
    def _states(self, conversations: Sequence[Sequence[Message]]) -> np.ndarray[Any, Any]:
        """Two times D numbers a conversation. Each is read by itself: padding would only cost time on a CPU."""
        self._engine.activate(None)
        out = []
        for conversation in conversations:
            ids_BT = torch.tensor([self._ids(conversation)], device=self._engine.device)
            hidden_TD = hidden_states(self._engine.model, ids_BT)[0].float()
            out.append(torch.cat((hidden_TD[-1], hidden_TD.mean(0))).cpu().numpy())
        width = 2 * int(self._engine.model.config.get_text_config().hidden_size)  # type: ignore[union-attr,operator]
        return np.array(out, dtype=np.float32).reshape(len(out), width)


def _labels(examples: Sequence[Example]) -> list[str]:
    return [example.ideal.content.strip() for example in examples]


def _best(
    make: Callable[[float], Any],
    strengths: Sequence[float],
    train: Any,
    labels: Sequence[str],
    validation: Any,
    validation_labels: Sequence[str],
) -> Any:
    """The model with the penalty that gets the most validation rows right; the strongest of equals."""
    best, best_right = None, -1
    for strength in strengths:
        model = make(strength).fit(train, labels)
        predicted = model.predict(validation) if len(validation_labels) else []
        right = sum(str(p) == v for p, v in zip(predicted, validation_labels, strict=True))
        if right > best_right:
            best, best_right = model, right
    return best
