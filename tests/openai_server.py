"""A small server of OpenAI's chat completions on localhost, for tests of what asks a model elsewhere."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = Callable[[dict[str, Any]], str | int]
"""A request's body becomes the answer's text, or a status to refuse with."""


@contextmanager
def serving(reply: Reply) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The server's URL, and the bodies of all requests so far (with their `key`)."""
    seen: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            seen.append({**body, "key": self.headers.get("authorization", "").removeprefix("Bearer ")})
            said = reply(body) if self.path == "/v1/chat/completions" else 404
            answer: dict[str, Any] = {"error": {"message": f"refused with {said}"}}
            if isinstance(said, str):
                message = {"role": "assistant", "content": said}
                usage = {"prompt_tokens": 1, "completion_tokens": 1}
                answer = {"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage}
            payload = json.dumps(answer).encode()
            self.send_response(200 if isinstance(said, str) else said)
            self.send_header("content-length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", seen
    finally:
        server.shutdown()
        server.server_close()
