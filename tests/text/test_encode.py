"""Golden tables: which tokens are learned, per template; and what is trained is what is served."""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

import tiny
from journeyman.errors import BaseNotFound, DataError
from journeyman.generate.stream import TextStream
from journeyman.records import Example, Message, Place
from journeyman.text.encode import encode
from journeyman.text.show import runs
from journeyman.text.template import ChatFormat
from journeyman.text.tools import call_readers


@pytest.fixture(scope="module")
def chats(tmp_path_factory):
    done: dict[str | None, ChatFormat] = {}

    def chat(template: str | None) -> ChatFormat:
        if template not in done:
            folder = tmp_path_factory.mktemp("chat")
            tiny.write_tokenizer(folder, template)
            done[template] = ChatFormat.open(folder)
        return done[template]

    return chat


def example(*turns: Message, tools=()) -> Example:
    return Example(tuple(turns), Place("rows.jsonl", 1), tools=tuple(tools))


def user(text: str) -> Message:
    return Message("user", text)


def answer(text: str, weight=None) -> Message:
    return Message("assistant", text, weight=weight)


def table(encoded, chat) -> list[tuple[str, int]]:
    """(token text, weight) of every token."""
    pairs = zip(encoded.ids_T.tolist(), encoded.weights_T.tolist(), strict=True)
    return [(chat.tokenizer.decode([i], skip_special_tokens=False), int(w)) for i, w in pairs]


def spans(encoded, chat) -> list[tuple[str, int]]:
    """The table with neighbours of equal weight joined: the same facts, readable."""
    return [("".join(t for t, _ in g), w) for w, g in groupby(table(encoded, chat), key=lambda pair: pair[1])]


def test_token_by_token(chats):
    chat = chats(tiny.CHATML)
    (encoded,) = encode(example(user("hi"), answer("ok")), chat)
    assert table(encoded, chat) == [
        ("<|im_start|>", 0), ("us", 0), ("er", 0), ("\n", 0), ("h", 0), ("i", 0), ("<|im_end|>", 0), ("\n", 0),
        ("<|im_start|>", 0), ("a", 0), ("ss", 0), ("ista", 0), ("nt", 0), ("\n", 0),
        ("o", 1), ("k", 1), ("<|im_end|>", 1),
    ]  # fmt: skip
    assert encoded.learned_tokens == 3


