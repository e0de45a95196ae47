"""Files and uploads, through the SDK."""

from __future__ import annotations

import hashlib
import os
import tarfile
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import openai
import pytest
from openai.types import FileDeleted, FileObject, Upload
from openai.types.uploads import UploadPart

from journeyman.api import files as endpoints
from journeyman.storage.archive import Archive

from .conftest import Running, running

ROWS = b'{"messages": []}\n' * 20


def strict(kind, value):
    """The reply against the SDK's own type: the SDK itself builds objects without validating."""
    return kind.model_validate(value.to_dict(), strict=True)


def test_a_file_comes_back_as_it_was_sent(client):
    file = client.files.create(file=("train.jsonl", ROWS), purpose="fine-tune")
    strict(FileObject, file)
    assert file.id.startswith("file-") and file.bytes == len(ROWS) and file.filename == "train.jsonl"
    assert client.files.retrieve(file.id) == file
    assert client.files.content(file.id).read() == ROWS
    assert client.files.wait_for_processing(file.id).status == "processed"
    strict(FileDeleted, client.files.delete(file.id))
    for call in (client.files.retrieve, client.files.content, client.files.delete):
        with pytest.raises(openai.NotFoundError, match=f"No such File object: {file.id}"):
            call(file.id)


def test_the_list_pages_and_filters(tmp_path, base):
    with running(tmp_path, base) as server:
        client = server.client()
        made = [client.files.create(file=(f"{i}.jsonl", b"x"), purpose="fine-tune").id for i in range(3)]
        other = client.files.create(file=("a.txt", b"x"), purpose="evals").id
        assert [f.id for f in client.files.list(purpose="fine-tune", limit=1)] == made[::-1]
        assert [f.id for f in client.files.list(order="asc")] == [*made, other]
        page = httpx.get(f"{server.url}/v1/files?limit=2&order=asc").json()
        assert (page["first_id"], page["last_id"], page["has_more"]) == (made[0], made[1], True)
        assert not httpx.get(f"{server.url}/v1/files?limit=4").json()["has_more"]
        for query in ("limit=0", "limit=x", "order=up", "after=file-nope"):
            reply = httpx.get(f"{server.url}/v1/files?{query}")
            assert reply.status_code == 400 and reply.json()["error"]["param"] == query.partition("=")[0]


def test_an_expired_file_is_gone(tmp_path, base, monkeypatch):
    with running(tmp_path, base) as server:
        client = server.client()
        after = {"anchor": "created_at", "seconds": 3600}
        file = client.files.create(file=("v.jsonl", b"x"), purpose="fine-tune", expires_after=after)
        assert file.expires_at - file.created_at in (3600, 3601)
        now = time.time()
        monkeypatch.setattr(time, "time", lambda: now + 3700)
        assert list(client.files.list()) == []
        with pytest.raises(openai.NotFoundError):
            client.files.retrieve(file.id)
        assert list((tmp_path / "files").iterdir()) == []


@pytest.mark.parametrize(
    ("filename", "purpose", "more", "param"),
    [
        ("a.txt", "fine-tune", {}, "file"),
        ("a", "fine-tune", {}, "file"),
        ("a.jsonl", "nope", {}, "purpose"),
        ("a.jsonl", "evals", {"expires_after": {"anchor": "created_at", "seconds": 1}}, "expires_after.seconds"),
        ("a.jsonl", "evals", {"expires_after": {"anchor": "now", "seconds": 3600}}, "expires_after.anchor"),
        ("a.jsonl", "evals", {"extra_body": {"who": "me"}}, "who"),
    ],
)
def test_what_can_not_be_kept_is_refused_and_leaves_nothing(tmp_path, base, filename, purpose, more, param):
    with running(tmp_path, base) as server:
        with pytest.raises(openai.BadRequestError) as caught:
            server.client().files.create(file=(filename, b"x"), purpose=purpose, **more)
        assert caught.value.param == param and caught.value.type == "invalid_request_error"
        assert list((tmp_path / "files").iterdir()) == []


