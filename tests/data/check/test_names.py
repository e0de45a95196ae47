"""People's names: found by Presidio with a spaCy model that the test makes, and replaced alike in every row."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from journeyman.data.check.finding import Replace
from journeyman.data.check.private import private_in
from journeyman.data.check.stand_ins import StandIns
from journeyman.errors import RequestError
from journeyman.request import TrainRequest
from journeyman.workspace import Workspace

pytest.importorskip("presidio_analyzer", reason="the extra `names` is not installed")

PEOPLE = ("Mara Lindt", "Mara", "Ann", "Jan van Dyk", "ole berg")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    """A real pipeline on disk; it knows these people and no others."""
    import spacy

    pipeline = spacy.blank("en")
    ruler = pipeline.add_pipe("entity_ruler")
    ruler.add_patterns([{"label": "PERSON", "pattern": name} for name in PEOPLE] + [{"label": "GPE", "pattern": "Riga"}])
    folder = tmp_path_factory.mktemp("names") / "model"
    pipeline.to_disk(folder)
    return str(folder)


def written(path: Path, *pairs: tuple[str, str]) -> Path:
    rows = [{"messages": [{"role": "user", "content": a}, {"role": "assistant", "content": b}]} for a, b in pairs]
    more = [{"messages": [{"role": "user", "content": f"Is shelf {n} oak?"}, {"role": "assistant", "content": f"Shelf {n} is pine."}]} for n in range(12)]
    path.write_text("\n".join(map(json.dumps, [*rows, *more])))
    return path


def test_names_are_named_and_mended_alike_in_every_row(tmp_path, model):
    file = written(
        tmp_path / "rows.jsonl",
        ("I'm Mara Lindt. My Annual pass for Riga is gone.", "Hello Mara, we ask Ann."),
        ("Mara Lindt again, at mara.lindt@posteo.de", "Hello Mara, Jan van Dyk looks at it."),
    )
    workspace = Workspace(tmp_path / "home")
    review = workspace.check(TrainRequest(str(file)), names=model)
    (finding,) = [f for f in review.report.findings if f.code == "private_data"]
    assert finding.numbers["kinds"] == {"name": 6, "e-mail": 1}
    pairs = dict(pair for row in finding.rows if isinstance(row.mend, Replace) for pair in row.mend.pairs)
    first, last = pairs["Mara Lindt"].split()
    assert pairs["Mara"] == first and pairs["Ann"] not in (first, last)
    assert pairs["Jan van Dyk"].split()[1] == "van"

    mended = tmp_path / "mended.jsonl"
    review.fix(mended)
    text = mended.read_text()
    assert "Annual pass for Riga" in text and f"I'm {first} {last}." in text and f"Hello {first}, we ask {pairs['Ann']}." in text
    assert not any(name in text for name in ("Mara", "Lindt", "Dyk", "we ask Ann"))
    again = workspace.check(TrainRequest(str(mended)), names=model)
    assert "private_data" not in {f.code for f in again.report.findings}
    assert all(f.numbers["kinds"] == {"e-mail": 1} for f in workspace.check(TrainRequest(str(file))).report.findings if f.code == "private_data")


def test_a_part_of_a_name_is_replaced_wherever_it_stands_in_its_row(tmp_path, model):
    file = written(
        tmp_path / "rows.jsonl",
        ("I'm Mara Lindt.", "Hello Mrs Lindt, LINDT it is. Lindtner's too?"),
        ("Who makes Lindt?", "Lindt does."),
        ("I may go. My boss is Jan van Dyk", "May is a month."),
    )
    review = Workspace(tmp_path / "home").check(TrainRequest(str(file)), names=model)
    review.fix(tmp_path / "mended.jsonl")
    rows = [[m["content"] for m in json.loads(line)["messages"]] for line in (tmp_path / "mended.jsonl").read_text().splitlines()]
    said, answer = rows[0]
    last = said.removeprefix("I'm ").strip(".").split()[1]
    assert answer == f"Hello Mrs {last}, {last.upper()} it is. Lindtner's too?" and last != "Lindt"
    assert rows[1] == ["Who makes Lindt?", "Lindt does."], "elsewhere it may be something else"
    assert rows[2][1] == "May is a month."


def test_a_stand_in_is_of_the_names_shape_and_nobody_else() -> None:
    stand_ins, given = StandIns(), []
    for n in range(2000):
        text = f"Na{'abcdefghij'[n % 10]}{'abcdefghij'[n // 10 % 10]}{'abcdefghij'[n // 100 % 10]}{'ab'[n // 1000]}"
        (found,) = private_in(text, (), [(0, len(text))])
        given.append(stand_ins.stand_in(found))
    assert len(set(given)) == 2000
    assert all(private_in(one, (), [(0, len(one))]) == [] for one in given), "it is not found again"
    (low,) = private_in("ole berg", (), [(0, 8)])
    assert stand_ins.stand_in(low).islower() and len(stand_ins.stand_in(low).split()) == 2


def test_of_a_key_that_runs_on_nothing_stays(tmp_path):
    """Names are replaced as whole words; a key, which may have letters only, wherever it stands."""
    begun = "-----BEGIN RSA PRIVATE KEY-----"
    file = written(tmp_path / "rows.jsonl", (f"My key: {begun}MIIEow is lost", "We can't help with that."))
    review = Workspace(tmp_path / "home").check(TrainRequest(str(file)))
    review.fix(tmp_path / "mended.jsonl")
    text = (tmp_path / "mended.jsonl").read_text()
    assert begun not in text and "[SECRET_1]" in text


@pytest.mark.parametrize("name", ["en_core_web_nowhere", "empty"])
def test_a_model_that_is_not_here_is_refused_and_not_fetched(tmp_path, name, monkeypatch):
    monkeypatch.setattr("spacy.cli.download", lambda *_: pytest.fail("nothing is fetched"))
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "meta.json").write_text("{}")
    wanted = str(tmp_path / name) if name == "empty" else name
    with pytest.raises(RequestError) as refused:
        Workspace(tmp_path / "home").check(TrainRequest(str(written(tmp_path / "rows.jsonl"))), names=wanted)
    assert (refused.value.code, refused.value.where) == ("unusable_names_model", "--names")
