"""Kill -9 at random moments while jobs run: every job is to end once, with the bytes of an undisturbed run.

    python benchmarks/faults.py --base FOLDER --rows FILE --kills 50 --jobs 5
    python benchmarks/faults.py --base FOLDER --rows FILE --database postgresql://postgres@localhost/faults

Two servers share one home and one queue, each with a worker. Again and again a server, a worker, a job's process, or all
of them are killed, and a dead server is begun again. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from journeyman.jobs.events import read_events
from journeyman.plan.plan import Wishes
from journeyman.train.lora import ADAPTER_FILE
from journeyman.workspace import TrainRequest, Workspace

WISHES = Wishes(epochs=20, batch_size=4, rank=4, seed=3)
LEASE_S = "5"
KINDS = ("server", "worker", "job", "all")


def serve(port: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "journeyman", "serve", "--port", str(port), "--workers", "1"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)


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
    chosen = [p for ps in there.values() for p in ps] if kind == "all" else there[kind][:]
    if kind != "all" and chosen:
        chosen = [random_.choice(chosen)]
    for process in chosen:
        process.send_signal(signal.SIGKILL)
    return bool(chosen)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", required=True)
    parser.add_argument("--rows", required=True)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--jobs", type=int, default=5)
    parser.add_argument("--database")
    parser.add_argument("--between", type=float, nargs=2, default=(3.0, 12.0), help="seconds between kills")
    parser.add_argument("--limit", type=float, default=3600.0, help="seconds after which it gives up")
    asked = parser.parse_args()
    request = TrainRequest(asked.rows, asked.base, WISHES)
    random_ = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        _, whole = Workspace(Path(folder) / "whole").train(request)
        assert whole is not None
        home = Path(folder) / "home"
        os.environ |= {"JOURNEYMAN_HOME": str(home), "JOURNEYMAN_LEASE_S": LEASE_S}
        if asked.database:
            os.environ["JOURNEYMAN_DATABASE_URL"] = asked.database
        workspace = Workspace()
        jobs = [workspace.submit(request, project=f"p{i % 2}").id for i in range(asked.jobs)]
        servers = {port: serve(port) for port in (18431, 18432)}
        killed = dict.fromkeys(KINDS, 0)
        began_s = time.monotonic()
        while time.monotonic() - began_s < asked.limit:
            if sum(killed.values()) < asked.kills:
                time.sleep(random_.uniform(*asked.between))
                kind = random_.choice(KINDS)
                killed[kind] += kill(home, kind, random_)
            else:
                time.sleep(1)
            for port, server in servers.items():
                if server.poll() is not None:
                    servers[port] = serve(port)
            ended = [workspace.job(j).status.terminal for j in jobs]
            if all(ended) and sum(killed.values()) >= asked.kills:
                break
            if all(ended):  # more kills were asked for than these jobs had time for
                jobs += [workspace.submit(request, project=f"p{i % 2}").id for i in range(asked.jobs)]
        for server in servers.values():
            server.terminate()
        for server in servers.values():
            server.wait()
        versions = [v for v in workspace.registry.list() if v.job in jobs]
        result = {
            "database": asked.database or "sqlite",
            "kills": killed,
            "jobs": len(jobs),
            "statuses": {s: sum(workspace.job(j).status == s for j in jobs) for s in {workspace.job(j).status for j in jobs}},
            "models": len(versions),
            "same_bytes": sum(v.files[ADAPTER_FILE] == whole.files[ADAPTER_FILE] for v in versions),
            "resumes": sum(e["type"] == "resumed" for j in jobs for e in read_events(workspace.job(j).folder)),
            "registered_twice": sum(
                sum(e["type"] == "registered" for e in read_events(workspace.job(j).folder)) > 1 for j in jobs
            ),
            "errors": [str(e) for j in jobs if (e := workspace.job(j).error)],
            "seconds": round(time.monotonic() - began_s),
        }
        sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
