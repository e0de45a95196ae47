"""From the best checkpoint to the folder of a model: weights, how to talk to it, and a card."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from journeyman.files import hash_file, read_json, sync_folder, write_json, write_text
from journeyman.models.bases import Base
from journeyman.plan.plan import Plan, explain
from journeyman.text.template import ChatFormat
from journeyman.train.lora import ADAPTER_FILE, CONFIG_FILE

CHAT_FILES = ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja")
"""What a served model needs besides its weights, so that an adapter folder can be loaded by other tools."""


def publish(
    checkpoint: Path, folder: Path, *, base: Base, plan: Plan, metrics: Mapping[str, Any]
) -> dict[str, str]:
    """Copy the checkpoint's weights and the base's chat files into `folder`, whole or not at all.

    Returns each file's SHA-256.
    """
    scratch = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    for name in (ADAPTER_FILE, CONFIG_FILE, "model.safetensors"):
        if (checkpoint / name).is_file():
            shutil.copyfile(checkpoint / name, scratch / name)
    full = plan.method.value == "full"
    for name in (*CHAT_FILES, *(("config.json", "generation_config.json") if full else ())):
        if (base.folder / name).is_file():
            shutil.copyfile(base.folder / name, scratch / name)
    if plan.repetition_penalty.value != 1:
        settings = base.folder / "generation_config.json"
        own = read_json(settings) if settings.is_file() else {}
        write_json(scratch / settings.name, {**own, "repetition_penalty": plan.repetition_penalty.value})
    chat = ChatFormat.open(base.folder)
    if chat.plain:  # the base has no template: other tools must find the one that was trained with
        write_text(scratch / "chat_template.jinja", chat.template)
    write_json(scratch / "journeyman.json", {"base": base.name, "metrics": dict(metrics), "plan": plan.as_dict()})
    write_text(scratch / "README.md", _card(base, plan, metrics))
    shutil.rmtree(folder, ignore_errors=True)
    scratch.rename(folder)
    sync_folder(folder.parent)
    return {f.name: hash_file(f) for f in sorted(folder.iterdir())}


def _card(base: Base, plan: Plan, metrics: Mapping[str, Any]) -> str:
    lines = [
        f"# A fine-tune of {base.name}",
        "",
        f"Method {plan.method.value}, {metrics['steps']} steps over {plan.facts.rows} rows; "
        f"the checkpoint of step {metrics['best_step']} is kept.",
        "",
        "| value | chosen | why |",
        "|---|---|---|",
        *(f"| {name} | {value} | {reason} |" for name, value, reason in explain(plan)),
        "",
        "The adapter is in PEFT's format: `PeftModel.from_pretrained(base, folder)` loads it."
        if plan.method.value == "lora"
        else "The folder is a whole model: `AutoModelForCausalLM.from_pretrained(folder)` loads it.",
        "",
    ]
    return "\n".join(lines)
