"""The documentation says what is there."""

import ast
import re
import shlex
import subprocess
from functools import cache
from pathlib import Path

import pytest

import generate
from journeyman import errors
from journeyman.data.check.refusals import REASONS
from journeyman.data.check.rules import RULES
from journeyman.grade.parse import TYPES
from journeyman.plan.plan import Plan
from journeyman.task import _TABLES, _TOP

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "journeyman"
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted(DOCS.glob("*.md"))]
MAP = re.findall(r"`([\w/]+\.py):(\w+)`", (DOCS / "map.md").read_text(encoding="utf-8"))


def page(name):
    return (DOCS / name).read_text(encoding="utf-8")


@cache
def symbols(path):
    found = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        found |= {getattr(node, "name", None), *(t.id for t in targets if isinstance(t, ast.Name))}
    return found


@pytest.mark.parametrize(("path", "symbol"), sorted(set(MAP)))
def test_the_map_points_at_something(path, symbol):
    place = ROOT / "tests" / path
    assert symbol in symbols(place if Path(path).name.startswith("test_") else SOURCE / path)


def test_the_map_answers_a_question_in_every_row():
    rows = [line for line in page("map.md").splitlines() if line.startswith("|")][2:]
    assert len(rows) > 30
    assert [row for row in rows if not re.match(r"\| [^|]+\? \| `[\w/]+\.py:\w+` \| [^|]+ \|", row)] == []


def test_generated_pages_are_fresh():
    assert generate.stale() == [], "run: python tests/docs/generate.py"


def test_every_command_and_option_is_documented():
    text = page("cli.md")
    names = [name for name, _ in generate.commands()]
    assert len(names) > 15
    assert [name for name in names if f"\n## {name}\n" not in text] == []
    options = {
        option
        for _, command in generate.commands()
        for p in command.params
        for option in p.opts
        if option[0] == "-"
    }
    assert [option for option in options if option not in text] == []


def test_every_error_and_code_is_documented():
    text = page("errors.md")
    classes = [
        c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, errors.JourneymanError)
    ]
    assert [c.__name__ for c in classes if f"`{c.__name__}` | `{c.code}`" not in text] == []
    tree = str(errors.__doc__)
    assert [c.__name__ for c in classes if c.__name__ not in tree] == []


def test_every_code_that_is_raised_is_literal_and_documented():
    codes = {code for code, _, _ in generate.raised() if "…" not in code}
    assert len(codes) > 30
    assert [code for code in codes if f"`{code}`" not in page("errors.md")] == []


def test_every_refusal_is_documented():
    assert [code for code in REASONS if f"| `{code}` |" not in page("examples.md")] == []


@pytest.mark.parametrize("rule", RULES, ids=[rule.code for rule in RULES])
def test_every_rule_has_its_section_with_an_example(rule):
    section = page("check.md").partition(f"\n### {rule.code}\n")[2].partition("\n### ")[0]
    assert all(text in section for text in (rule.title, rule.severity, rule.meaning, rule.why, rule.mend))
    assert "examples.jsonl:" in section and f"\n{rule.severity}: " in section
    assert f"| [`{rule.code}`](#{rule.code}) | {rule.severity} |" in page("check.md")


def test_every_key_of_a_task_file_is_documented():
    keys = {
        *(_TOP.keys() - _TABLES.keys()),
        *(f"{table}.{key}" for table, known in _TABLES.items() for key in known),
    }
    assert [key for key in keys if f"`{key}`" not in page("tasks.md")] == []


def test_every_value_of_a_plan_is_documented():
    values = [name for name, kind in Plan.__annotations__.items() if str(kind).startswith("Choice")]
    assert len(values) > 10
    assert [name for name in values if f"| `{name}` |" not in page("plan.md")] == []


def test_every_grader_is_documented():
    assert [name for name in TYPES if f"`{name}`" not in page("evaluate.md")] == []


def test_every_variable_is_documented():
    variables = set(re.findall(r"JOURNEYMAN_[A-Z_]+", (SOURCE / "settings.py").read_text(encoding="utf-8")))
    assert [v for v in variables if f"| `{v}` |" not in page("configuration.md")] == []
    named = set(re.findall(r"JOURNEYMAN_[A-Z_]+", "".join(p.read_text(encoding="utf-8") for p in PAGES)))
    assert named - variables == set()


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.name)
def test_links_lead_somewhere(path):
    for target, part in re.findall(r"\]\((?!http)([^)#]*)(?:#([^)]*))?\)", path.read_text(encoding="utf-8")):
        file = path.parent / target if target else path
        assert file.exists(), target
        if part:
            headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.M)
            assert part in [h.lower().replace(" ", "-") for h in headings], part


def journeyman_lines():
    """Every line of a shell block that calls journeyman: (page, line)."""
    for path in PAGES:
        for line in path.read_text(encoding="utf-8").splitlines():
            if path.name not in ("cli.md", "CHANGELOG.md") and re.match(r"\s{4}\S|journeyman ", line):
                yield from (
                    (path.name, f"journeyman {rest}")
                    for rest in re.findall(r"(?:^|\s)journeyman ([a-z][^#|&]*)", line)
                )


@pytest.mark.parametrize(("name", "line"), sorted(set(journeyman_lines())))
def test_commands_in_the_pages_can_be_typed(name, line):
    words = shlex.split(line.replace("`", ""))[1:]
    known = dict(generate.commands())
    command = known.get(" ".join(words[:2])) or known[words[0]]
    options = {option for p in command.params for option in p.opts}
    assert [w for w in words if w.startswith("--") and w not in options] == []


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("*.py")), ids=lambda p: str(p.relative_to(SOURCE)))
def test_commands_that_the_program_names_can_be_typed(path):
    """In errors, notes and the template of a new task."""
    named = re.findall(r"(?:`|#   |Go on with: |next:   )journeyman ([a-z]+)", path.read_text(encoding="utf-8"))
    assert set(named) <= {name for name, _ in generate.commands()}


def test_python_blocks_are_python():
    blocks = [
        b for p in PAGES for b in re.findall(r"```python\n(.*?)```", p.read_text(encoding="utf-8"), re.S)
    ]
    assert len(blocks) > 3
    for block in blocks:
        compile(block, "a page", "exec")


def tracked():
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in done.stdout.split("\0") if name]


def test_nothing_names_one_machine():
    """No absolute path of somebody's machine (`/home/me` is nobody's), and no address of a package mirror."""
    machine = re.compile(r"(?<![\w.~*}/-])/(?:root|home(?!/me\b)|work|Users|mnt)/\w")
    mirror = re.compile(r"--(?:extra-)?index-url|--trusted-host|https?://[^\s\"')]*/simple\b")
    found = []
    for path in tracked():
        if path.name == "LICENSE" or path == Path(__file__) or not path.is_file():
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [
            f"{path.relative_to(ROOT)}: {m.group()}" for r in (machine, mirror) for m in r.finditer(text)
        ]
    assert found == []