GOLDEN = {
    "chatml, two turns": (
        tiny.CHATML,
        [Message("system", "Be brief."), user("a?"), answer("b."), user("c?"), answer("d.")],
        [[
            ("<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\na?<|im_end|>\n<|im_start|>assistant\n", 0),
            ("b.<|im_end|>", 1),
            ("\n<|im_start|>user\nc?<|im_end|>\n<|im_start|>assistant\n", 0),
            ("d.<|im_end|>", 1),
        ]],
    ),
    "a turn of weight 0 is read, not learned": (
        tiny.CHATML,
        [user("a?"), answer("bad", 0), user("c?"), answer("good", 1)],
        [[
            ("<|im_start|>user\na?<|im_end|>\n<|im_start|>assistant\nbad<|im_end|>\n"
             "<|im_start|>user\nc?<|im_end|>\n<|im_start|>assistant\n", 0),
            ("good<|im_end|>", 1),
        ]],
    ),
    "what follows the last learned turn is left out": (
        tiny.CHATML,
        [user("a?"), answer("b."), user("thanks")],
        [[("<|im_start|>user\na?<|im_end|>\n<|im_start|>assistant\n", 0), ("b.<|im_end|>", 1)]],
    ),
    "a developer speaks as the system where the template knows no developer": (
        tiny.CHATML,
        [Message("developer", "Be kind."), user("a?"), answer("b.")],
        [[
            ("<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\na?<|im_end|>\n<|im_start|>assistant\n", 0),
            ("b.<|im_end|>", 1),
        ]],
    ),
    "a developer where the template knows one": (
        tiny.CHATML + "{# developer #}",
        [Message("developer", "Be kind."), user("a?"), answer("b.")],
        [[
            ("<|im_start|>developer\nBe kind.<|im_end|>\n<|im_start|>user\na?<|im_end|>\n<|im_start|>assistant\n", 0),
            ("b.<|im_end|>", 1),
        ]],
    ),
    "a tool call is an answer; a tool's result is not": (
        tiny.CHATML,
        [
            user("a?"),
            Message("assistant", "", tool_calls=({"id": "1", "type": "function", "function": {
                "name": "look", "arguments": '{"id": 7}'}},)),
            Message("tool", "found", tool_call_id="1"),
            answer("There."),
        ],
        [[
            ("<|im_start|>user\na?<|im_end|>\n<|im_start|>assistant\n", 0),
            ('<tool_call>{"name": "look", "arguments": {"id": 7}}</tool_call><|im_end|>', 1),
            ("\n<|im_start|>tool\nfound<|im_end|>\n<|im_start|>assistant\n", 0),
            ("There.<|im_end|>", 1),
        ]],
    ),
    "earlier thinking is dropped, so each turn is a sequence of its own": (
        tiny.QWEN3,
        [user("a?"), answer("<think>x</think>b."), user("c?"), answer("<think>y</think>d.")],
        [
            [("<|im_start|>user\na?<|im_end|>\n<|im_start|>assistant\n", 0), ("<think>x</think>b.<|im_end|>", 1)],
            [
                ("<|im_start|>user\na?<|im_end|>\n<|im_start|>assistant\nb.<|im_end|>\n"
                 "<|im_start|>user\nc?<|im_end|>\n<|im_start|>assistant\n", 0),
                ("<think>y</think>d.<|im_end|>", 1),
            ],
        ],
    ),
    "the same template without thinking needs one sequence": (
        tiny.QWEN3,
        [user("a?"), answer("b."), user("c?"), answer("d.")],
        [[
            ("<|im_start|>user\na?<|im_end|>\n<|im_start|>assistant\n", 0),
            ("b.<|im_end|>", 1),
            ("\n<|im_start|>user\nc?<|im_end|>\n<|im_start|>assistant\n", 0),
            ("d.<|im_end|>", 1),
        ]],
    ),
    "gemma says model, and trims": (
        tiny.GEMMA,
        [user(" a? "), answer(" b. ")],
        [[
            ("<|bos|><start_of_turn>user\na?<end_of_turn>\n<start_of_turn>model\n", 0),
            ("b.<end_of_turn>", 1),
        ]],
    ),
    "mistral has no generation prompt, and the end of the sequence ends the turn": (
        tiny.MISTRAL,
        [user("a?"), answer("b."), user("c?"), answer("d.")],
        [[
            ("<|bos|>[INST] a? [/INST]", 0),
            (" b.<|eos|>", 1),
            ("[INST] c? [/INST]", 0),
            (" d.<|eos|>", 1),
        ]],
    ),
    "llama 3": (
        tiny.LLAMA3,
        [user("a?"), answer("b.")],
        [[
            ("<|bos|><|start_header_id|>user<|end_header_id|>\n\na?<|eot_id|>"
             "<|start_header_id|>assistant<|end_header_id|>\n\n", 0),
            ("b.<|eot_id|>", 1),
        ]],
    ),
    "no template of its own": (
        None,
        [Message("system", "Be brief."), user("a?"), answer("b.")],
        [[
            ("<|bos|>### System:\nBe brief.<|eos|>\n### User:\na?<|eos|>\n### Assistant:\n", 0),
            ("b.<|eos|>", 1),
        ]],
    ),
    "a generation prompt that opens a thought": (
        tiny.CHATML.replace("assistant\n{% endif", "assistant\n<think>\n{% endif"),
        [user("a?"), answer("b.")],
        [[("<|im_start|>user\na?<|im_end|>\n<|im_start|>assistant\n<think>\n", 0), ("b.<|im_end|>", 1)]],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", GOLDEN)
def test_what_is_learned(chats, case):
    template, messages, wanted = GOLDEN[case]
    chat = chats(template)
    assert [spans(e, chat) for e in encode(example(*messages), chat)] == wanted
    shown = [[(text, int(learned)) for text, learned in runs(e, chat)] for e in encode(example(*messages), chat)]
    assert shown == wanted, "what `check --show` prints"


def test_tools_are_given_to_the_template(chats):
    chat = chats("{% if tools %}{{ tools | tojson }}\n{% endif %}" + tiny.CHATML)
    (encoded,) = encode(example(user("a?"), answer("b."), tools=[{"type": "function"}]), chat)
    assert spans(encoded, chat)[0][0].startswith('[{"type": "function"}]\n<|im_start|>user')


def test_a_tool_call_that_the_template_would_not_continue_is_refused(chats):
    """Its text is the template's to write; learning an empty answer in its place would be a silent loss."""
    chat = chats(tiny.CHATML.replace("assistant\n{% endif", "assistant\n<think>\n{% endif"))
    call = {"id": "1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    with pytest.raises(DataError) as caught:
        encode(example(user("a?"), Message("assistant", "", tool_calls=(call,))), chat)
    assert caught.value.code == "template_refused"


def test_what_a_template_refuses_is_an_error_with_its_own_words(chats):
    with pytest.raises(DataError, match="System role not supported") as caught:
        encode(example(Message("system", "x"), user("a?"), answer("b.")), chats(tiny.GEMMA))
    assert caught.value.code == "template_refused"


def test_truncation_cuts_the_end_and_says_how_much(chats):
    chat = chats(tiny.CHATML)
    row = example(user("Where is it?"), answer("On its way to you."))
    (whole,) = encode(row, chat)
    for limit in range(1, len(whole) + 3):
        (cut,) = encode(row, chat, max_tokens=limit)
        assert len(cut) == min(limit, len(whole))
        assert cut.cut_tokens == max(0, len(whole) - limit)
        assert cut.ids_T.tolist() == whole.ids_T.tolist()[:limit]
        assert cut.weights_T.tolist() == whole.weights_T.tolist()[:limit]


def test_nothing_to_learn_is_no_error_here_and_carries_no_weight(chats):
    (encoded,) = encode(example(user("a?"), answer("b.", 0)), chats(tiny.CHATML))
    assert encoded.learned_tokens == 0
    assert not encoded.weights_T.any()


TEXT = st.text(
    st.one_of(st.sampled_from(" \n\tabe.:,Th"), st.characters(exclude_categories=["Cs"])), max_size=12
)
TURNS = st.lists(st.tuples(TEXT, TEXT, st.sampled_from([None, 0, 1])), min_size=1, max_size=3)


@pytest.mark.parametrize("name", [*tiny.TEMPLATES, "plain"])
@given(turns=TURNS)
def test_what_is_trained_is_what_is_served(chats, name, turns):
    """The tokens before each learned turn are those an engine would be given; each ends with the end of turn."""
    chat = chats(tiny.TEMPLATES.get(name))
    messages = [m for q, a, w in turns for m in (user(q), answer(a, w))]
    served = [
        chat.prompt_ids(messages[:index]) for index, message in enumerate(messages) if message.learned
    ]
    found = []
    for encoded in encode(example(*messages), chat):
        ids, weights = encoded.ids_T.tolist(), encoded.weights_T
        starts = np.flatnonzero(np.diff(weights, prepend=0) == 1)
        ends = [int(np.flatnonzero(np.append(weights[start:], 0) == 0)[0]) + start for start in starts]
        for start, end in zip(starts, ends, strict=True):
            found.append(ids[:start])
            assert ids[end - 1] == chat.end_of_turn_id
    assert found == served


@pytest.mark.parametrize("kind", ["legacy", "first"])
@pytest.mark.parametrize("template", [tiny.MISTRAL, None], ids=["mistral", "plain"])
def test_no_space_is_learned_that_the_tokenizer_puts_before_all_it_is_given(tmp_path, kind, template):
    """As Llama 2's and Mistral's do. A model that learned it would begin each answer with a space that no row has."""
    lines = ["Where is my card? It left on Monday. It is my card.", "### User:\n### Assistant:\n", "user assistant"]
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    if kind == "legacy":
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(steps)
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokenizer.train_from_iterator(lines * 5, trainers.BpeTrainer(vocab_size=360, special_tokens=special, show_progress=False))
    tiny.write_tokenizer(tmp_path, template)
    (tmp_path / "tokenizer.json").write_text(tokenizer.to_str(), encoding="utf-8")
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({**config, "bos_token": "<s>", "eos_token": "</s>"}))
    chat = ChatFormat.open(tmp_path)
    messages = (user("Where is my card?"), answer("It left on Monday."), user("Where?"), answer("It is my card."))
    sequences = encode(example(*messages), chat)
    whole = chat.ids(chat.render(messages, add_generation_prompt=False).removesuffix("\n"))
    assert sequences[-1].ids_T.tolist() == whole, "as transformers tokenizes the conversation"
    said = []
    for sequence in sequences:
        stream, weights = TextStream(chat), sequence.weights_T.tolist()
        text = ""
        for token, weight in zip(sequence.ids_T.tolist(), weights, strict=True):
            if weight and token == chat.end_of_turn_id:
                said.append(text + stream.finish())
                stream, text = TextStream(chat), ""
            elif weight:
                text += stream.push(token)
    assert said == [m.content for m in messages if m.learned]


# ── the format itself ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("template", "token"),
    [
        (tiny.CHATML, "<|im_end|>"), (tiny.QWEN3, "<|im_end|>"), (tiny.GEMMA, "<end_of_turn>"),
        (tiny.MISTRAL, "<|eos|>"), (tiny.LLAMA3, "<|eot_id|>"), (None, "<|eos|>"),
    ],
)  # fmt: skip
def test_the_end_of_turn_is_found_and_stops_an_answer(chats, template, token):
    chat = chats(template)
    assert chat.end_of_turn == token
    assert chat.tokenizer.id_to_token(chat.end_of_turn_id) == token
    assert chat.end_of_turn_id in chat.stop_ids
    assert chat.tokenizer.token_to_id("<|eos|>") in chat.stop_ids
    assert chat.plain == (template is None)


@pytest.mark.parametrize("name", tiny.TEMPLATES)
def test_rendering_is_transformers_own(tmp_path, name):
    from transformers import AutoTokenizer

    tiny.write_tokenizer(tmp_path, tiny.TEMPLATES[name])
    theirs, ours = AutoTokenizer.from_pretrained(tmp_path), ChatFormat.open(tmp_path)
    messages = [user("Where is it?"), answer("Näher, als du denkst. 你好"), user("  thanks \n")]
    text = theirs.apply_chat_template([m.as_dict() for m in messages], tokenize=False, add_generation_prompt=True)
    assert ours.render(messages, add_generation_prompt=True) == text
    assert ours.prompt_ids(messages) == theirs.encode(text, add_special_tokens=False)


@pytest.mark.parametrize(
    "options", ["indent=2", "separators=(',', ':')", "sort_keys=true", "ensure_ascii=true", "false, 2", "true, none, (', ', '='), true"]
)
def test_json_in_a_template_is_written_as_transformers_writes_it(tmp_path, options):
    """Models were trained with tools written just so."""
    from transformers import AutoTokenizer

    tiny.write_tokenizer(tmp_path, f"{{{{ tools | tojson({options}) }}}}" + tiny.CHATML)
    tools = [{"type": "function", "function": {"name": "größe", "parameters": {"type": "object", "properties": {"b": {}, "a": {}}}}}]
    messages = [user("Where is it?")]
    theirs = AutoTokenizer.from_pretrained(tmp_path).apply_chat_template(
        [m.as_dict() for m in messages], tools=tools, tokenize=False, add_generation_prompt=True
    )
    assert ChatFormat.open(tmp_path).render(messages, tools=tools, add_generation_prompt=True) == theirs


def test_a_template_file_goes_before_the_config_and_default_before_the_others(tmp_path):
    tiny.write_tokenizer(tmp_path, tiny.MISTRAL)
    (tmp_path / "chat_template.jinja").write_text(tiny.CHATML, encoding="utf-8")
    assert ChatFormat.open(tmp_path).template == tiny.CHATML
    (tmp_path / "chat_template.jinja").unlink()
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    config["chat_template"] = [{"name": "tool_use", "template": "x"}, {"name": "default", "template": tiny.GEMMA}]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    assert ChatFormat.open(tmp_path).template == tiny.GEMMA


def test_a_template_for_tools_is_used_where_there_are_some(tmp_path):
    """As transformers does: the tools of a conversation would not be in the prompt at all."""
    from transformers import AutoTokenizer

    tiny.write_tokenizer(tmp_path, None)
    named = {"default": tiny.CHATML.replace("<tool_call>", "<unused>"), "tool_use": "{{ tools | tojson }}" + tiny.CHATML}
    config = json.loads((tmp_path / "tokenizer_config.json").read_text())
    config["chat_template"] = [{"name": name, "template": template} for name, template in named.items()]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    theirs, ours = AutoTokenizer.from_pretrained(tmp_path), ChatFormat.open(tmp_path)
    look = {"name": "look", "description": "Looks.", "parameters": {"type": "object", "properties": {}}}
    for tools in ([], [{"type": "function", "function": look}]):
        wanted = theirs.apply_chat_template([user("a?").as_dict()], tools=tools or None, tokenize=False, add_generation_prompt=True)
        assert ours.render([user("a?")], tools=tools, add_generation_prompt=True) == wanted
    assert [reader.form for reader in call_readers(ours, ["look"])] == ["tags"]


def test_a_generation_tag_renders_its_body(chats):
    chat = chats(tiny.CHATML.replace("{{ m['content'] }}", "{% generation %}{{ m['content'] }}{% endgeneration %}"))
    assert chat.render([user("a?")], add_generation_prompt=False) == "<|im_start|>user\na?<|im_end|>\n"


def test_a_template_can_not_reach_out_of_its_sandbox(chats):
    with pytest.raises(DataError, match="refuses"):
        chats("{{ ''.__class__.__mro__[1].__subclasses__() }}" + tiny.CHATML).render([user("a")], add_generation_prompt=True)


def test_a_folder_without_a_tokenizer_says_what_is_missing(tmp_path: Path):
    with pytest.raises(BaseNotFound, match=r"no tokenizer\.json") as caught:
        ChatFormat.open(tmp_path)
    assert caught.value.fix