def test_an_upload_of_a_wrong_name_names_its_own_field(client):
    for filename, purpose in (("a.txt", "fine-tune"), ("a\0.jsonl", "evals")):
        with pytest.raises(openai.BadRequestError) as caught:
            client.uploads.create(filename=filename, purpose=purpose, bytes=1, mime_type="text/plain")
        assert caught.value.param == "filename"


@pytest.mark.parametrize("name", ["../../etc/x.jsonl", "..\\x.jsonl", "/x.jsonl", "a\x00.jsonl", "é" * 300 + ".jsonl"])
def test_a_files_name_is_never_a_path(tmp_path, base, name):
    with running(tmp_path, base) as server:
        file = server.client().files.create(file=(name, b"x"), purpose="evals")
        assert "/" not in file.filename and "\\" not in file.filename
        (kept,) = (tmp_path / "files").iterdir()
        assert kept.name.startswith(file.id)
        for path in ("/v1/files/..%2F..%2Fjourneyman.db", "/v1/files/..%2Fjourneyman.db/content"):
            assert httpx.get(server.url + path).status_code == 404


def test_a_long_name_keeps_its_ending(client):
    file = client.files.create(file=("a" * 300 + ".jsonl", ROWS), purpose="fine-tune")
    assert file.filename == "a" * 249 + ".jsonl"


@pytest.mark.parametrize(
    ("given", "kept"), [("../../a.jsonl", "a.jsonl"), ("b\\\\a.jsonl", "a.jsonl"), ("a" * 300 + ".jsonl", "a" * 249 + ".jsonl")]
)
def test_an_uploads_name_is_read_as_a_files(client, given, kept):
    upload = client.uploads.create(filename=given, purpose="fine-tune", bytes=1, mime_type="text/jsonl")
    assert upload.filename == kept


def test_a_character_that_no_database_keeps_is_refused_in_a_name(server: Running):
    form = b'--b\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nevals\r\n'
    form += b'--b\r\ncontent-disposition: form-data; name="file"; filename="a\x00.jsonl"\r\n\r\nx\r\n--b--\r\n'
    kind = {"content-type": "multipart/form-data; boundary=b"}
    upload = {"filename": "a\x00.jsonl", "purpose": "evals", "bytes": 1, "mime_type": "text/jsonl"}
    for reply in (
        httpx.post(f"{server.url}/v1/files", content=form, headers=kind),
        httpx.post(f"{server.url}/v1/uploads", json=upload),
    ):
        assert reply.status_code == 400 and reply.json()["error"]["type"] == "invalid_request_error", reply.text


@pytest.mark.parametrize(
    ("asked", "status", "content"),
    [
        (None, 200, ROWS),
        ("bytes=5-9", 206, ROWS[5:10]),
        ("bytes=330-", 206, ROWS[330:]),
        ("bytes=-7", 206, ROWS[-7:]),
        ("bytes=5-99999", 206, ROWS[5:]),
        ("bytes=9999-", 416, None),
        ("bytes=-0", 416, None),
        ("zz=1-", 200, ROWS),
        ("bytes=9-5", 200, ROWS),
        ("bytes=0-1,4-5", 200, ROWS),
    ],
)
def test_a_part_of_a_file(client, server: Running, asked, status, content):
    """RFC 9110, 14.2: a Range that is not understood is as if it were not there."""
    file = client.files.create(file=("a.jsonl", ROWS), purpose="evals")
    headers = {} if asked is None else {"range": asked}
    reply = httpx.get(f"{server.url}/v1/files/{file.id}/content", headers=headers)
    assert reply.status_code == status
    if content is None:
        assert reply.headers["content-range"] == f"bytes */{len(ROWS)}"
        assert reply.json()["error"]["code"] == "range_not_satisfiable"
        return
    assert reply.content == content and reply.headers["content-length"] == str(len(content))
    assert reply.headers["accept-ranges"] == "bytes" and ("content-range" in reply.headers) == (status == 206)
    other = {**headers, "if-range": '"another"'}
    assert httpx.get(f"{server.url}/v1/files/{file.id}/content", headers=other).content == ROWS


