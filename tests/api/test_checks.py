"""The data check of an uploaded file over HTTP: the report of the command, without the server's paths in it."""

from __future__ import annotations

import json

import httpx

from journeyman.request import TrainRequest
from journeyman.workspace import Workspace

from .scripted import serving

LABELS = {"delivery": "Where is my {}?", "return": "I want my money back for the {}", "care": "How do I wash the {}?"}
THINGS = ("mug", "lamp", "chair", "bowl", "teapot", "blanket", "shelf", "knife", "basket", "clock", "rug", "desk")


def lines(*more: tuple[str, str]) -> bytes:
    pairs = [(text.format(thing), label) for thing in THINGS for label, text in LABELS.items()]
    rows = [{"messages": [{"role": "user", "content": a}, {"role": "assistant", "content": b}]} for a, b in [*pairs, *more]]
    return "\n".join(map(json.dumps, rows)).encode()


def uploaded(url: str, content: bytes) -> str:
    reply = httpx.post(f"{url}/v1/files", files={"file": ("rows.jsonl", content)}, data={"purpose": "fine-tune"})
    return str(reply.json()["id"])


def test_an_uploaded_file_is_checked_as_the_command_checks_it(tmp_path):
    workspace = Workspace(tmp_path / "home")
    content = lines(("My key is sk-proj-abcdefghijklmnopqrstuvwxyz0123456789ABCD", "care"), ("Where is my mug?", "return"))
    own = tmp_path / "rows.jsonl"
    own.write_bytes(content)
    expected = workspace.check(TrainRequest(str(own))).as_dict()
    with serving(workspace) as url:
        file_id = uploaded(url, content)
        reply = httpx.post(f"{url}/v1/files/{file_id}/check", timeout=60)
        assert reply.status_code == 200, reply.text
        report = reply.json()
        page = httpx.post(f"{url}/v1/files/{file_id}/check?format=html", timeout=60)
    assert report["verdict"] == expected["verdict"] and report["ready"] == expected["ready"]
    assert [(f["code"], f["severity"], len(f["rows"])) for f in report["findings"]] == [
        (f["code"], f["severity"], len(f["rows"])) for f in json.loads(json.dumps(expected))["findings"]
    ]
    assert {"secrets", "contradictory_outputs"} <= {f["code"] for f in report["findings"]}
    assert page.headers["content-type"].startswith("text/html") and "<html" in page.text
    for text in (reply.text, page.text):
        assert file_id in text and str(tmp_path) not in text, "the file's own name, and not where it lies"
        assert "abcdefghijkl" not in text, "a key is not sent about in clear"


def test_further_files_are_compared_with(tmp_path):
    with serving(Workspace(tmp_path)) as url:
        train, test = uploaded(url, lines()), uploaded(url, lines(("Is the oven loud?", "care")))
        body = {"validation_file": test, "against": test}
        codes = {f["code"] for f in httpx.post(f"{url}/v1/files/{train}/check", json=body, timeout=60).json()["findings"]}
        assert {"leakage", "leakage_against"} <= codes


def test_what_can_not_be_checked_is_refused_by_field(tmp_path):
    with serving(Workspace(tmp_path)) as url:
        train, broken = uploaded(url, lines()), uploaded(url, b'{"messages": ')
        gone = httpx.post(f"{url}/v1/files/file-none/check")
        assert gone.status_code == 404
        for body, param in (({"validation_file": "file-none"}, "validation_file"), ({"against": "../x"}, "against"), ({"agianst": train}, "agianst")):
            reply = httpx.post(f"{url}/v1/files/{train}/check", json=body, timeout=60)
            assert (reply.status_code, reply.json()["error"]["param"]) == (400, param)
        reply = httpx.post(f"{url}/v1/files/{broken}/check", timeout=60)
        assert reply.status_code == 400 or reply.json()["verdict"] == "errors"
        assert str(tmp_path) not in reply.text


def test_a_mend_needs_no_command_line(tmp_path):
    table = b"a,b,c\n" + b"".join(f"Say {i},{i} it is,And {i}\n".encode() for i in range(12))
    with serving(Workspace(tmp_path)) as url:
        sent = httpx.post(f"{url}/v1/files", files={"file": ("rows.csv", table)}, data={"purpose": "user_data"})
        error = httpx.post(f"{url}/v1/files/{sent.json()['id']}/check", timeout=60).json()["error"]
    assert error["code"] == "ambiguous_columns" and "name the columns input and output" in error["message"]
    assert "--" not in error["message"]
