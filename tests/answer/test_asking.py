"""`journeyman.load`: what a program asks."""

from __future__ import annotations

import pytest

import journeyman
from journeyman.errors import ModelNotFound
from journeyman.generate.sampling import Sampling
from journeyman.records import Message


def test_a_loaded_model_answers_as_the_workspace_does(tmp_path, bases):
    model = journeyman.load(str(bases("llama")), home=tmp_path)
    asked = [Message("user", "Hi")]
    answer = journeyman.Workspace(tmp_path).answer(str(bases("llama")), asked, Sampling(max_tokens=8, temperature=0)).text
    assert isinstance(model, journeyman.Model) and answer
    for question in ("Hi", asked):
        assert model.ask(question, max_tokens=8, temperature=0) == answer
        assert "".join(model.stream(question, max_tokens=8, temperature=0)) == answer
    with pytest.raises(ModelNotFound):
        journeyman.load("nobody", home=tmp_path)


def test_every_public_name_is_there():
    assert [name for name in journeyman.__all__ if getattr(journeyman, name, None) is None] == []
    with pytest.raises(AttributeError, match="nobody"):
        _ = journeyman.nobody
