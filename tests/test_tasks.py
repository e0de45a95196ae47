"""The bundled tasks: their counts, no near-duplicates, and ideals that pass their own graders."""

import json
from collections import Counter

import numpy as np
import pytest
from rapidfuzz import fuzz, process

from journeyman.data.source import read_source
from journeyman.grade.grade import grade_all
from journeyman.grade.parse import parse
from journeyman.grade.score import Sample, item_of
from journeyman.task import Task, bundled

COUNTS = {"support": (500, 120), "triage": (600, 150), "catalog": (500, 120)}


@pytest.fixture(params=COUNTS)
def task(request):
    return Task.open(bundled(request.param))


def rows(task):
    return read_source(task.examples).kept, read_source(task.held_out).kept


def test_counts(task):
    train, held_out = rows(task)
    assert (len(train), len(held_out)) == COUNTS[task.name]


def test_no_two_inputs_are_nearly_the_same(task):
    train, held_out = rows(task)
    inputs = [e.prompt[-1].content.lower() for e in (*train, *held_out)]
    similarity = process.cdist(inputs, inputs, scorer=fuzz.token_sort_ratio, score_cutoff=70, dtype=np.float32)
    np.fill_diagonal(similarity, 0)
    assert similarity.max() == 0


def test_every_ideal_passes_its_graders(task):
    graders = parse(task.graders)
    train, held_out = rows(task)
    failed = [e.place for e in (*train, *held_out) if not grade_all(graders, Sample(e.ideal.content), item_of(e)).passed]
    assert failed == []


def test_instructions_are_a_prompt_people_would_paste():
    assert 400 <= len(Task.open(bundled("support")).instructions.split()) <= 700


def test_triage_has_nine_queues_in_both_parts():
    train, held_out = rows(Task.open(bundled("triage")))
    for part in (train, held_out):
        assert len(Counter(e.ideal.content for e in part)) == 9


def test_catalog_rows_have_seven_fields():
    train, held_out = rows(Task.open(bundled("catalog")))
    assert {len(json.loads(e.ideal.content)) for e in (*train, *held_out)} == {7}
