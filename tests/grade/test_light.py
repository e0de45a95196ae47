import subprocess
import sys


def test_grading_and_the_answerer_protocol_import_nothing_heavy():
    heavy = ("torch", "transformers", "rapidfuzz", "jsonschema", "numpy")
    code = (
        "import sys, journeyman.grade.parse, journeyman.grade.grade, journeyman.answer.prompt\n"
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert found.stdout.strip() == "[]"
