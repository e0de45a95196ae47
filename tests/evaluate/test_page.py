import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from journeyman.evaluate.card import card
from journeyman.evaluate.consistency import Asked, consistency
from journeyman.evaluate.forgetting import Measured, forgetting
from journeyman.evaluate.measures import measures
from journeyman.evaluate.page import SHAPES, Subject, page
from journeyman.evaluate.probing import Probe, Probed
from journeyman.evaluate.report import Saving, evaluate_pair
from journeyman.evaluate.run import ScoredRow, Scores
from journeyman.generate.likelihood import Likelihood
from journeyman.grade.score import Graded, Score
from journeyman.records import Place, Usage

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"


def row(line, passed, output):
    return ScoredRow(
        Place("held.jsonl", line), f"input {line} {HOSTILE}", "a" if line % 2 else "b", output,
        Graded((Score("right", float(passed), passed),), passed), "end", Usage(10, 2),
    )  # fmt: skip


@pytest.fixture(scope="module")
def evaluation():
    before = Scores("base", tuple(row(i, i < 5, "a") for i in range(60)))
    after = Scores("tuned", tuple(row(i, i >= 2, f"b {HOSTILE}") for i in range(60)))
    probes = [Probe("grammar", Place("p", i), context=f"{i} {HOSTILE}", right="r", wrong=("w",)) for i in range(60)]
    texts = tuple(Likelihood(-100.0 - i, 50, 10 + i) for i in range(24))
    base = Measured(tuple(Probed(True, "r") for _ in probes), texts)
    tuned = Measured(tuple(Probed(i >= 12, "w") for i in range(60)), texts)
    steady, shaky = Asked((("as it stands", True), ("with a typo", True))), Asked((("as it stands", True), ("with a typo", False)))
    return replace(
        evaluate_pair(before, after),
        forgetting=forgetting(base, tuned, probes),
        measures=measures(before, after),
        consistency=consistency(("base + instructions", "tuned"), [shaky] * 20, [steady] * 20),
        saving=Saving(1000.0, 40.0, price=0.5),
    )


SUBJECT = Subject(
    model="ft:tiny:local::Ab12Cd34",
    base="tiny",
    task=f"triage {HOSTILE}",
    created="2026-01-02",
    trained_rows=100,
    method="lora",
    dataset_hash="d" * 64,
    base_fingerprint="b" * 64,
    plan=[("epochs", "3", "the usual 3 passes")],
    check={"verdict": "warnings", "ready": "ready with remarks", "findings": [{"code": "facts", "severity": "warning", "message": f"a {HOSTILE}"}]},
    validations=[{"step": 5, "train_loss": 1.5, "valid_loss": 1.2, "score": 0.5, "general_prose": 0.2}],
    overfitting="Overfitting after step 5",
    compare={"contenders": [{"name": "base + retrieval", "score": 0.4, "interval": [0.3, 0.5], "tokens_per_request": 210}], "advice": {"verdict": "use retrieval", "reason": "the failures are about facts"}},
    reproduce=["journeyman train triage"],
)  # fmt: skip


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags, self.attributes = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]


def test_it_loads_nothing_and_runs_nothing_of_the_rows(evaluation):
    html = page(evaluation, SUBJECT)
    found = Tags()
    found.feed(html)
    assert found.tags.count("script") == 2
    assert not {"img", "link", "iframe"} & set(found.tags)
    assert not {"src", "href", "onerror", "onclick"} & set(found.attributes)
    assert "http:" not in html and "https:" not in html


def test_the_verdict_comes_first_and_every_part_is_there(evaluation):
    html = page(evaluation, SUBJECT)
    order = [
        "It got better at the task", "over the forgetting budget", "960,000 tokens per 1,000 requests", "0.48 per 1,000",
        "base + retrieval", "Gains and losses", "What it forgot", "Consistency", "Overfitting after step 5",
        "ready with remarks", "Row by row", "the usual 3 passes", "journeyman train triage",
    ]  # fmt: skip
    places = [html.index(text) for text in order]
    assert places == sorted(places)


def test_what_is_worse_is_said_by_shape_and_word(evaluation):
    html = page(evaluation, SUBJECT)
    assert SHAPES["worse"] in html
    assert len({shape[0] for shape in SHAPES.values()}) == len({shape[2:] for shape in SHAPES.values()}) == len(SHAPES)


def test_the_rows_to_search_are_all_there_those_that_changed_first(evaluation):
    data = re.search(r'id="data">(.*?)</script>', page(evaluation, SUBJECT), re.S)[1]
    rows = json.loads(data)
    assert len(rows) == 60
    kinds = [r[1] for r in rows]
    assert kinds == ["lost"] * 2 + ["gained"] * 55 + ["both"] * 3
    assert rows[0][2].endswith(HOSTILE)


def test_a_page_of_little_is_still_a_page(evaluation):
    bare = replace(evaluation, forgetting=None, measures=None, consistency=None, saving=None, labels=None)
    subject = replace(SUBJECT, plan=(), check=None, validations=(), compare=None)
    html = page(bare, subject)
    assert "It got better" in html and "What it forgot" not in html and "Consistency" not in html


def test_the_card_names_base_task_numbers_and_what_was_forgotten(evaluation):
    text = card(evaluation, SUBJECT)
    assert text.startswith("---\nbase_model: tiny\n")
    for part in ("58/60", "grammar", "▼ worse", "epochs: 3", "960,000 fewer per 1,000 requests"):
        assert part in text


def test_the_evaluation_as_json_holds_every_part(evaluation):
    value = json.loads(json.dumps(evaluation.as_dict(), allow_nan=False))
    assert value["saving"]["tokens_per_1000_requests"] == 960_000
    assert value["saving"]["money_per_1000_requests"] == pytest.approx(0.48)
    assert value["consistency"]["after"]["reliable"]["share"] == 1.0
    assert value["measures"]["exact"][0]["count"] >= 0
    assert value["forgetting"]["within_budget"] is False
