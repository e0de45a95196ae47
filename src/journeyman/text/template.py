"""The model's own chat template and stop tokens: one render function for training, evaluation and serving.

Only `tokenizers` and `jinja2` are needed, so that checking a file does not import torch or transformers.
The rendering environment is the one transformers documents for chat templates
(https://huggingface.co/docs/transformers/chat_templating_writing): a sandboxed Jinja with `trim_blocks`,
`lstrip_blocks`, loop controls, `raise_exception`, `strftime_now`, and the `{% generation %}` tag.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from journeyman.errors import BaseNotFound, DataError
from journeyman.records import Message

PLAIN_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "### {{ message['role'] | capitalize }}:\n{{ message['content'] }}{{ eos_token }}\n"
    "{% endfor %}{% if add_generation_prompt %}### Assistant:\n{% endif %}"
)
"""For base models that ship without a chat template. It is trained with the model and saved beside its adapter."""


class _GenerationTag(Extension):
    """`{% generation %}…{% endgeneration %}` marks assistant text for transformers; here it only renders its body."""

    tags = {"generation"}  # noqa: RUF012  (the attribute jinja2 asks for)

    def parse(self, parser: Parser) -> list[jinja2.nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """`tojson` with transformers' arguments, in its order."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise(message: str) -> None:
    raise jinja2.TemplateError(message)


def _environment() -> jinja2.Environment:
    env = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_GenerationTag, "jinja2.ext.loopcontrols"]
    )
    env.filters["tojson"] = _to_json
    env.globals["raise_exception"] = _raise
    env.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return env


def _token_text(value: Any) -> str:
    """A special token as tokenizer_config.json writes it: a string, or an object with its `content`."""
    if isinstance(value, Mapping):
        value = value.get("content")
    return value if isinstance(value, str) else ""


@dataclass(frozen=True)
class ChatFormat:
    """How one model reads and writes conversations: tokenizer, template, end of turn.

    `end_of_turn` is the token that closes an assistant turn; `stop_ids` are all tokens at which an answer ends.
    `plain` is true where the model shipped no chat template and ours is used. `tool_template` is used in place of
    `template` where a conversation has tools, in models that have one of its own for that (Hermes, Command R).
    """

    tokenizer: Tokenizer
    template: str
    special: Mapping[str, str]
    end_of_turn: str
    end_of_turn_id: int
    stop_ids: tuple[int, ...]
    plain: bool
    tool_template: str | None = None

    @classmethod
    def open(cls, folder: Path) -> ChatFormat:
        """Read the format from a model folder (tokenizer.json, tokenizer_config.json, chat_template.jinja).

        Raises BaseNotFound when the folder has no usable tokenizer or no token that can end a turn.
        """
        tokenizer = _open_tokenizer(folder)
        config = _read_config(folder / "tokenizer_config.json")
        special = {k: _token_text(v) for k, v in config.items() if k.endswith("_token") and _token_text(v)}
        for key, value in _read_config(folder / "special_tokens_map.json").items():
            special.setdefault(key, _token_text(value))
        stop_ids = _stop_ids(folder, tokenizer, special)
        if not special.get("eos_token") and stop_ids:
            special["eos_token"] = tokenizer.id_to_token(stop_ids[0]) or ""
        template, tool_template = _read_templates(folder, config)
        plain = template is None
        text = PLAIN_TEMPLATE if template is None else template
        end_of_turn = _find_end_of_turn(text, special, tokenizer)
        end_id = tokenizer.token_to_id(end_of_turn) if end_of_turn else None
        if end_id is None:
            raise BaseNotFound(
                "neither the chat template nor the tokenizer names a token that ends a turn",
                where=str(folder),
                fix="set eos_token in tokenizer_config.json",
            )
        return cls(
            tokenizer=tokenizer,
            template=text,
            special=special,
            end_of_turn=end_of_turn,
            end_of_turn_id=end_id,
            stop_ids=tuple(dict.fromkeys((end_id, *stop_ids))),
            plain=plain,
            tool_template=tool_template,
        )

    def render(
        self,
        messages: Sequence[Message],
        *,
        tools: Sequence[Mapping[str, Any]] = (),
        add_generation_prompt: bool,
    ) -> str:
        """The conversation as text, special tokens included.

        Raises DataError with the template's own words where it refuses the conversation.
        """
        template = self.tool_template if tools and self.tool_template is not None else self.template
        try:
            return _compile(template).render(
                messages=[_as_template_message(m, template) for m in messages],
                tools=[_as_template_tool(tool) for tool in tools] or None,
                documents=None,
                add_generation_prompt=add_generation_prompt,
                **self.special,
            )
        except (jinja2.TemplateError, TypeError) as error:
            raise DataError(
                f"the model's chat template refuses this conversation: {error}",
                code="template_refused",
                fix="change the roles or their order, or use a base whose template allows them",
            ) from error

    def prompt_ids(self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]] = ()) -> list[int]:
        """The tokens the model is given before it answers: training, evaluation and serving all start here."""
        return self.ids(self.render(messages, tools=tools, add_generation_prompt=True))

    def ids(self, text: str, *, after: str = "") -> list[int]:
        """Rendered text as tokens; nothing is added, since the template has written its own special tokens.

        What goes on `after` another text is tokenized by itself, as the model writes it: token by token after a prompt. But
        some tokenizers (those of Llama 2 and Mistral) put a space before all they are given, and there is none in
        between. With them the text's tokens are those that it has behind the other.
        """
        try:
            ids = list(self.tokenizer.encode(text, add_special_tokens=False).ids)
        except TypeError:  # the tokenizer takes UTF-8 only
            raise DataError(
                "the conversation holds half of a surrogate pair, which is no character",
                code="lone_surrogate",
                fix="cut text between characters, not inside of one",
            ) from None
        if not after or "".join(self.tokenizer.encode("a", add_special_tokens=False).tokens) == "a":
            return ids
        before, whole = self.ids(after), self.ids(after + text)
        return whole[len(before) :] if whole[: len(before)] == before else ids

    def text(self, ids: Sequence[int]) -> str:
        """Tokens as text, special tokens left out."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=True))


def _as_template_message(message: Message, template: str) -> dict[str, Any]:
    role = message.role
    if role == "developer" and "developer" not in template:
        role = "system"
    out: dict[str, Any] = {"role": role, "content": message.content}
    if message.name is not None:
        out["name"] = message.name
    if message.tool_calls:
        out["tool_calls"] = [_parsed_call(call) for call in message.tool_calls]
    if message.tool_call_id is not None:
        out["tool_call_id"] = message.tool_call_id
    return out


def _as_template_tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    """The tool as it was sent, but for `strict`: that is said to the server, and tells the model nothing."""
    function = tool.get("function")
    if not isinstance(function, Mapping):
        return dict(tool)
    return {**tool, "function": {key: value for key, value in function.items() if key != "strict"}}


_COMPILED: dict[str, jinja2.Template] = {}


def _compile(template: str) -> jinja2.Template:
    """Compile once for each template text: compiling costs a thousand times what rendering does."""
    if template not in _COMPILED:
        _COMPILED[template] = _environment().from_string(template)
    return _COMPILED[template]


def _parsed_call(call: Mapping[str, Any]) -> dict[str, Any]:
    """OpenAI writes a call's arguments as a JSON string; chat templates expect the object."""
    function = dict(call.get("function") or {})
    if isinstance(function.get("arguments"), str):
        try:
            function["arguments"] = json.loads(function["arguments"])
        except json.JSONDecodeError:
            return {**call, "function": function}
    return {**call, "function": function}


