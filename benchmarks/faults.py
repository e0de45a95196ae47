"""Kill -9 at random moments while jobs run and clients ask, and count what is lost.

    python benchmarks/faults.py --out benchmarks/results/faults.jsonl
    python benchmarks/faults.py --out benchmarks/results/faults.jsonl --database postgresql://postgres@127.0.0.1/faults

Two servers, each with a worker, and a third worker share one home, one queue and one database. Again and again a server, a worker, both, a
job's process, or everything is killed, and a dead server is begun again, while 16 clients upload, list, download and chat.
Every job is to end once, with the bytes of an undisturbed run; every answer that came whole is to be right; no request is
to hang. Base and rows are tiny and made here, so that processes are killed at work and not while they load.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from journeyman.jobs.events import read_events
from journeyman.models import bases
from journeyman.plan.plan import Wishes
from journeyman.request import TrainRequest
from journeyman.train.lora import ADAPTER_FILE
from journeyman.workspace import Workspace

WISHES = Wishes(epochs=12, batch_size=4, rank=4, seed=3, learning_rate=1e-3)
LEASE_S = "5"
KINDS = {"server": 4, "worker": 4, "both": 4, "job": 7, "all": 1}
"""What is killed, and how often of twenty times: `both` is a server and a worker at once, `all` every process there is.
`job` is the process that trains; a worker's death leaves it alive."""

HANGS_S = 120.0
"""A request that neither answered nor broke off after this long hangs: killed servers close their connections at once."""


def write_base(folder: Path) -> None:
    """The starter's tokenizer and template on two thin layers of random weights."""
    starter = bases.resolve("starter").folder
    shutil.copytree(starter, folder, ignore=shutil.ignore_patterns("*.safetensors", "README.md"))
    config = AutoConfig.from_pretrained(starter)
    config.hidden_size, config.intermediate_size, config.num_hidden_layers = 64, 96, 2
    config.num_attention_heads, config.num_key_value_heads, config.head_dim = 4, 2, 16
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)


def write_rows(path: Path, count: int) -> None:
    words = "oak elm ash fir yew box may bay fig nut".split()
    with path.open("w", encoding="utf-8") as file:
        for i in range(count):
            asked = f"Which tree is number {i}?"
            messages = [{"role": "user", "content": asked}, {"role": "assistant", "content": words[i % 10] * 2 + f" {i}"}]
            file.write(json.dumps({"messages": messages}) + "\n")


def begin(number: int, base: Path, log: Path, ports: Sequence[int]) -> subprocess.Popen[bytes]:
    """The server of that number with its worker, or, beyond the ports, a worker alone."""
    words = ["serve", "--port", str(ports[number]), "--workers", "1", "--base", str(base)] if number < len(ports) else ["worker"]
    command = [sys.executable, "-m", "journeyman", *words]
    with log.open("ab") as output:
        return subprocess.Popen(
            command, stdout=output, stderr=output, start_new_session=True, preexec_fn=lambda: keep_to_a_core(number)
        )


