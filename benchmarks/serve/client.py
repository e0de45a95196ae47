"""Clients of an OpenAI-compatible server: each asks, reads the stream to its end, and asks the next."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import httpx


async def run(
    url: str, asks: list[dict[str, Any]], *, clients: int, answer_tokens: int, model_of: Callable[[str | None], str], extra: dict[str, Any]
) -> dict[str, Any]:
    """Seconds to the first token of each request, and tokens written a second by all together."""
    todo, firsts_s, written = iter(asks), [], []

    async def one(client: httpx.AsyncClient) -> None:
        for ask in todo:
            body = {
                "model": model_of(ask["adapter"]),
                "messages": [{"role": "user", "content": ask["text"]}],
                "max_tokens": answer_tokens,
                "temperature": 0,
                "stream": True,
                **extra,
            }
            begun, first, frames, told = time.perf_counter(), None, 0, None
            async with client.stream("POST", f"{url}/v1/chat/completions", json=body) as reply:
                if reply.status_code != 200:
                    raise RuntimeError(f"{reply.status_code}: {(await reply.aread())[:500]!r}")
                async for line in reply.aiter_lines():
                    if not line.startswith("data: {"):
                        continue
                    frame = json.loads(line[6:])
                    if "error" in frame:
                        raise RuntimeError(line[:500])
                    if any(c["delta"].get("content") for c in frame["choices"]):
                        frames += 1
                        first = first or time.perf_counter()
                    if frame.get("usage"):
                        told = frame["usage"]["completion_tokens"]
            firsts_s.append((first or time.perf_counter()) - begun)
            written.append(told or frames)

    limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)
    async with httpx.AsyncClient(timeout=900, limits=limits) as client:
        begun = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for _ in range(clients):
                group.create_task(one(client))
        wall_s = time.perf_counter() - begun
    return result(firsts_s, sum(written), wall_s)


def result(firsts_s: list[float], tokens: int, wall_s: float) -> dict[str, Any]:
    """What a system is measured by."""
    return {
        "requests": len(firsts_s),
        "tokens": tokens,
        "wall_s": wall_s,
        "tokens_per_s": tokens / wall_s,
        "first_p50_s": statistics.median(firsts_s),
        "first_p99_s": sorted(firsts_s)[min(len(firsts_s) - 1, int(len(firsts_s) * 0.99))],
    }
