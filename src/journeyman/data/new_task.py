"""The files of a new task folder, as `journeyman init` writes them."""

from __future__ import annotations

import json
from pathlib import Path

from journeyman import files
from journeyman.errors import TaskError


def write_template(folder: Path, name: str) -> None:
    """Write a new task folder whose comments say what belongs where. Its examples pass `journeyman check`.

    Raises TaskError `folder_not_empty` rather than touch anything that is there.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise TaskError(
            "there is something here already",
            where=str(folder),
            fix="use a new name, or an empty folder",
            code="folder_not_empty",
        )
    files.write_text(folder / "instructions.md", INSTRUCTIONS)
    rows = [
        {"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]} for q, a in PAIRS
    ]
    files.write_jsonl(folder / "examples.jsonl", rows)
    files.write_text(folder / "task.toml", TASK.replace("NAME", json.dumps(name, ensure_ascii=False)))


TASK = """\
# A task: examples of what you want, and graders that say whether an answer is good.
#
#   1. Put your own pairs into examples.jsonl: one JSON object a line, OpenAI's chat format. CSV, TSV, XLSX and
#      Parquet work too: name the file below. A few hundred clean, consistent pairs are a good start.
#   2. Put the prompt you would otherwise paste into every request into instructions.md.
#   3. What changes (prices, stock, dates) does not belong into the examples: put it into a folder documents/.
#
#   journeyman check FOLDER      what is wrong with the examples, and what to do
#   journeyman plan FOLDER       every value of the training, with its reason
#   journeyman train FOLDER      ends with a model id, which `journeyman evaluate` measures

name = NAME

# The model to start from: "starter-1" (bundled), a hub id, or a folder. Left out: the bundled one.
# base = "starter-1"

# Rows kept apart before anything else, to measure on. Not used where [files] names held-out rows.
held_out_share = 0.15
validation_share = 0.1

[files]
examples = "examples.jsonl"
instructions = "instructions.md"
# held_out = "held_out.jsonl"        # your own test rows, used as they are
# validation = "validation.jsonl"
# documents = "documents"            # pages of what changes, kept out of the training

# For tables: which column is asked, which is the ideal answer. Left out: told from their names.
# [columns]
# input = "question"
# output = "answer"

# Wishes for training. What is left out is chosen from the data, the model and the machine, with the reason.
# [train]
# epochs = 3
# learning_rate = 0.0002
# rank = 16

# OpenAI grader objects. {{ sample.output_text }} is the model's answer, {{ item.ideal }} the ideal one, and
# {{ item.KEY }} any further key of the row.
[[graders]]
type = "regex"
name = "one next step"
input = "{{ sample.output_text }}"
pattern = '(?m)^Next: .+'

[[graders]]
type = "text_similarity"
name = "close to the ideal answer"
input = "{{ sample.output_text }}"
reference = "{{ item.ideal }}"
evaluation_metric = "rouge_l"
pass_threshold = 0.3
"""

INSTRUCTIONS = """\
You answer customers of a small bicycle workshop.

- Two or three short sentences, plain words, no exclamation marks.
- Say what is probably wrong before you say what to do.
- End with a line that begins with "Next: " and names one thing the customer can do now.
- Never name a price or a date: those change. Point to the desk instead.
"""

PAIRS: tuple[tuple[str, str], ...] = (
    (
        "My chain keeps jumping off when I change to the big ring.",
        "That is usually the outer limit screw of the front derailleur. A quarter turn often cures it.\nNext: bring the bike in with the chain on the small ring.",
    ),
    (
        "squeaking brakes, disc, only when wet. dangerous??",
        "Wet discs squeal, and they still stop you. If it goes on when they are dry, the pads have met oil.\nNext: brake ten times from walking pace on a dry road and listen again.",
    ),
    (
        "How much is a full service and when could you do it?",
        "Both depend on the bike and on the week, so the desk keeps the list.\nNext: call the desk and tell them the make and how far you ride.",
    ),
    (
        "I get a flat every week on the rear wheel, new tubes every time.",
        "A flat that comes back has a cause in the tyre or the rim: a thorn, a wire, a tape that moved.\nNext: mark the hole on the tube against the valve and bring tube and wheel together.",
    ),
    (
        "Can you fit a child seat to a carbon frame?",
        "We do not clamp anything to carbon tubes, because the clamp can crush them unseen. A trailer is the safe way.\nNext: send us a photo of the rear axle, so that we can see which hitch fits.",
    ),
    (
        "Thanks a lot, Ines! The gears have never been so quiet.",
        "Ines will be glad to read it. Quiet gears stay quiet with a clean chain.\nNext: wipe the chain with a dry cloth after the first wet ride.",
    ),
    (
        "The battery of my e-bike shows full but dies on the hill by the church.",
        "An old cell gives way under load while the gauge still reads full. It can be measured.\nNext: charge it overnight and bring battery and key.",
    ),
    (
        "Do you buy used bikes? I have a 1987 Peugeot racer in good shape.",
        "We buy a few each season, steel racers gladly. We have to see the frame for cracks first.\nNext: send a photo of the bottom bracket from below.",
    ),
    (
        "my daughter is 6 and 118 cm, which wheel size",
        "At 118 cm most children sit well on 20 inch wheels. What counts is that she can stand over the frame.\nNext: come by with her and let her ride two sizes in the yard.",
    ),
    (
        "I paid for a new headset and the steering still feels loose. Not happy.",
        "That should not be so, and we are sorry. New bearings settle, and the preload then needs another turn.\nNext: do not ride it downhill, and come in without an appointment.",
    ),
    (
        "Is it fine to wash the bike with a pressure washer?",
        "Better not: the jet pushes water past the seals into hubs and bearings. A bucket and a brush clean as well.\nNext: if you have done it already, spin each wheel and listen for grinding.",
    ),
    (
        "What tyre pressure for a cargo bike with two kids in front?",
        "Go by the range on the tyre's side: near its top at the front when loaded, the middle at the back.\nNext: read us the numbers on the tyre's side and we will name a pressure.",
    ),
)
