"""People's names in the rows, an extra: told by a spaCy model, by way of Presidio.

Nothing is fetched: the model is one that was installed beforehand, or a folder.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from journeyman.errors import RequestError

WHERE = "--names"
BATCH_TEXTS = 64


class Names:
    """Finds people's names. `model` is an installed spaCy model, such as en_core_web_sm, or a folder of one.

    Raises RequestError `extra_missing` where Presidio is not installed, and `unusable_names_model` for a model that is
    not here, or that is not one.
    """

    def __init__(self, model: str) -> None:
        presidio, engines, recognizers, spacy = _libraries()
        # Presidio would fetch a model that is not here.
        if not (spacy.util.is_package(model) or (Path(model).is_dir() and (Path(model) / "meta.json").is_file())):
            raise _unusable(model, "it is neither installed nor a folder with a spaCy model")
        logging.getLogger("presidio-analyzer").setLevel(logging.ERROR)
        engine = engines.SpacyNlpEngine(models=[{"lang_code": "en", "model_name": model}])  # a label; the model has its own language
        try:
            engine.load()
        except Exception as error:  # whatever spaCy says of a folder it can't read
            raise _unusable(model, (str(error) or type(error).__name__).splitlines()[0][:200]) from error
        person = recognizers.SpacyRecognizer(supported_language="en", supported_entities=["PERSON"])
        registry = presidio.RecognizerRegistry(recognizers=[person], supported_languages=["en"])
        self._analyzer = presidio.BatchAnalyzerEngine(
            presidio.AnalyzerEngine(registry=registry, nlp_engine=engine, supported_languages=["en"])
        )

    def __call__(self, texts: Sequence[str]) -> list[list[tuple[int, int]]]:
        """Where names stand in each text, as starts and ends."""
        found = self._analyzer.analyze_iterator(list(texts), language="en", batch_size=BATCH_TEXTS, entities=["PERSON"])
        return [[(one.start, one.end) for one in of_text] for of_text in found]


def _libraries() -> tuple[Any, Any, Any, Any]:
    try:
        import presidio_analyzer
        import spacy
        from presidio_analyzer import nlp_engine, predefined_recognizers
    except ImportError as error:
        raise RequestError(
            "names are found by the package presidio-analyzer, which is not installed",
            where=WHERE,
            fix='pip install "journeyman[names]" and a spaCy model, such as `python -m spacy download en_core_web_sm`',
            code="extra_missing",
        ) from error
    return presidio_analyzer, nlp_engine, predefined_recognizers, spacy


def _unusable(model: str, reason: str) -> RequestError:
    return RequestError(
        f"the spaCy model {model!r} can't be used: {reason}",
        where=WHERE,
        fix="install one, such as `python -m spacy download en_core_web_sm`, or give the folder of one",
        code="unusable_names_model",
    )
