"""Retrieval by the vectors of a real, tiny sentence-transformers model with random weights."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import torch

import tiny
from journeyman.answer.retrieve import Documents, Examples
from journeyman.answer.vectors import Embedder, VectorIndex
from journeyman.errors import BaseNotFound, RequestError
from journeyman.records import Example, Message, Place

TEXTS = ["the kiln is hot today", "the shop is open", "glazes dry overnight"]


@pytest.fixture(scope="module")
def embedder(tmp_path_factory) -> Embedder:
    return Embedder(str(tiny.write_embedder(tmp_path_factory.mktemp("embedder"))))


def test_cosine_not_length_decides_and_of_equal_texts_the_first_is_nearer():
    vectors = np.array([[0.6, 0.8], [1, 0], [1, 0], [-1, 0]], dtype=np.float32)
    index = VectorIndex(vectors, lambda _: np.array([1, 0], dtype=np.float32))
    assert index.nearest("q", 9) == [1, 2, 0, 3]
    assert index.nearest("q", 2) == [1, 2]
    assert index.nearest("  ", 2) == []


def test_the_order_is_that_of_the_librarys_own_similarity(embedder):
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(embedder.name)
    query = "is the kiln on?"
    similar = model.similarity(model.encode_query([query]), model.encode_document(TEXTS))[0]
    index = embedder.index_documents(TEXTS)
    assert index.nearest(query, 3) == torch.argsort(similar, descending=True).tolist()
    assert index.nearest(TEXTS[1], 1) == [1]  # nothing is nearer to a text than itself
    assert embedder.index_documents([]).nearest(query, 3) == []


def test_documents_and_examples_are_found_by_vectors_and_stay_on_record(embedder, tmp_path):
    (tmp_path / "a.md").write_text("# Trees\n\namber is red\n\n# Shop\n\nwe open at nine\n")
    documents = Documents(tmp_path, make_index=embedder.index_documents)
    assert [p.place for p in documents.nearest([Message("user", "# Shop\nwe open at nine")], 1)] == ["a.md:7"]
    rows = [Example((Message("user", text), Message("assistant", "x")), Place("t", i)) for i, text in enumerate(TEXTS)]
    examples = Examples(rows, make_index=embedder.index_queries)
    assert [e.place.line for e in examples.nearest([Message("user", TEXTS[2])], 1)] == [2]


def test_a_change_of_any_file_is_another_identity(tmp_path):
    folder = tiny.write_embedder(tmp_path / "one")
    before = Embedder(str(folder)).identity
    assert before == Embedder(str(folder)).identity
    config = folder / "config_sentence_transformers.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "prompts": {"query": "find: ", "document": ""}}))
    assert Embedder(str(folder)).identity != before


def test_texts_of_which_only_the_beginning_counts_are_counted(embedder):
    (whose,) = embedder.notes(TEXTS)
    assert embedder.name in whose and "cosine" in whose
    _, cut = embedder.notes([*TEXTS, "word " * 400])
    assert "1 of 4 texts" in cut and "64 tokens" in cut


def test_pickled_weights_foreign_code_and_other_folders_are_refused(tmp_path):
    pickled = tiny.write_embedder(tmp_path / "pickled")
    (pickled / "model.safetensors").unlink()
    torch.save({}, pickled / "pytorch_model.bin")
    foreign = tiny.write_embedder(tmp_path / "foreign")
    modules = json.loads((foreign / "modules.json").read_text())
    modules[1]["type"] = "own_code.Pooling"
    (foreign / "modules.json").write_text(json.dumps(modules))
    (foreign / "own_code.py").write_text("raise SystemExit('it was run')\n")
    bare = tmp_path / "bare"
    bare.mkdir()
    for folder, why in ((pickled, "pytorch_model.bin"), (foreign, "own_code.Pooling"), (bare, "modules.json")):
        with pytest.raises(RequestError, match=why) as refused:
            Embedder(str(folder))
        assert (refused.value.code, refused.value.where) == ("unusable_embedder", "--embedder")
    with pytest.raises(BaseNotFound, match="no embedder"):
        Embedder(str(tmp_path / "nowhere"))


def test_without_the_extra_the_error_says_how_to_install_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(RequestError) as missing:
        Embedder(str(tmp_path))
    assert missing.value.code == "extra_missing"
    assert 'pip install "journeyman[vectors]"' in str(missing.value)
