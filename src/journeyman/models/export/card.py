"""The model card of an export: what it is, what it was made of, how to load it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from journeyman.models.registry import Version

BASE_CARD = "BASE.md"
"""The base's own card, kept beside the fine-tune's: it names the licence."""

_LOAD: Mapping[str, str] = {
    "adapter": """\
transformers with PEFT:

```python
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

base = AutoModelForCausalLM.from_pretrained("PATH_OR_ID_OF_THE_BASE")  # {base}
model = PeftModel.from_pretrained(base, "THIS_FOLDER")
tokenizer = AutoTokenizer.from_pretrained("THIS_FOLDER")
```

vLLM:

    vllm serve PATH_OR_ID_OF_THE_BASE --enable-lora --max-lora-rank {rank} --lora-modules mine=THIS_FOLDER
""",
    "merged": """\
transformers:

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("THIS_FOLDER")
tokenizer = AutoTokenizer.from_pretrained("THIS_FOLDER")
```

vLLM:

    vllm serve THIS_FOLDER
""",
    "gguf": """\
llama.cpp (the chat template is in the file; `--jinja` makes it used as it is):

    llama-server -m {file} --jinja
    llama-cli -m {file} --jinja

LM Studio and Ollama load the file too; Ollama knows some chat templates only, and wants others in a Modelfile's TEMPLATE.
Smaller types are made of an f32, f16 or bf16 file with llama.cpp's own `llama-quantize`.
""",
}


def card(version: Version | None, record: Mapping[str, Any]) -> str:
    """The card as Markdown; `record` is what export.json holds."""
    load = _LOAD[record["format"]].format(
        base=record["base"],
        rank=_chosen(version, "rank"),
        file=next((name for name in record["files"] if name.endswith(".gguf")), ""),
    )
    parts = [f"# {record['model']}", _facts(version, record), "## How to load it", load.rstrip()]
    if version is not None:
        parts += ["## How it was trained", _training(version)]
    parts += ["## How the files were checked", _replay(record["replay"])]
    if record["notes"]:
        parts += ["## To know", "\n".join(f"- {note}" for note in record["notes"])]
    licence = "The weights are under the licence of the base they were made of; what they were tuned on may bind them further."
    if BASE_CARD in record["files"]:
        licence += f" The base's own card, with its licence and credits, is [{BASE_CARD}]({BASE_CARD})."
    parts += ["## Licence", licence]
    return "\n\n".join(parts) + "\n"


def _facts(version: Version | None, record: Mapping[str, Any]) -> str:
    facts = [
        ("model", record["model"]),
        ("base", record["base"]),
        ("base's fingerprint", record["base_fingerprint"]),
        ("format", f"{record['format']}, {record['type']}"),
    ]
    if version is not None:
        facts += [
            ("job", version.job),
            ("dataset (SHA-256)", version.dataset_hash),
            ("method", version.method),
        ]
    return _table(("", ""), facts)


def _training(version: Version) -> str:
    choices = version.plan.get("choices", {})
    rows = [(name, f"{choice['value']}", choice["reason"]) for name, choice in choices.items()]
    metrics = [
        (name, f"{value}") for name, value in version.metrics.items() if not isinstance(value, Mapping)
    ]
    return "\n\n".join([_table(("value", "chosen", "why"), rows), _table(("metric", "value"), metrics)])


def _replay(replay: Mapping[str, Any]) -> str:
    text = (
        f"Read back from these files, {replay['rows']} rows ({replay['tokens']} tokens) have the expected log-probabilities "
        f"to within {replay['largest_difference']:.2g} (limit {replay['limit']:.2g}, fp32), and {replay['texts']} texts "
        "have the same tokens."
    )
    if cost := replay.get("rounding"):
        text += (
            f" Rounding the weights to this type moved log-probabilities by {cost['mean']:.2g} on average and "
            f"{cost['largest']:.2g} at most, and kept the likeliest token at {100 * cost['same_likeliest']:.1f}% of places."
        )
    return text


def _chosen(version: Version | None, name: str) -> str:
    choice = (version.plan.get("choices", {}) if version else {}).get(name, {})
    return str(choice.get("value", "RANK"))


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in row) + " |" for row in lines
    )
