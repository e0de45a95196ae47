"""Choose, check and tokenise the text of one stage, and write it as shards with a manifest.

    python -m starter.prepare --stage one --corpus DIR --bench DIR --tokenizer RUN/tokenizer --out RUN/stage-one

A document is chosen by a hash of its content and the seed, so the same command chooses the same text. Documents
that share text with a benchmark are refused (see `starter.decontaminate`).
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.progress import track

from starter import corpus as corpora
from starter.corpus import Row
from starter.decontaminate import BenchText
from starter.mix import ANSWERS_ONLY, LEFT_OUT, STAGE_ONE, STAGE_TWO, group_of
from starter.practice import practice
from starter.render import Marked, load_tokenizer, render

TOKENS_PER_WORD = 1.35
PRACTICE_TOKENS_PER_WORD = 2.2
"""Measured; codes and invented names take many tokens."""
SHARD_TOKENS = 6_000_000
"""12 MB a shard."""


def fractions(manifest: dict[str, Any], shares: dict[str, float], tokens: float) -> dict[str, float]:
    """How many times each group's documents must be read to supply its share of `tokens`."""
    words: Counter[str] = Counter()
    for source in manifest["sources"]:
        for is_chat, count in ((False, "text_words"), (True, "chat_words")):
            group = group_of(source["source"], is_chat)
            if group is not None:
                words[group] += source["counts"].get(count, 0)
    return {g: share * tokens / (words[g] * TOKENS_PER_WORD) for g, share in shares.items() if g in words}


def chosen(rows: Iterable[Row], times: dict[str, float], seed: int, bench: BenchText) -> Iterator[Row]:
    """The rows of the mix; a group that must be read 2.3 times gives every row twice and three in ten once more."""
    for row in rows:
        copies = int(times[row.group] + row.draw(seed))
        if copies and not bench.shares_text_with(row):
            yield from [row] * copies


def fill_rows(documents: Sequence[Marked], length: int) -> list[Marked]:
    """Documents packed whole into rows of `length`, none cut unless it is longer than a row; the rest is padding.

    A document goes to the first of a few open rows that has room, as in best-fit packing but with bounded memory.
    """
    open_rows: list[list[Marked]] = []
    full: list[Marked] = []

    def close(row: list[Marked]) -> None:
        joined = np.concatenate(row)
        full.append(np.pad(joined, (0, length - len(joined))))

    for document in documents:
        document = document[:length]
        for row in open_rows:
            if sum(map(len, row)) + len(document) <= length:
                row.append(document)
                break
        else:
            open_rows.append([document])
        if len(open_rows) > 16:
            close(open_rows.pop(max(range(17), key=lambda n: sum(map(len, open_rows[n])))))
    for row in open_rows:
        close(row)
    return full


def write_shards(stream: Marked, out: Path) -> list[dict[str, Any]]:
    """The stream in files small enough to move; says each file's tokens and hash."""
    written = []
    for number, start in enumerate(range(0, len(stream), SHARD_TOKENS)):
        part = stream[start : start + SHARD_TOKENS]
        path = out / f"part-{number:03}.npy"
        np.save(path, part)
        written.append({"file": path.name, "tokens": len(part), "sha256": hashlib.sha256(path.read_bytes()).hexdigest()})
    return written


def main(
    corpus: Annotated[Path, typer.Option(help="Folder with the corpus and its MANIFEST.json.")],
    bench: Annotated[Path, typer.Option(help="Folder of benchmarks whose text must not be trained on.")],
    tokenizer: Annotated[Path, typer.Option(help="Folder written by starter.tokenizer.")],
    out: Annotated[Path, typer.Option(help="Folder for the shards.")],
    stage: Annotated[str, typer.Option(help="one: text and conversations. two: more conversations, and practice.")] = "one",
    tokens: Annotated[float, typer.Option(help="About how many tokens to prepare.")] = 12e6,
    row_length: Annotated[int, typer.Option(help="Stage two: documents are packed whole into rows this long.")] = 1024,
    seed: Annotated[int, typer.Option(help="Decides which documents are chosen and their order.")] = 1,
) -> None:
    """Prepare one stage's training tokens."""
    shares = {"one": STAGE_ONE, "two": STAGE_TWO}[stage]
    manifest = json.loads((corpus / "MANIFEST.json").read_text())
    times = fractions(manifest, shares, tokens)
    bench_text = BenchText.read(bench)
    rows: list[Row] = []
    for shard in track(corpora.shards(corpus), description="Choosing documents"):
        rows += chosen(corpora.rows(shard), times, seed + (stage == "two"), bench_text)
    if "practice" in shares:
        plain = [row for row in rows if row.group in ("encyclopedia", "stories")]
        rows += practice(shares["practice"] * tokens / PRACTICE_TOKENS_PER_WORD, seed, plain)

    reader = load_tokenizer(tokenizer)
    answers_only = ANSWERS_ONLY if stage == "two" else ()
    documents: list[Marked] = []
    counted: dict[str, Counter[str]] = defaultdict(Counter)
    for start in track(range(0, len(rows), 512), description="Tokenising"):
        batch = rows[start : start + 512]
        for row, document in zip(batch, render(batch, reader, answers_only), strict=True):
            documents.append(document)
            kind = "text" if row.text else "chat"
            counted[f"{row.source} ({kind})"].update(rows=1, tokens=len(document))
    order = np.random.default_rng(seed).permutation(len(documents))
    ordered = [documents[i] for i in order]
    stream = np.concatenate(ordered if stage == "one" else fill_rows(ordered, row_length))

    out.mkdir(parents=True, exist_ok=True)
    total = sum(c["tokens"] for c in counted.values())
    sources = {s["source"]: s for s in manifest["sources"]}
    record = {
        "stage": stage,
        "seed": seed,
        "tokens": total,
        "row_length": None if stage == "one" else row_length,
        "shares_asked": shares,
        "left_out": LEFT_OUT,
        "refused_for_benchmark_text": bench_text.refused,
        "corpus": {s["file"]: hashlib.sha256((corpus / s["file"]).read_bytes()).hexdigest() for s in manifest["shards"]},
        "tokenizer_sha256": hashlib.sha256((tokenizer / "tokenizer.json").read_bytes()).hexdigest(),
        "sources": [
            {
                "source": name,
                "rows": c["rows"],
                "tokens": c["tokens"],
                "share": round(c["tokens"] / total, 5),
                **{key: sources.get(name.split(" (")[0], {}).get(key, "generated by this recipe, Apache-2.0")
                   for key in ("repo", "commit", "licence")},
            }
            for name, c in sorted(counted.items(), key=lambda item: -item[1]["tokens"])
        ],
        "parts": write_shards(stream, out),
    }
    (out / "manifest.json").write_text(json.dumps(record, indent=1) + "\n")
    typer.echo(f"{total:,} tokens of {len(rows):,} documents in {out}")


if __name__ == "__main__":
    typer.run(main)
