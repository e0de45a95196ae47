"""Retrieval by vectors, an extra: the texts whose embeddings point most nearly the way the query's does.

Embeddings are those of a sentence-transformers model (Reimers and Gurevych 2019, arXiv:1908.10084), compared by their
cosine. Queries and documents are embedded each with the prompt that the model brings for them, if any. No code that
comes with a model is run, and no pickled weights are read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from journeyman.errors import BaseNotFound, RequestError
from journeyman.files import hash_bytes, hash_file
from journeyman.models.bases import HUB_ID, from_hub

WHERE = "--embedder"
PICKLED = (".bin", ".pt", ".pth", ".ckpt", ".pkl")

Vectors = NDArray[np.float32]
"""A row for each text, of length 1 (of length 0 for a text that says nothing to the model)."""


class VectorIndex:
    """Finds the texts that are nearest to a query by cosine; of equal ones the earlier text goes first."""

    def __init__(self, vectors: Vectors, embed_query: Callable[[str], Vectors]) -> None:
        self._vectors = vectors
        self._embed_query = embed_query

    def nearest(self, query: str, k: int) -> list[int]:
        """The places of `k` texts (of all, where there are fewer), nearest first; none for a query without text."""
        if not query.strip() or not len(self._vectors):
            return []
        cosines = self._vectors @ self._embed_query(query)
        return [int(i) for i in np.argsort(-cosines, kind="stable")[:k]]


class Embedder:
    """A sentence-transformers model: a folder, or a hub id that is in the local cache or is fetched.

    `identity` changes with any of its files. Raises RequestError `extra_missing` where sentence-transformers is not
    installed, and `unusable_embedder` for a model that it can't load, or not without running code or unpickling;
    BaseNotFound where there is no such model.
    """

    def __init__(self, model: str) -> None:
        self.name = model
        library = _library()
        folder = _folder(model)
        self.identity = f"{model} {_fingerprint(folder)[:16]}"
        self._model = _load(library, folder)
        self._queries: dict[str, Vectors] = {}

    def index_documents(self, texts: Sequence[str]) -> VectorIndex:
        """An index of documents, to be asked with questions."""
        return VectorIndex(_vectors(self._model.encode_document, texts), self._query)

    def index_queries(self, texts: Sequence[str]) -> VectorIndex:
        """An index of questions, to be asked with a further one."""
        return VectorIndex(_vectors(self._model.encode_query, texts), self._query)

    def notes(self, texts: Sequence[str]) -> tuple[str, ...]:
        """What a reader must know of vectors of these texts: whose they are, and how many see a beginning only."""
        made_by = f"retrieved by the vectors of {self.name} (cosine)"
        limit = self._model.max_seq_length
        if limit is None or math.isinf(limit) or not texts:
            return (made_by,)
        ids = self._model.tokenizer(list(texts), truncation=False, verbose=False)["input_ids"]
        cut = sum(len(row) > limit for row in ids)
        beginnings = f"{cut} of {len(texts)} texts are longer than the {limit} tokens that it reads: their beginnings were compared"
        return (made_by, beginnings) if cut else (made_by,)

    def _query(self, text: str) -> Vectors:
        """A query's embedding, made once: several contenders ask for the same rows."""
        if text not in self._queries:
            self._queries[text] = _vectors(self._model.encode_query, [text])[0]
        return self._queries[text]


def _library() -> Any:
    try:
        import sentence_transformers
    except ImportError as error:
        raise RequestError(
            "retrieval by vectors needs the package sentence-transformers, which is not installed",
            where=WHERE,
            fix='pip install "journeyman[vectors]"; without --embedder, BM25 retrieves',
            code="extra_missing",
        ) from error
    return sentence_transformers


def _folder(model: str) -> Path:
    """The model's folder. Raises BaseNotFound where there is none, and RequestError for what is in no form of the library's."""
    folder = Path(model).expanduser().absolute()
    if not folder.is_dir():
        if not HUB_ID.fullmatch(model):
            raise BaseNotFound(
                f"no embedder {model!r}",
                where=WHERE,
                fix="give the folder of a sentence-transformers model, or a hub id such as sentence-transformers/all-MiniLM-L6-v2",
            )
        folder = from_hub(model, where=WHERE)
    if not (folder / "modules.json").is_file():
        raise _unusable(model, "there is no modules.json in its folder: it is no model of sentence-transformers")
    pickled = [file for file in folder.rglob("*") if file.suffix in PICKLED and not list(file.parent.glob("*.safetensors"))]
    if pickled:
        raise _unusable(model, f"{pickled[0].relative_to(folder)} is no safetensors file: to read it can run code")
    return folder


def _load(library: Any, folder: Path) -> Any:
    try:
        return library.SentenceTransformer(
            str(folder), trust_remote_code=False, local_files_only=True, model_kwargs={"use_safetensors": True}
        )
    except (OSError, ValueError, KeyError) as error:
        raise _unusable(str(folder), " ".join(str(error).split())) from error


def _unusable(model: str, why: str) -> RequestError:
    return RequestError(
        f"{model} can't be used as an embedder: {why}",
        where=WHERE,
        fix="give a sentence-transformers model whose weights are safetensors and that needs no code of its own",
        code="unusable_embedder",
    )


def _vectors(encode: Callable[..., Any], texts: Sequence[str]) -> Vectors:
    if not texts:
        return np.zeros((0, 1), dtype=np.float32)
    made = encode(list(texts), normalize_embeddings=True, convert_to_numpy=True, show_progress_bar=False)
    return np.asarray(made, dtype=np.float32)


def _fingerprint(folder: Path) -> str:
    """A hash of all that the answer depends on: embedders are small enough to be read whole."""
    files = (file for file in folder.rglob("*") if file.suffix in (".safetensors", ".json", ".txt", ".model"))
    lines = sorted(f"{file.relative_to(folder).as_posix()} {hash_file(file)}" for file in files)
    return hash_bytes("\n".join(lines).encode())
