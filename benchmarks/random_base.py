"""A base of the starter's shape that has read nothing: what a training reaches without pretraining.

    python benchmarks/random_base.py --out DIR
    python benchmarks/results.py --base DIR --full --repetition-penalty 1.2 --tasks support --seeds 0 1 2 --out benchmarks/results/random.jsonl
    python benchmarks/results.py --base DIR --full --seeds 0 1 2 --out benchmarks/results/random.jsonl --bench BENCH

The weights are those that transformers draws for a new model of this configuration.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM

from journeyman.models import bases


def write(folder: Path, seed: int) -> None:
    """The starter's folder with random weights in place of its own."""
    starter = bases.resolve("starter").folder
    shutil.copytree(starter, folder, ignore=shutil.ignore_patterns("*.safetensors", "README.md"))
    torch.manual_seed(seed)
    AutoModelForCausalLM.from_config(
        AutoConfig.from_pretrained(starter), dtype=torch.float32
    ).save_pretrained(folder)


def main() -> None:
    """Parse and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="a folder that does not exist yet")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    write(args.out, args.seed)


if __name__ == "__main__":
    main()