def _open_tokenizer(folder: Path) -> Tokenizer:
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise BaseNotFound(
            "no tokenizer.json in the model's folder",
            where=str(folder),
            fix="save the fast tokenizer there: AutoTokenizer.from_pretrained(...).save_pretrained(folder)",
        )
    return Tokenizer.from_file(str(path))


def _read_config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    value = json.loads(path.read_text(encoding="utf-8"))
    return value if isinstance(value, dict) else {}


def _read_templates(folder: Path, config: Mapping[str, Any]) -> tuple[str | None, str | None]:
    """The template, and the one for conversations with tools where there is another."""
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text(encoding="utf-8"), None
    value = config.get("chat_template")
    # Several have names, of which transformers takes these two by itself.
    named = {t.get("name"): t.get("template") for t in value} if isinstance(value, list) else {"default": value}
    default, tool_use = (text if isinstance(text, str) else None for text in (named.get("default"), named.get("tool_use")))
    return default, None if default is None else tool_use


def _stop_ids(folder: Path, tokenizer: Tokenizer, special: Mapping[str, str]) -> tuple[int, ...]:
    ids: list[int] = []
    for name in ("generation_config.json", "config.json"):
        value = _read_config(folder / name).get("eos_token_id")
        ids += [v for v in (value if isinstance(value, list) else [value]) if isinstance(v, int)]
    if special.get("eos_token"):
        eos = tokenizer.token_to_id(special["eos_token"])
        ids += [eos] if eos is not None else []
    return tuple(i for i in dict.fromkeys(ids) if tokenizer.id_to_token(i) is not None)


def _find_end_of_turn(template: str, special: Mapping[str, str], tokenizer: Tokenizer) -> str:
    """The first special token the template writes after an assistant turn, else the end-of-sequence token."""
    probe = "zebra-probe"
    conversation = [{"role": "user", "content": "a"}, {"role": "assistant", "content": probe}]
    try:
        text = _compile(template).render(
            messages=conversation, tools=None, documents=None, add_generation_prompt=False, **special
        )
    except (jinja2.TemplateError, TypeError):
        return special.get("eos_token", "")
    tail = text.rpartition(probe)[2]
    known = {t.content for t in tokenizer.get_added_tokens_decoder().values()}
    found = [(tail.find(token), -len(token), token) for token in known if token and token in tail]
    return min(found)[2] if found else special.get("eos_token", "")
