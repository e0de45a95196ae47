"""Tokens to text while they arrive: whole characters, no stop text, nothing lost, nothing late."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models

import tiny
from journeyman.generate.stream import TextStream
from journeyman.text.template import ChatFormat

TEXT = st.text(st.one_of(st.sampled_from("ab \n"), st.characters(exclude_categories=["Cs"])), max_size=20)
STOPS = st.lists(st.text(st.sampled_from("ab \n"), min_size=1, max_size=4), max_size=3)


@pytest.fixture(scope="module")
def chat(tmp_path_factory) -> ChatFormat:
    folder = tmp_path_factory.mktemp("chat")
    tiny.write_tokenizer(folder, tiny.CHATML)
    return ChatFormat.open(folder)


def read(chat: ChatFormat, ids, stop=()) -> tuple[list[str], bool]:
    stream = TextStream(chat, stop)
    pieces = []
    for token in ids:
        pieces.append(stream.push(token))
        if stream.stopped:
            return pieces, True
    pieces.append(stream.finish())
    return pieces, stream.stopped


def up_to_stop(text: str, stops) -> tuple[str, bool]:
    """The text before the stop that comes first as the text grows character by character."""
    for end in range(len(text) + 1):
        starts = [text[:end].find(s) for s in stops if s in text[:end]]
        if starts:
            return text[: min(starts)], True
    return text, False


@given(text=TEXT)
def test_pieces_join_to_the_text(chat, text):
    pieces, stopped = read(chat, chat.ids(text))
    assert "".join(pieces) == text
    assert not stopped


@given(text=TEXT)
def test_no_character_is_ever_split(chat, text):
    """Even where every byte is a token of its own."""
    vocabulary = chat.tokenizer.get_vocab()
    from tokenizers.pre_tokenizers import ByteLevel

    letters = ByteLevel(add_prefix_space=False, use_regex=False).pre_tokenize_str(text)
    ids = [vocabulary[c] for piece, _ in letters for c in piece]
    assert len(ids) == len(text.encode())
    stream = TextStream(chat)
    shown = ""
    for token in ids:
        shown += stream.push(token)
        assert text.startswith(shown)
    assert shown + stream.finish() == text


@given(text=TEXT, stops=STOPS)
def test_a_stop_text_never_leaks(chat, text, stops):
    pieces, stopped = read(chat, chat.ids(text), stops)
    joined = "".join(pieces)
    assert not any(s in joined for s in stops)
    assert text.startswith(joined)
    assert stopped == any(s in text for s in stops)
    if not stopped:
        assert joined == text


@given(text=st.text(st.sampled_from("ab \n"), max_size=20), stops=STOPS)
def test_the_answer_ends_before_the_first_stop_where_a_token_is_a_character(chat, text, stops):
    vocabulary = chat.tokenizer.get_vocab()
    ids = [vocabulary[{" ": "Ġ", "\n": "Ċ"}.get(c, c)] for c in text]
    pieces, stopped = read(chat, ids, stops)
    assert ("".join(pieces), stopped) == up_to_stop(text, stops)


def test_the_beginning_of_a_stop_is_held_back_and_given_when_it_is_none(chat):
    pieces, stopped = read(chat, chat.ids("a##b###c"), ["###"])
    assert (pieces[0], "".join(pieces), stopped) == ("a", "a##b", True)
    pieces, stopped = read(chat, chat.ids("a##"), ["###"])
    assert (pieces[:-1], pieces[-1], stopped) == (["a", "", ""], "##", False)


def test_a_cut_off_character_comes_out_as_a_replacement_at_the_end(chat):
    ids = chat.ids("ok \N{GRINNING FACE}")[:-1]
    pieces, _ = read(chat, ids)
    joined = "".join(pieces)
    assert joined.startswith("ok ")
    assert set(joined[3:]) == {"\N{REPLACEMENT CHARACTER}"}


def test_special_tokens_are_no_text(chat):
    pieces, _ = read(chat, chat.ids("a<|im_start|>b"))
    assert "".join(pieces) == "ab"


def test_a_space_after_a_special_token_stays(chat):
    """Llama 2's and Mistral's tokenizers take the first space of what is decoded away, and special tokens are not shown."""
    tokenizer = Tokenizer(models.WordLevel({"▁It": 0, "▁is": 1, "▁late": 2, "<x>": 3}, unk_token="<x>"))
    tokenizer.add_special_tokens(["<x>"])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    spaced = replace(chat, tokenizer=tokenizer)
    for ids in ([0, 1, 3, 2], [3, 0, 3, 3, 1, 2], [0, 3]):
        pieces, _ = read(spaced, ids)
        assert "".join(pieces) == spaced.text(ids)
