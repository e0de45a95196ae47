"""llama.cpp itself, as the wheel `xllamacpp` brings it: a server in a process of its own, asked over localhost."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_SERVER = """if True:
    import sys
    import xllamacpp as x
    params = x.CommonParams()
    params.model.path = sys.argv[1]
    params.n_ctx = 512
    params.n_parallel = 1
    params.warmup = False
    params.cpuparams.n_threads = 1
    params.cache_type_k = params.cache_type_v = x.ggml_type.GGML_TYPE_F32
    params.flash_attn_type = x.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    server = x.Server(params)
    print(server.listening_address, flush=True)
    sys.stdin.read()
"""
"""Keys, values and attention in fp32, so that nothing but the file can differ."""


class LlamaCpp:
    """A GGUF file that llama.cpp has loaded."""

    def __init__(self, address: str) -> None:
        self._address = address
        (self._printable,) = self.tokens("a")

    def post(self, route: str, body: Any) -> Any:
        request = urllib.request.Request(
            self._address + route, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as reply:
            return json.load(reply)

    def tokens(self, text: str) -> list[int]:
        """The text as tokens, special ones recognized and none added."""
        return self.post("/tokenize", {"content": text, "add_special": False, "parse_special": True})[
            "tokens"
        ]

    def log_probs(self, ids: Sequence[int], vocab: int) -> dict[int, float]:
        """Of every next token. A letter is then chosen whatever they say: the server shows nothing of half a character."""
        reply = self.post(
            "/completion",
            {
                "prompt": list(ids),
                "n_predict": 1,
                "n_probs": vocab,
                "logit_bias": [[self._printable, 1000.0]],
                "cache_prompt": False,
            },
        )
        (place,) = reply["completion_probabilities"]
        return {entry["id"]: entry["logprob"] for entry in place["top_logprobs"]}

    def greedy(self, ids: Sequence[int], max_tokens: int) -> list[int]:
        """The likeliest answer, token by token."""
        body = {"prompt": list(ids), "n_predict": max_tokens, "temperature": 0.0, "return_tokens": True}
        return self.post("/completion", body)["tokens"]


@contextmanager
def serving(file: Path) -> Iterator[LlamaCpp]:
    """llama.cpp with this file until the block ends."""
    log = file.with_suffix(".log")
    with (
        log.open("w") as stderr,
        subprocess.Popen(
            [sys.executable, "-c", _SERVER, str(file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        ) as process,
    ):
        assert process.stdout is not None
        try:
            address = process.stdout.readline().strip()
            assert address.startswith("http://127.0.0.1:"), log.read_text()[-3000:]
            yield LlamaCpp(address)
        finally:
            process.kill()