def test_an_empty_file_is_sent(client, server: Running):
    file = client.files.create(file=("a.jsonl", b""), purpose="evals")
    assert client.files.content(file.id).read() == b""


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_what_lies_in_a_home_is_its_owners(tmp_path, base):
    old = os.umask(0o022)
    try:
        with running(tmp_path / "new" / "home", base) as server:
            server.client().files.create(file=("a.jsonl", ROWS), purpose="evals")
        (tmp_path / "there").mkdir(mode=0o755)
        with running(tmp_path / "there", base):
            pass
    finally:
        os.umask(old)
    assert (tmp_path / "new" / "home").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "there").stat().st_mode & 0o777 == 0o755, "an existing folder keeps its mode"


@pytest.mark.parametrize("fields_first", [True, False])
def test_a_form_in_any_order_and_without_a_length(server: Running, fields_first):
    purpose = b'--b\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nevals\r\n'
    file = b'--b\r\ncontent-disposition: form-data; name="file"; filename="x.jsonl"\r\n\r\n' + ROWS + b"\r\n"
    parts = [purpose, file] if fields_first else [file, purpose]
    content = b"".join(parts) + b"--b--\r\n"
    chunks = (content[i : i + 7] for i in range(0, len(content), 7))
    kind = {"content-type": "multipart/form-data; boundary=b"}
    reply = httpx.post(f"{server.url}/v1/files", content=chunks, headers=kind)
    assert reply.status_code == 200 and reply.json()["bytes"] == len(ROWS)


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("multipart/form-data; boundary=b", b""),
        ("multipart/form-data; boundary=b", b"--b\r\nnonsense"),
        ("multipart/form-data; boundary=b", b'--b\r\ncontent-disposition: form-data; name="file"; filename="a"\r\n\r\ncut o'),
        ("multipart/form-data; boundary=b", b'--b\r\ncontent-disposition: form-data; name="purpose"\r\n\r\nevals\r\n--b--\r\n'),
        ("multipart/form-data", b"x"),
        ("application/json", b"{}"),
    ],
)  # fmt: skip
def test_a_body_that_is_no_form_is_refused_and_leaves_nothing(server: Running, kind, content):
    folder = server.workspace.settings.files_folder
    before = set(folder.iterdir()) if folder.is_dir() else set()
    reply = httpx.post(f"{server.url}/v1/files", content=content, headers={"content-type": kind})
    assert reply.status_code == 400 and reply.json()["error"]["message"], reply.text
    assert set(folder.iterdir()) == before


def test_a_file_above_the_limit_is_refused_while_it_arrives(server: Running, monkeypatch):
    monkeypatch.setattr(endpoints, "MAX_FILE_BYTES", 1000)
    with pytest.raises(openai.APIStatusError) as caught:
        server.client().files.create(file=("x.jsonl", b"x" * 1001), purpose="evals")
    assert caught.value.status_code == 413 and caught.value.code == "request_too_large"


def test_an_upload_in_parts_is_the_file(client):
    upload = client.uploads.upload_file_chunked(
        file=ROWS, filename="big.jsonl", bytes=len(ROWS), mime_type="text/jsonl", purpose="fine-tune", part_size=100
    )
    strict(Upload, upload)
    assert upload.status == "completed" and client.files.content(upload.file.id).read() == ROWS


def test_an_uploads_order_size_and_digest_are_checked(client, server: Running):
    upload = client.uploads.create(filename="x.jsonl", bytes=4, mime_type="text/jsonl", purpose="fine-tune")
    b, a = (client.uploads.parts.create(upload.id, data=data) for data in (b"cd", b"ab"))
    strict(UploadPart, a)
    for part_ids, md5, param in (
        ([a.id], None, "part_ids"),
        ([a.id, a.id], None, "part_ids"),
        ([a.id, "part_nope"], None, "part_ids"),
        ([a.id, b.id], "0" * 32, "md5"),
    ):
        with pytest.raises(openai.BadRequestError) as caught:
            client.uploads.complete(upload.id, part_ids=part_ids, **({"md5": md5} if md5 else {}))
        assert caught.value.param == param
    done = client.uploads.complete(upload.id, part_ids=[a.id, b.id], md5=hashlib.md5(b"abcd").hexdigest())
    assert client.files.content(done.file.id).read() == b"abcd"
    with pytest.raises(openai.BadRequestError, match="completed already"):
        client.uploads.parts.create(upload.id, data=b"x")
    assert not (server.workspace.settings.uploads_folder / upload.id).exists()


