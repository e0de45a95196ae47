"""The outside judge: held-out rows through plain transformers, in fp32, with what a contender saved.

    python evaluate.py --workload DIR --trained DIR [--exact]

Prints the mean loss of the learned tokens in nats, and with --exact the share of rows whose learned tokens are all top
guesses (which is greedy decoding's accuracy).
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM
from transformers.utils import logging


@torch.no_grad()
def main() -> None:
    """Load, score, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workload", type=Path, required=True)
    parser.add_argument("--trained", type=Path, required=True)
    parser.add_argument("--exact", action="store_true")
    args = parser.parse_args()
    logging.disable_progress_bar()
    adapter = (args.trained / "adapter_config.json").is_file()
    if not adapter and not (args.trained / "config.json").is_file():
        (args.trained / "config.json").write_bytes((args.workload / "base" / "config.json").read_bytes())
    model = AutoModelForCausalLM.from_pretrained(
        args.workload / "base" if adapter else args.trained, dtype=torch.float32
    )
    if adapter:
        model = PeftModel.from_pretrained(model, args.trained)
    model.eval()
    loss, learned, exact, rows = 0.0, 0, 0, 0
    for line in (args.workload / "held_out.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        ids = torch.tensor([row["ids"]])
        at = torch.tensor(row["weights"][1:]) > 0
        logits = model(input_ids=ids[:, :-1], use_cache=False).logits[0][at]
        targets = ids[0, 1:][at]
        loss += float(torch.nn.functional.cross_entropy(logits, targets, reduction="sum"))
        learned += len(targets)
        exact += bool((logits.argmax(-1) == targets).all())
        rows += 1
    result = {"held_out_loss": loss / learned}
    print(json.dumps({**result, "held_out_exact": exact / rows} if args.exact else result))


if __name__ == "__main__":
    main()