def keep_to_a_core(number: int) -> None:
    """A plan takes every core this process may use; on a tiny model, threads only wait for each other."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[number % len(cores)]})


def ours(home: Path) -> dict[str, list[psutil.Process]]:
    """The processes that work in this home, by kind."""
    found: dict[str, list[psutil.Process]] = {"server": [], "worker": [], "job": []}
    for process in psutil.process_iter():
        try:
            line, at = process.cmdline(), process.environ().get("JOURNEYMAN_HOME")
        except psutil.Error:
            continue
        if at == str(home) and "journeyman" in line:
            kind = "server" if "serve" in line else "job" if "--job" in line else "worker"
            found[kind].append(process)
    return found


def kill(home: Path, kind: str, random_: random.Random) -> bool:
    there = ours(home)
    if kind == "all":
        chosen = [process for processes in there.values() for process in processes]
    else:
        kinds = ("server", "worker") if kind == "both" else (kind,)
        chosen = [random_.choice(there[k]) for k in kinds if there[k]]
    for process in chosen:
        try:
            process.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            return False
    return bool(chosen)


class Clients:
    """Clients that ask without pause, and what became of each request."""

    def __init__(self, count: int, base: str, ports: Sequence[int]) -> None:
        self._ports = ports
        self.outcomes: Counter[str] = Counter()
        self.longest_s = 0.0
        self.wrong: list[str] = []
        self._base = base
        self._answer: str | None = None
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
        clients = [
            openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="any", max_retries=0, timeout=HANGS_S)
            for port in self._ports
        ]
        acts = [self._chat, self._stream, self._file, self._list]
        while not self._ended.wait(random_.uniform(1, 3)):
            self._once(random_.choice(acts), random_.choice(clients))

    def _once(self, act: Callable[[openai.OpenAI], str], client: openai.OpenAI) -> None:
        began_s = time.monotonic()
        try:
            outcome = act(client)
        except openai.APITimeoutError:
            outcome = "hung"
        except openai.APIConnectionError:
            outcome = "no server, or killed while it answered"
        except (httpx.TransportError, openai.APIError) as error:
            status = getattr(error, "status_code", None)
            outcome = "killed while it streamed" if status is None else f"status {status}"
            if status is not None and status != 429:
                self.wrong.append(str(error)[:300])
        seconds = time.monotonic() - began_s
        with self._lock:
            self.outcomes[outcome] += 1
            self.longest_s = max(self.longest_s, seconds)

    def _chat(self, client: openai.OpenAI) -> str:
        reply = client.chat.completions.create(**self._asked())
        return self._judged(reply.choices[0].message.content or "")

    def _stream(self, client: openai.OpenAI) -> str:
        text, ended = "", False
        for chunk in client.chat.completions.create(**self._asked(), stream=True):
            text += chunk.choices[0].delta.content or ""
            ended = ended or chunk.choices[0].finish_reason is not None
        return self._judged(text) if ended else "killed while it streamed"

    def _asked(self) -> dict[str, Any]:
        messages = [{"role": "user", "content": "Which tree is number 3?"}]
        return {"model": self._base, "messages": messages, "temperature": 0, "max_tokens": 12}

    def _judged(self, text: str) -> str:
        with self._lock:
            self._answer = self._answer or text
            if text == self._answer:
                return "right"
            self.wrong.append(f"{text!r} is not {self._answer!r}")
            return "wrong"

    def _file(self, client: openai.OpenAI) -> str:
        content = os.urandom(200_000).hex().encode()
        file = client.files.create(file=("x.txt", content), purpose="user_data")
        same = client.files.content(file.id).read() == content
        client.files.delete(file.id)
        if not same:
            self.wrong.append(f"the file {file.id} came back with other bytes")
        return "right" if same else "wrong"

    def _list(self, client: openai.OpenAI) -> str:
        ids = [job.id for job in client.fine_tuning.jobs.list(limit=100)]
        if len(ids) != len(set(ids)):
            self.wrong.append("a job is listed twice")
            return "wrong"
        return "right"


def run(asked: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The whole measurement; its result as one row."""
    base, rows, home = folder / "tiny", folder / "rows.jsonl", folder / "home"
    write_base(base)
    write_rows(rows, asked.rows)
    request = TrainRequest(str(rows), str(base), WISHES)
    all_cores = os.sched_getaffinity(0)
    keep_to_a_core(0)
    _, whole = Workspace(folder / "whole").train(request)
    os.sched_setaffinity(0, all_cores)
    assert whole is not None
    os.environ |= {"JOURNEYMAN_HOME": str(home), "JOURNEYMAN_LEASE_S": LEASE_S}
    if asked.database:
        os.environ["JOURNEYMAN_DATABASE_URL"] = asked.database
    workspace = Workspace()
    random_ = random.Random(asked.seed)
    ports = (asked.port, asked.port + 1)
    jobs: list[str] = []

    def more_jobs() -> None:
        jobs.extend(workspace.submit(request).id for _ in range(asked.jobs))

    more_jobs()
    running = [begin(number, base, folder / "server.log", ports) for number in range(len(ports) + 1)]
    killed = dict.fromkeys(KINDS, 0)
    began_s = time.monotonic()

    def left() -> list[str]:
        return [j for j in jobs if not workspace.job(j).status.terminal]

    with Clients(asked.clients, base.name, ports) as clients:
        while time.monotonic() - began_s < asked.limit:
            if sum(killed.values()) < asked.kills:
                time.sleep(random_.uniform(*asked.between))
                (kind,) = random_.choices([*KINDS], [*KINDS.values()])
                killed[kind] += kill(home, kind, random_)
                if not left():  # more kills are asked for than these jobs had time for
                    more_jobs()
            else:
                time.sleep(1)
            for number, process in enumerate(running):
                if process.poll() is not None:
                    running[number] = begin(number, base, folder / "server.log", ports)
            if not left() and sum(killed.values()) >= asked.kills:
                break
            sys.stderr.write(f"{time.monotonic() - began_s:4.0f} s, {sum(killed.values())} kills, {len(left())}/{len(jobs)} jobs, {dict(clients.outcomes)}\n")
    for process in running:
        process.terminate()
    for process in running:
        process.wait()
    versions = [v for v in workspace.registry.list() if v.job in jobs]
    histories = [read_events(workspace.job(j).folder) for j in jobs]
    return {
        "database": "postgresql" if asked.database else "sqlite",
        "kills": sum(killed.values()),
        "killed": killed,
        "workers": len(running),
        "clients": asked.clients,
        "jobs": len(jobs),
        "statuses": Counter(str(workspace.job(j).status) for j in jobs),
        "models": len(versions),
        "same_bytes": sum(v.files[ADAPTER_FILE] == whole.files[ADAPTER_FILE] for v in versions),
        "resumes": sum(e["type"] == "resumed" for events in histories for e in events),
        "registered_twice": sum(sum(e["type"] == "registered" for e in events) > 1 for events in histories),
        "errors": [e for j in jobs if (e := workspace.job(j).error)],
        "requests": clients.outcomes,
        "longest_request_s": round(clients.longest_s, 1),
        "wrong": clients.wrong[:10],
        "seconds": round(time.monotonic() - began_s),
    }


def main() -> None:
    """Parse, run, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--jobs", type=int, default=5)
    parser.add_argument("--rows", type=int, default=900, help="of a job: the more, the longer it trains, and is killed at it")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--database")
    parser.add_argument("--port", type=int, default=18431, help="the first of two")
    parser.add_argument("--between", type=float, nargs=2, default=(6.0, 20.0), help="seconds between kills")
    parser.add_argument("--limit", type=float, default=3600.0, help="seconds after which it gives up")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="journeyman-faults-") as folder:
        result = run(asked, Path(folder))
    with asked.out.open("a", encoding="utf-8") as file:
        file.write(json.dumps(result) + "\n")
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
