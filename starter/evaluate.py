"""Measure a packaged starter: held-out bits per byte, minimal pairs, small question sets, samples.

    python -m starter.evaluate --model src/journeyman/starter/starter-1 --bench DIR --out starter/results

Everything is greedy or seeded, so the numbers repeat. `--only` runs a part.
"""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.progress import track
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from starter.corpus import Message
from starter.heldout import Logits, bits_per_byte, heldout_rows, log_probabilities
from starter.render import load_tokenizer
from starter.vocabulary import BOS_ID

QUESTIONS = Path(__file__).parent / "questions"

PROMPTS: tuple[list[Message], ...] = (
    [{"role": "user", "content": "Hello! How are you today?"}],
    [{"role": "user", "content": "What is a lighthouse?"}],
    [{"role": "user", "content": "Tell me a short story about a dog."}],
    [{"role": "system", "content": "You are Iris, the assistant of a bicycle club. Keep answers short."},
     {"role": "user", "content": "Can I join you on Sunday?"}],
    [{"role": "user", "content": "Write a list of three fruits."}],
)
OPENINGS = ("", "The old house", "In 1987", "She opened the door and", "Water is")


def minimal_pairs(logits: Logits, tokenizer: Tokenizer, bench: Path) -> dict[str, float]:
    """BLiMP: how often the good sentence of a pair is more probable, by field and in all (chance is 0.5)."""
    pairs = [json.loads(line) for line in (bench / "blimp" / "pairs.jsonl").read_text().splitlines()]
    sentences = [[BOS_ID, *tokenizer.encode(pair[side]).ids] for pair in pairs for side in ("good", "bad")]
    scores = [sum(s) for s in log_probabilities(logits, sentences)]
    right: dict[str, list[bool]] = defaultdict(list)
    for number, pair in enumerate(pairs):
        for key in (pair["field"], "all"):
            right[key].append(scores[2 * number] > scores[2 * number + 1])
    return {key: round(sum(r) / len(r), 4) for key, r in sorted(right.items())}


def judge(name: str, question: dict[str, Any], reply: str) -> dict[str, bool]:
    """What is true of a reply; each becomes a rate over the set."""
    said = reply.strip()
    if name == "passages":
        return {"answer in reply": any(a.lower() in said.lower() for a in question["accept"]) and len(said) <= 200}
    if name == "labels":
        return {"right label": said.rstrip(".").lower() == question["answer"].lower(),
                "some label": said.rstrip(".").lower() in [label.lower() for label in question["labels"]]}
    if name == "copying":
        return {"in reply": question["answer"] in said, "nothing else": said == question["answer"]}
    try:
        value = json.loads(said)
    except ValueError:
        value = None
    wanted = question["answer"]
    keys_right = isinstance(value, dict) and list(value) == list(wanted)
    return {
        "valid": value is not None,
        "right keys": keys_right,
        "all values right": keys_right and all(str(value[k]).lower() == str(x).lower() for k, x in wanted.items()),
    }


def answer(model: PreTrainedModel, tokenizer: Any, conversations: list[Any], **how: Any) -> list[str]:
    """Replies to conversations, in batches, until `<|end|>`."""
    replies = []
    for start in track(range(0, len(conversations), 25), description="Answering"):
        inputs = tokenizer.apply_chat_template(
            conversations[start : start + 25], add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
        )
        with torch.no_grad():
            out = model.generate(**inputs, **how)
        replies += tokenizer.batch_decode(out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return replies


def question_sets(model: PreTrainedModel, tokenizer: Any) -> tuple[dict[str, Any], list[Any]]:
    """Rates on the hand-written sets, greedy, and every reply."""
    rates: dict[str, Any] = {}
    shown = []
    for file in sorted(QUESTIONS.glob("*.jsonl")):
        questions = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        replies = answer(model, tokenizer, [q["messages"] for q in questions], do_sample=False, max_new_tokens=60)
        verdicts = [judge(file.stem, q, reply) for q, reply in zip(questions, replies, strict=True)]
        rates[file.stem] = {key: sum(v[key] for v in verdicts) / len(verdicts) for key in verdicts[0]} | {"questions": len(verdicts)}
        shown += [{"set": file.stem, "asked": q["messages"][-1]["content"], "reply": reply, **v}
                  for q, reply, v in zip(questions, replies, verdicts, strict=True)]
    return rates, shown


def samples(model: PreTrainedModel, tokenizer: Any) -> list[dict[str, str | int]]:
    """Ten samples with seeds 0 to 9: five openings of a document, five conversations."""
    found: list[dict[str, str | int]] = []
    starts: list[str | list[Message]] = [*OPENINGS, *PROMPTS]
    for seed, start in enumerate(starts):
        inputs: dict[str, Any]
        if isinstance(start, str):
            inputs = {"input_ids": torch.tensor([[BOS_ID, *tokenizer(start)["input_ids"]]])}
            inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
            prompt = start
        else:
            inputs = tokenizer.apply_chat_template(start, add_generation_prompt=True, return_tensors="pt", return_dict=True)
            prompt = "\n".join(f"{m['role']}: {m['content']}" for m in start)
        torch.manual_seed(seed)
        with torch.no_grad():
            out = model.generate(**inputs, do_sample=True, temperature=0.7, top_p=0.9, top_k=0, max_new_tokens=80)
        found.append({"seed": seed, "prompt": prompt,
                      "sample": tokenizer.decode(out[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)})
    return found


def main(
    model: Annotated[Path, typer.Option(help="Folder of the package.")],
    bench: Annotated[Path, typer.Option(help="Folder with heldout-ppl and blimp.")],
    out: Annotated[Path, typer.Option(help="Folder for the results.")],
    only: Annotated[list[str] | None, typer.Option(help="heldout, blimp, questions, samples; may be repeated.")] = None,
    threads: Annotated[int, typer.Option(help="Processor threads; 0 leaves the choice to torch.")] = 0,
) -> None:
    """Measure and write one JSON file for each part."""
    if threads:
        torch.set_num_threads(threads)
    loaded = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32).eval()
    chat = AutoTokenizer.from_pretrained(model)
    plain = load_tokenizer(model)

    def logits(ids: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = loaded(ids).logits
        return out

    out.mkdir(parents=True, exist_ok=True)

    def write(name: str, result: Any) -> None:
        (out / f"{name}.json").write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        if name != "replies":
            typer.echo(f"{name}: {json.dumps(result, ensure_ascii=False, indent=1)}")

    parts = only or ["heldout", "blimp", "questions", "samples"]
    if "heldout" in parts:
        rows = heldout_rows(bench / "heldout-ppl")
        write("heldout", bits_per_byte(logits, plain, rows, loaded.config.max_position_embeddings))
    if "blimp" in parts:
        write("blimp", minimal_pairs(logits, plain, bench))
    if "questions" in parts:
        rates, replies = question_sets(loaded, chat)
        write("questions", rates)
        write("replies", replies)
    if "samples" in parts:
        write("samples", samples(loaded, chat))


if __name__ == "__main__":
    typer.run(main)
