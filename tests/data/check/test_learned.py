"""What a training's record says about its rows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from data.check.test_fix import asked, chat
from journeyman.data.check.learned import read_losses
from journeyman.data.check.rule import Rows, Sample, pair
from journeyman.data.check.rules import RULES
from journeyman.data.dataset import build
from journeyman.errors import DataError
from journeyman.plan.plan import Wishes
from journeyman.workspace import Workspace

RULE = {rule.code: rule for rule in RULES}
CODES = ("never_learned", "forgotten_again", "learned_at_once")
USUAL = [(1.2, 0.7 + n / 100, 0.3 + n / 100) for n in range(30)]


def lines(code: str, losses: list[tuple[float, ...]]) -> list[int]:
    rows = Sample([pair(f"q{n}", f"a{n}") for n in range(len(losses))], losses=losses).rows()
    return [row.place.line for finding in RULE[code].find(rows) for row in finding.rows]


@pytest.mark.parametrize(
    ("code", "losses"),
    [("never_learned", (3.1, 3.0, 2.9)), ("forgotten_again", (1.2, 0.2, 0.9)), ("learned_at_once", (0.04, 0.02, 0.01))],
)
def test_a_row_is_found_by_its_rule_alone(code: str, losses: tuple[float, ...]) -> None:
    assert {other: lines(other, [losses, *USUAL]) for other in CODES} == {other: [1] if other == code else [] for other in CODES}


def test_the_hardest_row_comes_first_and_says_its_losses() -> None:
    rows = Sample([pair(f"q{n}", f"a{n}") for n in range(32)], losses=[(3.1, 3.0, 2.9), (4.0, 4.0, 4.0), *USUAL]).rows()
    (finding,) = RULE["never_learned"].find(rows)
    assert [(row.place.line, row.note) for row in finding.rows] == [(2, "loss 4.00, 4.00, 4.00"), (1, "loss 3.10, 3.00, 2.90")]


def test_without_a_record_of_two_epochs_nothing_is_said() -> None:
    for losses in ([], [(9.0,)] * 40, [(float("nan"), float("inf"))] * 40, USUAL[:5]):
        assert [code for code in CODES if lines(code, losses)] == []
    assert list(RULE["never_learned"].find(Rows(train=[], losses=[(1.0, 2.0)]))) == []


def test_the_record_is_read_by_place_and_epoch(tmp_path: Path) -> None:
    train = Sample([pair(f"q{n}", f"a{n}") for n in range(3)]).rows().train
    record = [(1, 2, 0.5, 4), (1, 1, 0.9, 4), (3, 1, 0.7, 1), (3, 1, 0.3, 3), (9, 1, 0.1, 4)]
    text = "".join(
        json.dumps({"place": {"file": "examples.jsonl", "line": line}, "epoch": epoch, "loss": loss, "tokens": tokens}) + "\n"
        for line, epoch, loss, tokens in record
    )
    (tmp_path / "rows.jsonl").write_text(text + '{"place": {"fi')
    assert read_losses(tmp_path / "rows.jsonl", train) == [[0.9, 0.5], [], [pytest.approx(0.4)]]
    assert read_losses(tmp_path / "rows.jsonl", [train[0], train[0]]) == [[], []]


def test_a_jobs_rows_are_checked_with_its_record(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text("\n".join(chat(f"{said} {n}", output) for n, (said, output) in enumerate(asked(40))), encoding="utf-8")
    workspace = Workspace(tmp_path / "home")
    job = workspace.jobs.create(base="starter", source=str(path), suffix="", wishes=Wishes())
    dataset = build(path, job.folder / "dataset")
    assert "no_row_losses" in {f.code for f in workspace.check_job(job.id).report.findings}
    record = [
        {"place": {"file": e.place.file, "line": e.place.line}, "epoch": epoch, "loss": 3.0 if n == 4 else 0.9 / epoch, "tokens": 5}
        for n, e in enumerate(dataset.train)
        for epoch in (1, 2)
    ]
    (job.folder / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in record))
    review = workspace.check_job(job.id)
    (finding,) = [f for f in review.report.findings if f.code == "never_learned"]
    assert [row.place for row in finding.rows] == [dataset.train[4].place]
    with pytest.raises(DataError) as caught:
        review.fix(tmp_path / "out.jsonl")
    assert caught.value.code == "rows_of_a_job"
