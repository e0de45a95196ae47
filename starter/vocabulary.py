"""The special tokens and the chat format, in one place.

A conversation is `<|bos|>`, then for every message its role's token, its content and `<|end|>`. No newline is
part of the format. A plain document is `<|bos|>` text `<|end|>`. Tools that are offered stand in a system turn of
their own before the conversation; the starter has seen none, so they are a form for fine-tunes to learn.
"""

from __future__ import annotations

PAD, BOS, END = "<|pad|>", "<|bos|>", "<|end|>"
SYSTEM, USER, ASSISTANT, TOOL = "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>"
RESERVED = tuple(f"<|reserved_{number}|>" for number in range(9))

SPECIAL_TOKENS = (PAD, BOS, END, SYSTEM, USER, ASSISTANT, TOOL, *RESERVED)
"""In the order of their ids: `<|pad|>` is 0."""

PAD_ID, BOS_ID, END_ID = 0, 1, 2
ROLE_IDS = {"system": 3, "developer": 3, "user": 4, "assistant": 5, "tool": 6}

VOCABULARY_SIZE = 8192

CHAT_TEMPLATE = """\
{{- bos_token -}}
{%- if tools -%}
  {{- '<|system|>Tools: ' -}}{{- tools | map(attribute='function') | list | tojson -}}{{- '<|end|>' -}}
{%- endif -%}
{%- for message in messages -%}
  {%- set role = 'system' if message['role'] == 'developer' else message['role'] -%}
  {%- if role not in ['system', 'user', 'assistant', 'tool'] -%}
    {{- raise_exception('The role of message ' ~ loop.index ~ ' is ' ~ role ~ '; use system, developer, user, assistant or tool.') -}}
  {%- endif -%}
  {{- '<|' ~ role ~ '|>' -}}
  {%- set content = message['content'] -%}
  {%- if content is string -%}
    {{- content -}}
  {%- elif content -%}
    {%- for part in content if part['type'] == 'text' -%}{{- part['text'] -}}{%- endfor -%}
  {%- endif -%}
  {%- if message['tool_calls'] -%}
    {{- message['tool_calls'] | map(attribute='function') | list | tojson -}}
  {%- endif -%}
  {{- '<|end|>' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}
"""
