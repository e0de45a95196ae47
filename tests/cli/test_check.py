"""`check` as it is typed: the verdict, the rows, the exit code, the files it writes; and `train`, which checks first."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from journeyman.cli.main import app
from journeyman.data.dataset import open_dataset
from journeyman.errors import DataError
from journeyman.plan.plan import Wishes
from journeyman.request import TrainRequest
from journeyman.workspace import Workspace

KEY = "ghp_" + "q7Zt2mXv9LbR4cWn8HsK1dq7Zt2mXv9LbR4c"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("JOURNEYMAN_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["check", *words])


def write(name: str, outputs: list[str]) -> str:
    rows = [[{"role": "user", "content": f"What is number {n}?"}, {"role": "assistant", "content": o}] for n, o in enumerate(outputs)]
    Path(name).write_text("".join(json.dumps({"messages": row}) + "\n" for row in rows), encoding="utf-8")
    return name


SOUND = [f"That is a {noun}." for noun in ["lamp", "wick", "shade", "mug", "plate", "bowl", "rug", "cloth", "pot", "pan", "cup", "tray"]]
REMARK = [*SOUND[:-4], "Mail mara.lindt@posteo.de.", "Mail jo.h@gmx.net.", "Mail jo.h@gmx.net now.", "Mail k.k@gmx.net."]
WRONG = [*SOUND, f"The key is {KEY}."]


@pytest.mark.parametrize(
    ("outputs", "ready", "codes"),
    [(SOUND, "✓ rows: ready", (0, 0, 0)), (REMARK, "▲ rows: ready with remarks", (0, 1, 0)), (WRONG, "✕ rows: not yet", (1, 1, 0))],
)
def test_the_verdict_stands_first_and_decides_the_exit_code(outputs: list[str], ready: str, codes: tuple[int, ...]) -> None:
    write("rows.jsonl", outputs)
    results = [run("rows.jsonl", "--fail-on", severity) for severity in ("error", "warning", "never")]
    assert results[0].output.splitlines()[0] == ready
    assert [result.exit_code for result in results] == list(codes)
    assert run("rows.jsonl").exit_code == codes[0]


def test_three_rows_of_a_finding_are_shown_with_file_and_line() -> None:
    output = run(write("rows.jsonl", REMARK)).output
    assert "[private_data] 4 row(s)" in output
    assert sum(f"rows.jsonl:{line}  e-mail" in output for line in (9, 10, 11, 12)) == 3
    assert "and 1 more" in output
    assert "1. replace it by stand-ins" in output
    assert "--fix OUT writes a copy in which 4 row(s) are mended" in output


def test_json_is_one_object_with_the_rows() -> None:
    write("rows.jsonl", WRONG)
    result = run("rows.jsonl", "--json", "--fix", "clean.jsonl", "--html", "page.html")
    found = json.loads(result.stdout)
    assert (found["verdict"], found["ready"]) == ("errors", "not yet")
    (secrets,) = [finding for finding in found["findings"] if finding["code"] == "secrets"]
    assert [(row["file"], row["line"]) for row in secrets["rows"]] == [("rows.jsonl", 13)]
    assert found["first"][0]["code"] == "secrets"
    assert found["counts"]["read"] == 13
    assert (found["fixed"]["kept"], found["fixed"]["changed"], found["fixed"]["dropped"]) == (13, 1, 0)
    assert found["fixed"]["verdict"] != "errors"
    assert KEY not in Path("clean.jsonl").read_text() and "[SECRET_1]" in Path("clean.jsonl").read_text()
    assert Path(found["fixed"]["ledger"]).is_file() and Path(found["html"]).is_file()
    assert run("clean.jsonl").exit_code == 0


def test_rows_are_compared_with_a_file_of_questions() -> None:
    write("rows.jsonl", SOUND)
    Path("traffic.txt").write_text("What is number 3?\n\nWhere is my parcel?\n", encoding="utf-8")
    assert run("rows.jsonl", "--against", "traffic.txt").exit_code == 0
    Path("empty.jsonl").write_text('{"a": 1}\n', encoding="utf-8")
    refused = run("rows.jsonl", "--against", "empty.jsonl")
    assert isinstance(refused.exception, DataError) and refused.exception.code == "nothing_asked"


def test_train_stops_on_errors_names_rows_and_the_way_out(home: Path, bases) -> None:  # type: ignore[no-untyped-def]
    write("rows.jsonl", WRONG)
    workspace = Workspace(home)
    request = TrainRequest("rows.jsonl", base=str(bases("llama")), wishes=Wishes(epochs=1))
    with pytest.raises(DataError) as caught:
        workspace.train(request)
    error = caught.value
    assert error.code == "check_errors"
    assert "secrets" in error.problems[0] and "rows.jsonl:13" in error.problems[0]
    assert "journeyman check" in str(error.fix) and "rows.jsonl`" in str(error.fix) and "--despite-errors" in str(error.fix)
    (job,) = workspace.jobs.list()
    assert open_dataset(job.folder / "dataset").report().verdict == "errors"


def test_train_goes_on_despite_errors_if_asked_and_with_warnings_anyway(home: Path, bases) -> None:  # type: ignore[no-untyped-def]
    workspace = Workspace(home)
    for outputs, despite in ((WRONG, True), (REMARK, False)):
        source = write("rows.jsonl", outputs)
        request = TrainRequest(source, base=str(bases("llama")), wishes=Wishes(epochs=1), despite_errors=despite)
        job, version = workspace.train(request)
        assert version is not None
        assert open_dataset(job.folder / "dataset").report().first
        said = run(job.id).output
        assert "`journeyman check rows.jsonl --fix OUT` mends a copy of the file" in said and "--fix OUT writes" not in said


def test_places_are_shown_from_the_working_folder(tmp_path: Path) -> None:
    said = run(write(str(tmp_path / "rows.jsonl"), [*SOUND, *REMARK])).stdout
    assert "\n      rows.jsonl:" in said
    assert str(tmp_path) not in said


def test_a_rule_is_ignored_for_the_verdict_and_counted_in_a_line() -> None:
    write("rows.jsonl", WRONG)
    result = run("rows.jsonl", "--ignore", "secrets", "--ignore", "leakage", "--html", "page.html")
    assert result.exit_code == 0
    assert "found, and left out of this report as asked: secrets (1 row(s))" in result.output
    assert "[secrets]" not in result.output
    assert "left out of this report as asked: secrets" in Path("page.html").read_text()
    assert json.loads(run("rows.jsonl", "--ignore", "secrets", "--json").stdout)["ignored"] == {"secrets": 1}
    refused = run("rows.jsonl", "--ignore", "secret").exception
    assert isinstance(refused, DataError) and refused.code == "unknown_rule" and "secrets" in str(refused.fix)


def test_a_mend_says_what_each_rule_did_and_what_was_left() -> None:
    things = ["mug", "lamp", "chair", "bowl", "teapot", "blanket", "shelf", "knife", "basket", "clock"]
    kinds = {"delivery": "when will the parcel with my {} arrive", "return": "i want my money back for the {}", "care": "how do i wash the {} by hand"}
    rows = [(text.format(thing), label) for thing in things * 2 for label, text in kinds.items()]
    rows.append(("when will the parcel with my rug arrive", "it is a delivery"))
    path = Path("rows.csv")
    path.write_text("input,output\n" + "".join(f"{said},{label}\n" for said, label in rows), encoding="utf-8")
    assert "--relabel takes the output that is suggested for 1 more" in run("rows.csv").output
    said = run("rows.csv", "--fix", "clean.csv").output
    assert "duplicate_rows: 30 row(s)\n" in said
    assert "stray_labels: 0 row(s), 1 suggestion(s) not taken (--relabel takes them)" in said
    assert "it is a delivery" in Path("clean.csv").read_text()
    run("rows.csv", "--fix", "taken.csv", "--relabel", "--fix-only", "stray_labels")
    assert Path("taken.csv").read_text() == path.read_text().replace("it is a delivery", "delivery")
    assert run("rows.csv", "--relabel").exit_code == 2
    assert isinstance(run("rows.csv", "--fix", "x.csv", "--fix-only", "tone").exception, DataError)


@pytest.mark.parametrize("option", ["--html", "--fix"])
def test_a_folder_that_is_not_there_is_named_before_anything_is_checked(option: str) -> None:
    refused = run("nothing.jsonl", option, "nowhere/out.html").exception
    assert isinstance(refused, DataError) and (refused.code, refused.where) == ("no_folder", "nowhere")
    assert not Path("nowhere").exists()


def test_files_are_written_before_anything_is_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(*_: object, **__: object) -> None:
        assert Path("page.html").is_file() and Path("clean.jsonl").is_file()
        raise BrokenPipeError

    monkeypatch.setattr("journeyman.cli.check.show_verdict", closed)
    assert isinstance(run(write("rows.jsonl", WRONG), "--html", "page.html", "--fix", "clean.jsonl").exception, BrokenPipeError)


def test_lines_in_a_pipe_are_as_long_as_they_are() -> None:
    long = " ".join(["word"] * 80)
    said = run(write("rows.jsonl", [*SOUND, *[f"{long} {n} mara.lindt@posteo.de" for n in range(3)]])).output
    assert not [line for line in said.splitlines() if line != line.rstrip()]
    assert run(write("again.jsonl", WRONG), "--show", "1").output.splitlines()[-1] == run("again.jsonl", "--show", "1").output.splitlines()[-1].rstrip()


def test_a_refused_row_is_shown_once() -> None:
    write("rows.jsonl", SOUND)
    with Path("rows.jsonl").open("a", encoding="utf-8") as file:
        file.write("{broken\n")
    said = run("rows.jsonl").output
    assert said.count("rows.jsonl:13") == 1 and "kept 12 + refused 1" in said


def test_no_name_at_all_is_refused() -> None:
    assert "no file or task is named" in str(run("").exception)


def test_json_over_several_lines_is_one_error_that_says_so() -> None:
    row = [{"role": "user", "content": "What is it?"}, {"role": "assistant", "content": "A lamp."}]
    text = "\n".join(json.dumps({"messages": row}, indent=2) for _ in range(12))
    Path("rows.jsonl").write_text(text, encoding="utf-8")
    refused = run("rows.jsonl").exception
    assert isinstance(refused, DataError) and refused.code == "json_over_lines" and refused.problems == ()
    Path("rows.json").write_text(text, encoding="utf-8")
    assert "12 rows, read as openai_chat" in run("rows.json").output
