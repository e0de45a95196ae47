"""The page: no network, nothing of a row is run, what is secret is not passed on."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from data.check.test_fix import MAIL, asked, chat, review
from journeyman.data.check.plot import histogram
from journeyman.errors import DataError

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)> <!--"


@pytest.fixture
def page(tmp_path: Path) -> str:
    rows = [chat(*row) for row in asked(12)]
    rows += [chat(f"{EVIL} I am {MAIL}", "yes"), chat("key ghp_" + "q7Zt2mXv9LbR4cWn8HsK1dq7Zt2mXv9LbR4c", EVIL), "{broken"]
    path = tmp_path / "replies.jsonl"
    path.write_text("\n".join(rows), encoding="utf-8")
    review(path).to_html(tmp_path / "page.html")
    return (tmp_path / "page.html").read_text(encoding="utf-8")


class Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_it_loads_nothing_and_runs_nothing_of_the_rows(page: str) -> None:
    parser = Elements()
    parser.feed(page)
    tags = [tag for tag, _ in parser.tags]
    assert tags.count("script") == 2 and "img" not in tags
    assert not any(name in attributes for _, attributes in parser.tags for name in ("src", "onerror", "onclick"))
    assert all(str(a["href"]).startswith("#") for _, a in parser.tags if "href" in a)
    assert "default-src 'none'" in page and not re.search(r"url\(|@import|https?://", page)


def test_the_rows_can_be_searched_and_hold_no_secret(page: str) -> None:
    found = re.search(r'id="data">(.*?)</script>', page, re.S)
    assert found is not None
    rows = json.loads(found[1])
    assert len(rows) == 14
    has_findings = [bool(row[4]) for row in rows]
    assert has_findings == sorted(has_findings, reverse=True), "rows with findings come first"
    by_line = {row[0].partition(":")[2]: row for row in rows}
    assert by_line["13"][4] and by_line["14"][4]
    assert by_line["14"][3] == EVIL
    assert [code for code, _ in by_line["13"][4]] == ["private_data"]
    assert MAIL not in page and "q7Zt2mXv9L" not in page


def test_verdict_findings_and_mends_are_on_it(page: str) -> None:
    assert "✕ not yet" in page and "<code>--fix</code> mends 1 of the rows" in page
    for code in ("secrets", "private_data", "refused_rows"):
        assert f"<code>{code}</code>" in page
    assert "{broken" in page


def test_a_name_that_is_no_page_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "replies.jsonl"
    path.write_text("\n".join(chat(*row) for row in asked(12)), encoding="utf-8")
    before = path.read_bytes()
    with pytest.raises(DataError) as caught:
        review(path).to_html(path)
    assert caught.value.code == "wrong_suffix" and path.read_bytes() == before


def test_a_histogram_counts_every_value_once() -> None:
    values = [0, 1, 1, 5, 120, *range(50, 90), 10_000]
    counts = [int(n) for n in re.findall(r": (\d+) row\(s\)", histogram(values, "tokens"))]
    assert sum(counts) == len(values)
    assert histogram([], "tokens") == ""
    assert sum(int(n) for n in re.findall(r": (\d+) row\(s\)", histogram([0, 0], "x"))) == 2
