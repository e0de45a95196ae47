"""The documentation says what is there."""

import ast
import re
from pathlib import Path

import pytest

from journeyman.data.check.rows import REASONS

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
MAP = re.findall(r"`([\w/]+\.py)(?::(\w+))?`", (ROOT / "docs" / "map.md").read_text())


@pytest.mark.parametrize(("path", "symbol"), MAP)
def test_the_map_points_at_something(path, symbol):
    source = (ROOT / "src" / "journeyman" / path).read_text()
    names = set()
    for node in ast.parse(source).body:
        names |= {getattr(node, "name", None)}
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        names |= {t.id for t in targets if isinstance(t, ast.Name)}
    assert not symbol or symbol in names


def test_every_refusal_is_documented():
    page = (ROOT / "docs" / "examples.md").read_text()
    assert [code for code in REASONS if f"`{code}`" not in page] == []


def test_every_variable_is_documented():
    variables = set(re.findall(r"JOURNEYMAN_[A-Z_]+", (ROOT / "src/journeyman/settings.py").read_text()))
    page = (ROOT / "docs" / "configuration.md").read_text()
    assert {v for v in variables if v not in page} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / target).exists(), target
