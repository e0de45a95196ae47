import pytest

from journeyman.answer.prompt import NOTES, Prompt
from journeyman.answer.retrieve import Documents, Examples, Index, passages
from journeyman.errors import TaskError
from journeyman.records import Example, Message, Place
from journeyman.task import bundled


def asked(text):
    return (Message("user", text),)


def test_the_nearest_text_shares_the_rare_words():
    index = Index(["the oven is hot", "the kiln is hot today", "the shop is open"])
    assert index.nearest("Is the KILN on?", 1) == [1]
    assert index.nearest("hot", 5) == [0, 1]
    assert index.nearest("zebra", 5) == []
    assert Index([]).nearest("hot", 3) == []


def test_documents_are_cut_at_empty_lines_under_their_headings(tmp_path):
    (tmp_path / "a.md").write_text(
        "# Shop\n\none two three\n\nfour five six\n\n## Hours\nnine to five\n\n# Other\n\nend\n"
    )
    (tmp_path / "notes.pdf").write_bytes(b"\xff\xfe")
    found = passages(tmp_path, words=4)
    assert [(p.place, p.text) for p in found] == [
        ("a.md:3", "# Shop\none two three"),
        ("a.md:5", "# Shop\nfour five six"),
        ("a.md:8", "# Shop\n## Hours\nnine to five"),
        ("a.md:12", "# Other\nend"),
    ]


def test_no_word_of_a_document_is_lost(tmp_path):
    folder = bundled("support") / "documents"
    found = passages(folder)
    for path in folder.glob("*.md"):
        kept = " ".join(p.text for p in found if p.document == path.name).split()
        assert set(path.read_text().split()) <= set(kept)
    assert max(len(p.text.split()) for p in found) < 160


def test_documents_without_text_or_in_another_encoding_are_named(tmp_path):
    with pytest.raises(TaskError, match="no text") as empty:
        passages(tmp_path)
    assert empty.value.code == "no_documents"
    (tmp_path / "bad.txt").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(TaskError) as bad:
        passages(tmp_path)
    assert "bad.txt" in str(bad.value)


def test_what_was_retrieved_is_in_the_prompt_and_on_record():
    documents = Documents(bundled("support") / "documents")
    prompt = Prompt("Be kind.", passages=lambda c: documents.nearest(c, 2))
    sent = prompt.ask(asked("Is the Harbour mug in Lagoon glaze on the shelf?"))
    assert sent.passages[0].startswith("stock.md:")
    assert sent.messages[0].content.startswith(f"Be kind.\n\n{NOTES}\n\n# Stock list")
    assert len(sent.passages) == 2


def test_the_nearest_examples_answer_the_like_question():
    rows = [
        Example((Message("user", text), Message("assistant", "x")), Place("t", line))
        for line, text in enumerate(
            ("my card was stolen", "exchange rate of the dollar", "card not arrived"), 1
        )
    ]
    assert [e.place.line for e in Examples(rows).nearest(asked("has my card arrived?"), 2)] == [3, 1]
