"""Imports go one way, and what starts quickly stays light."""

import ast
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "journeyman"
LAYERS = [
    {"errors"},
    {"logs"},
    {"records", "files", "settings", "starter", "database"},
    {"data", "grade", "task", "storage"},
    {"text"},
    {"plan"},
    {"train", "generate"},
    {"models"},
    {"answer"},
    {"evaluate"},
    {"jobs"},
    {"request"},
    {"answering", "beginning", "checking", "training", "evaluating", "comparing", "deleting"},
    {"workspace"},
    {"asking", "cli", "api"},
    {"__main__"},
]
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
HEAVY = {"torch", "transformers", "safetensors"}
FIRST_HEAVY = LEVEL["train"]


def files():
    return [p for p in SOURCE.rglob("*.py") if p.parent != SOURCE / "migrations" and "versions" not in p.parts and p.name != "__init__.py"]


def part(path):
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports(path, *, top_only=False):
    tree = ast.parse(path.read_text())
    typing_only = {id(n) for block in ast.walk(tree) if isinstance(block, ast.If) and "TYPE_CHECKING" in ast.unparse(block.test) for n in ast.walk(block)}
    for node in tree.body if top_only else ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{a.name}" for a in node.names if node.module == "journeyman")
        elif isinstance(node, ast.Import):
            yield from (a.name for a in node.names)


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(SOURCE)))
def test_a_module_sees_its_own_folder_and_lower_layers(path):
    own = LEVEL[part(path)]
    for name in imports(path):
        pieces = name.split(".")
        if pieces[0] == "journeyman" and len(pieces) > 1 and pieces[1] in LEVEL and pieces[1] != part(path):
            assert LEVEL[pieces[1]] <= own, name


@pytest.mark.parametrize("path", [p for p in files() if LEVEL[part(p)] < FIRST_HEAVY], ids=lambda p: str(p.relative_to(SOURCE)))
def test_nothing_below_training_imports_torch(path):
    assert not {n.split(".")[0] for n in imports(path)} & HEAVY


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(SOURCE)))
def test_words_with_one_home(path):
    source, home = path.read_text(), str(path.relative_to(SOURCE))
    assert "os.environ" not in source or home == "settings.py"
    assert ".cross_entropy(" not in source or home == "train/loss.py"
    assert path.stem not in {"utils", "helpers", "common", "misc", "manager"}


def test_help_is_light_and_quick():
    times = []
    for _ in range(3):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "journeyman", "--help"], check=True, capture_output=True)
        times.append(time.perf_counter() - started)
    assert statistics.median(times) < 1.5  # measured about 0.3 s; the rest is room for a busy machine
    probe = "import sys, journeyman.cli.main; print(*sorted({m.split('.')[0] for m in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", probe], check=True, capture_output=True, text=True).stdout.split()
    assert not HEAVY & set(loaded)


HIDDEN = {
    "data/check/calls.py": {"jsonschema", "referencing"},
    "data/check/classify.py": {"sklearn", "warnings"},
    "data/check/noise.py": {"scipy"},
    "data/check/coverage.py": {"scipy", "sklearn"},
    "data/check/names.py": {"presidio_analyzer", "spacy"},
    "data/tables.py": {"openpyxl", "pyarrow", "zipfile"},
    "grade/apart.py": {"jsonschema", "referencing"},
    "grade/similarity.py": {"rapidfuzz"},
    "models/bases.py": {"huggingface_hub"},
    "generate/vllm.py": {"vllm"},
    "answer/vectors.py": {"sentence_transformers"},
    "evaluate/prompt_evolution.py": {"gepa"},
    "models/export/llamacpp/write.py": {"gguf"},
    "database.py": {"alembic"},
    "plan/machine.py": {"numpy"},
    "jobs/tracker.py": {"wandb"},
    "training.py": {"journeyman.jobs.worker"},
}
"""Imports inside functions, each of a library that is slow to load and seldom needed; torch comes with our worker."""
MAY_HIDE_OUR_OWN = {"workspace", "asking", "cli", "api"}
"""The front door and the faces load what a command needs when it runs, so that `--help` needs nothing."""


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(SOURCE)))
def test_imports_hide_in_functions_only_where_starting_quickly_asks_for_it(path):
    if part(path) in MAY_HIDE_OUR_OWN:
        return
    names = set(imports(path)) - set(imports(path, top_only=True))
    hidden = {name if name.startswith("journeyman") else name.split(".")[0] for name in names}
    assert hidden <= HIDDEN.get(str(path.relative_to(SOURCE)), set())


def module_name(path):
    return ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts)


def test_no_module_waits_for_itself():
    """No cycle of imports between modules, whether they stand at the top or in a function."""
    names = {module_name(p) for p in files()}
    graph = {}
    for path in files():
        named = set(imports(path))
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                named |= {f"{node.module}.{alias.name}" for alias in node.names}
        graph[module_name(path)] = (named & names) - {module_name(path)}
    assert sum(map(len, graph.values())) > 100, "the imports were not found"
    while free := {name for name, needs in graph.items() if not needs & graph.keys()}:
        graph = {name: needs for name, needs in graph.items() if name not in free}
    assert not graph, f"a cycle among {sorted(graph)}"


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(SOURCE)))
def test_only_the_command_line_prints(path):
    calls = (n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call))
    printed = [n.lineno for n in calls if isinstance(n.func, ast.Name) and n.func.id == "print"]
    assert not printed or part(path) == "cli"


@pytest.mark.parametrize("module", ["journeyman", "journeyman.workspace", "journeyman.asking", "journeyman.checking", "journeyman.training", "journeyman.jobs.store", "journeyman.plan.plan"])
def test_what_starts_often_loads_no_tensors(module):
    probe = f"import sys, {module}; print(*sorted({{m.split('.')[0] for m in sys.modules}}))"
    loaded = subprocess.run([sys.executable, "-c", probe], check=True, capture_output=True, text=True).stdout.split()
    assert not HEAVY & set(loaded)