def test_an_upload_that_was_cancelled_takes_nothing_more(client):
    upload = client.uploads.create(filename="x.jsonl", bytes=4, mime_type="text/jsonl", purpose="fine-tune")
    assert client.uploads.cancel(upload.id).status == "cancelled"
    with pytest.raises(openai.BadRequestError):
        client.uploads.parts.create(upload.id, data=b"x")
    with pytest.raises(openai.NotFoundError):
        client.uploads.cancel("upload_nope")


@contextmanager
def files_up_to(size_bytes: int) -> Iterator[None]:
    """A limit on the size of files stands for a full disk: the system refuses what is written beyond it."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_fills_up_during_an_upload_keeps_nothing_and_loses_nothing(tmp_path, base):
    part = b"x" * 1_500_000
    with running(tmp_path, base) as server:
        client, files = server.client(), tmp_path / "files"
        kept = client.files.create(file=("a.txt", b"kept"), purpose="user_data")
        begun = client.uploads.create(bytes=3_000_000, filename="b.txt", mime_type="text/plain", purpose="user_data")
        parts = [client.uploads.parts.create(begun.id, data=part).id for _ in range(2)]
        with files_up_to(2 * 2**20):
            for full in (
                lambda: client.files.create(file=("c.txt", part * 2), purpose="user_data"),
                lambda: client.uploads.complete(begun.id, part_ids=parts),
            ):
                with pytest.raises(openai.InternalServerError, match="disk is full") as caught:
                    full()
                assert (caught.value.status_code, caught.value.code) == (507, "disk_full")
                assert caught.value.response.headers["x-should-retry"] == "false"
            assert client.files.content(kept.id).read() == b"kept"
        assert [path.name for path in files.iterdir()] == [f"{kept.id}.txt"]
        assert [file.id for file in client.files.list()] == [kept.id]
        done = client.uploads.complete(begun.id, part_ids=parts)
        assert client.files.content(done.file.id).read() == part * 2


def test_an_archive_is_read_piece_by_piece_and_large_files_have_their_size(tmp_path):
    for name, size_bytes in (("a.bin", 40 * 2**20 + 7), ("b.txt", 0)):
        with (tmp_path / name).open("wb") as file:
            file.truncate(size_bytes)
    archive = Archive([tmp_path / "a.bin", tmp_path / "b.txt"], "top", 1_700_000_000)
    tracemalloc.start()
    assert sum(map(len, archive.chunks())) == archive.size_bytes
    assert tracemalloc.get_traced_memory()[1] < 4 * 2**20
    tracemalloc.stop()
    os.utime(tmp_path / "a.bin", (1, 1))
    with (tmp_path / "all.tar").open("wb") as whole:
        whole.writelines(archive.chunks())
    with tarfile.open(tmp_path / "all.tar") as tar:
        shown = [(m.name, m.size, m.mtime, m.uid, m.mode) for m in tar]
    assert shown == [("top/a.bin", 40 * 2**20 + 7, 1_700_000_000, 0, 0o644), ("top/b.txt", 0, 1_700_000_000, 0, 0o644)]
    whole_bytes = (tmp_path / "all.tar").read_bytes()
    for first, last in ((0, 0), (0, 511), (511, 512), (600, 40 * 2**20), (archive.size_bytes - 1500, archive.size_bytes - 1)):
        assert b"".join(archive.chunks(first, last)) == whole_bytes[first : last + 1]
    with (tmp_path / "huge.bin").open("wb") as file:
        file.truncate(9 * 2**30)  # a hole: it takes no room
    huge = Archive([tmp_path / "huge.bin"], "top", 0)
    assert tarfile.TarInfo.frombuf(next(huge.chunks()), "utf-8", "strict").size == 9 * 2**30
    assert huge.size_bytes == 9 * 2**30 + 3 * 512
    assert b"".join(huge.chunks(9 * 2**30, 9 * 2**30 + 3 * 512 - 1)) == bytes(3 * 512), "read from there on, not from the beginning"
    (tmp_path / "huge.bin").unlink()
