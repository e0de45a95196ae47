"""Ask a server without pause, and see whether its memory grows.

    python benchmarks/soak.py --minutes 40 --models 100 --out benchmarks/results/soak.jsonl

Clients chat (plain, streaming, with a JSON schema, with answers of every length) with the starter and with fine-tuned
models of it, of which there are more than are kept in memory; they go on with a stored response, upload, download and delete
files, list, ask for what is not there, and go away in the middle of a stream. Every second the resident memory of the server and its processes is read. The first third warms
up (the model is loaded, caches fill); over the rest a line is fitted by least squares. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import torch

from journeyman.models.bases import resolve
from journeyman.models.registry import Version
from journeyman.train import lora
from journeyman.train.load import load_base
from journeyman.workspace import Workspace

WARM_SHARE = 1 / 3
LAST_SHARE = 1 / 4
RANK = 8
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 12}, "count": {"type": "integer"}, "kind": {"enum": ["tea", "cup"]}},
    "required": ["name", "count", "kind"],
    "additionalProperties": False,
}


class Clients:
    """Threads that ask until they are told to end, and what they were answered."""

    def __init__(self, count: int, url: str, prompts: int, models: list[str]) -> None:
        self._prompts = prompts
        self._models = models
        self.statuses: Counter[str] = Counter()
        self._url = url
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._go_on, args=(i,)) for i in range(count)]

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _go_on(self, number: int) -> None:
        random_ = random.Random(number)
        acts = [self._chat, self._stream, self._fill, self._respond, self._leave, self._file, self._look, self._miss]
        with httpx.Client(base_url=self._url, timeout=120) as client:
            while not self._ended.is_set():
                try:
                    status = str(random_.choice(acts)(client, random_))
                except httpx.HTTPError as error:
                    status = type(error).__name__
                with self._lock:
                    self.statuses[status] += 1

    def _body(self, random_: random.Random, **more: Any) -> dict[str, Any]:
        asked = f"Tell me of {random_.randrange(self._prompts)} things."
        messages = [{"role": "user", "content": asked}]
        most = random_.randint(1, 24)
        return {"model": random_.choice(self._models), "messages": messages, "max_tokens": most, "temperature": 0, **more}

    def _chat(self, client: httpx.Client, random_: random.Random) -> int:
        return client.post("/chat/completions", json=self._body(random_)).status_code

    def _stream(self, client: httpx.Client, random_: random.Random) -> int:
        with client.stream("POST", "/chat/completions", json=self._body(random_, stream=True)) as reply:
            for _ in reply.iter_lines():
                pass
        return reply.status_code

    def _fill(self, client: httpx.Client, random_: random.Random) -> int:
        shape = {"type": "json_schema", "json_schema": {"name": "order", "strict": True, "schema": SCHEMA}}
        return client.post("/chat/completions", json=self._body(random_, response_format=shape)).status_code

    def _respond(self, client: httpx.Client, random_: random.Random) -> int:
        body = {"model": random_.choice(self._models), "input": "Tell me of one thing.", "max_output_tokens": 16, "temperature": 0}
        first = client.post("/responses", json=body).raise_for_status().json()
        then = client.post("/responses", json={**body, "previous_response_id": first["id"]}).raise_for_status().json()
        for made in (then, first):
            status = client.delete(f"/responses/{made['id']}").status_code
        return status

    def _leave(self, client: httpx.Client, random_: random.Random) -> str:
        with client.stream("POST", "/chat/completions", json=self._body(random_, stream=True)) as reply:
            next(reply.iter_lines())
        return "left in the middle"

    def _file(self, client: httpx.Client, random_: random.Random) -> int:
        content = random_.randbytes(random_.randrange(1, 300_000))
        made = client.post("/files", data={"purpose": "user_data"}, files={"file": ("x.bin", content)}).raise_for_status().json()
        same = client.get(f"/files/{made['id']}/content").content == content
        assert same, f"{made['id']} came back with other bytes"
        return client.delete(f"/files/{made['id']}").status_code

    def _look(self, client: httpx.Client, random_: random.Random) -> int:
        return client.get(random_.choice(["/models", "/files", "/fine_tuning/jobs"])).status_code

    def _miss(self, client: httpx.Client, random_: random.Random) -> int:
        return client.get(f"/files/file-{random_.randrange(10**9)}").status_code


def measured(process: psutil.Process, seconds: float) -> list[tuple[float, int, int]]:
    """Seconds since the start, and the resident bytes of the server and of the processes that answer for it then."""
    began_s, found = time.monotonic(), []
    while (at_s := time.monotonic() - began_s) < seconds:
        others = 0
        for child in process.children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                others += child.memory_info().rss
        found.append((at_s, process.memory_info().rss, others))
        time.sleep(1)
    return found


def heap_mib(process: psutil.Process) -> list[float]:
    """What malloc holds, of the server and then of each process that answers for it; the pool of keys and values is not in it."""
    found = []
    for one in (process, *process.children(recursive=True)):
        with suppress(psutil.Error):
            held = [region.rss for region in one.memory_maps(grouped=False) if region.path == "[heap]"]
            found.append(round(sum(held) / 2**20, 1))
    return found


def register(home: Path, count: int) -> list[str]:
    """That many fine-tuned models of the starter, with random adapters; their ids."""
    starter = resolve("starter")
    model, workspace = load_base(starter.folder), Workspace(home)
    lora.add_adapter(model, "x", rank=RANK, alpha=2 * RANK, seed=0)
    ids = []
    for number in range(count):
        generator = torch.Generator().manual_seed(number)
        for _, layer in lora.lora_layers(model):
            layer.lora_B["x"].data.normal_(0, 0.02, generator=generator)
        folder = home / "adapters" / str(number)
        lora.save_adapter(model, "x", folder, base="starter")
        ids.append(f"ft:{starter.name}:local:soak:{number:08d}")
        workspace.registry.add(
            Version(
                id=ids[-1], job=f"ftjob-{number}", base=starter.name, base_source=starter.source,
                base_fingerprint=starter.fingerprint, dataset_hash="0" * 64, method="lora", plan={}, metrics={}, files={},
                folder=folder, created_at=time.time(),
            )
        )  # fmt: skip
    return ids


def run(asked: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The whole measurement."""
    models = ["starter", *register(folder, asked.models)]
    environment = {**os.environ, "JOURNEYMAN_HOME": str(folder)}
    command = [sys.executable, "-m", "journeyman", "serve", "--port", "0", "--workers", "0"]
    server = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert server.stdout is not None
        url = server.stdout.readline().split()[2]
        process = psutil.Process(server.pid)
        with Clients(asked.clients, url, asked.prompts, models) as clients:
            found = measured(process, asked.minutes * 60 * (1 - LAST_SHARE))
            heaps = [heap_mib(process)]
            found += [(at_s + asked.minutes * 60 * (1 - LAST_SHARE), *rest) for at_s, *rest in measured(process, asked.minutes * 60 * LAST_SHARE)]
            heaps.append(heap_mib(process))
        threads, files = process.num_threads(), process.num_fds()
    finally:
        server.terminate()
        server.wait()
    warm = [(at_s, own + others) for at_s, own, others in found if at_s >= asked.minutes * 60 * WARM_SHARE]
    at_S, rss_S = np.array(warm, np.float64).T
    last_S = rss_S[at_S >= asked.minutes * 60 * (1 - LAST_SHARE)]
    some = found[:: max(1, len(found) // 60)]
    slope, _ = np.polyfit(at_S, rss_S, 1)
    requests = sum(clients.statuses.values())
    return {
        "minutes": asked.minutes,
        "clients": asked.clients,
        "prompts": asked.prompts,
        "models": asked.models,
        "requests": requests,
        "answers": dict(sorted(clients.statuses.items())),
        "rss_mib_warm": round(rss_S[0] / 2**20, 1),
        "rss_mib_end": round(rss_S[-1] / 2**20, 1),
        "rss_mib_most": round(max(own + others for _, own, others in found) / 2**20, 1),
        "grown_mib_last_quarter": round((last_S[-1] - last_S[0]) / 2**20, 1),
        "slope_kib_s": round(slope / 2**10, 2),
        "slope_bytes_per_request": round(slope * asked.minutes * 60 / requests, 1),
        "threads_end": threads,
        "files_end": files,
        "heaps_mib_last_quarter": heaps,
        "server_mib": [round(own / 2**20, 1) for _, own, _ in some],
        "answering_mib": [round(others / 2**20, 1) for _, _, others in some],
    }


def main() -> None:
    """Parse, run, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=4.0)
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--prompts", type=int, default=20, help="different ones; each new one fills the cache of the engine further")
    parser.add_argument("--models", type=int, default=0, help="fine-tuned models that are asked beside the starter")
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="journeyman-soak-") as folder:
        result = run(asked, Path(folder))
    with asked.out.open("a", encoding="utf-8") as file:
        file.write(json.dumps(result) + "\n")
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
