"""Write the tables of docs/results.md and docs/performance.md from the files that the other scripts wrote.

    python benchmarks/tables.py

Each table stands between `<!-- NAME -->` and `<!-- end -->` in its page; the text around them is written by hand.
"""

from __future__ import annotations

import re
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from journeyman.files import read_jsonl

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs"
Row = dict[str, Any]


def rows(name: str) -> list[Row]:
    """A result file's rows; none where it was not made yet."""
    path = HERE / "results" / name
    return [dict(row) for row in read_jsonl(path)] if path.is_file() else []


def table(head: Sequence[str], body: Iterable[Sequence[str]]) -> str:
    """A Markdown table, its first column text and the others numbers."""
    lines = [list(head), ["---", *["---:"] * (len(head) - 1)], *map(list, body)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def rate(passed: Row) -> str:
    """A pass rate with its count."""
    return f"{passed['passed'] / passed['rows']:.1%} ({passed['passed']:,}/{passed['rows']:,})"


def tasks(results: list[Row]) -> str:
    """A line a task: before, after for each seed, the mean of the seeds and the seconds of training."""
    by_task: dict[str, list[Row]] = defaultdict(list)
    for row in results:
        by_task[row["task"]].append(row)
    seeds = sorted({row["seed"] for row in results})
    body = []
    for task, found in by_task.items():
        before = next((rate(row["before"]) for row in found if row["before"]), "not measured")
        after = {row["seed"]: row["tuned"]["passed"] / row["tuned"]["rows"] for row in found}
        cells = [f"{after[seed]:.1%}" if seed in after else "" for seed in seeds]
        seconds = statistics.median(row["train_s"] for row in found)
        body.append([task, f"{found[0]['tuned']['rows']:,}", before, *cells, f"{statistics.mean(after.values()):.1%}", f"{seconds:.0f}"])
    return table(["task", "held-out rows", "before", *(f"seed {s}" for s in seeds), "mean", "training, s"], body)


def graders(results: list[Row], task: str) -> str:
    """Which graders a tuned model passes, over all seeds."""
    found = [row for row in results if row["task"] == task]
    before = next((row["before"] for row in found if row["before"]), None)
    body = []
    for name in found[0]["tuned"]["graders"] if found else ():
        passed = sum(row["tuned"]["graders"][name] for row in found) / sum(row["tuned"]["rows"] for row in found)
        was = f"{before['graders'][name] / before['rows']:.1%}" if before else ""
        body.append([name, was, f"{passed:.1%}"])
    return table(["grader", "before", "after, all seeds"], body)


def samples(results: list[Row], task: str) -> str:
    """The first held-out rows of a task as the tuned model answers them, whether they pass or not."""
    shown = next((row["samples"] for row in results if row["task"] == task and row.get("samples")), [])
    out = []
    for number, sample in enumerate(shown, 1):
        asked = f"asked: {_short(sample['input'])}\n\n" if "input" in sample else ""
        wanted = "" if sample["passed"] else f"\n\nideal: {_short(sample['ideal'])}"
        verdict = "passes" if sample["passed"] else "fails"
        out.append(f"{number}, {verdict}. {asked}{_quoted(sample['output'] or '')}{wanted}")
    return "\n\n".join(out)


def _short(text: str, most: int = 300) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else f"{text[:most]} …"


def _quoted(text: str) -> str:
    return "\n".join(f"    {line}".rstrip() for line in text.splitlines() or [""])


def sweep(found: list[Row]) -> str:
    """A line a training: what was changed from the plan's own choice."""
    body = [
        [row["task"], row["changed"], f"{row['learning_rate']:g}", str(row["rank"]) if row["method"] == "lora" else "all weights",
         f"{row['valid_loss']:.3f}", f"{row['valid_token_accuracy']:.1%}"]
        for row in found
    ]
    return table(["task", "changed", "learning rate", "rank", "best validation loss", "token accuracy"], body)


def pretraining(starter: list[Row], random: list[Row]) -> str:
    """A line a task: the starter beside random weights of its shape, on the seeds that both have."""
    body = []
    for task in dict.fromkeys(row["task"] for row in random):
        drawn = {row["seed"]: row for row in random if row["task"] == task}
        ours = {row["seed"]: row for row in starter if row["task"] == task and row["seed"] in drawn}
        cells = []
        for found in (ours, drawn):
            passed = statistics.mean(row["tuned"]["passed"] / row["tuned"]["rows"] for row in found.values())
            loss = statistics.mean(row["metrics"]["best_valid_loss"] for row in found.values())
            cells.append((f"{passed:.1%}", f"{loss:.3f}"))
        (score, loss), (drawn_score, drawn_loss) = cells
        body.append([task, str(len(ours)), score, drawn_score, loss, drawn_loss])
        for name in [n for n in next(iter(ours.values()))["tuned"] if n.startswith("mean_")]:
            means = [statistics.mean(row["tuned"][name] for row in found.values()) for found in (ours, drawn)]
            body.append([f"{task}, {name.removeprefix('mean_').replace('_', ' ')}", str(len(ours)), *(f"{m:.1%}" for m in means), "", ""])
    return table(["task", "seeds", "starter", "random weights", "validation loss, starter", "random weights"], body)


def pays(found: list[Row]) -> str:
    """A line a variant: wrong labels and score, seed by seed."""
    by_variant: dict[str, list[Row]] = defaultdict(list)
    for row in sorted(found, key=lambda row: row["seed"]):
        by_variant[row["variant"]].append(row)
    names = {"clean": "clean", "planted": "a tenth of the labels wrong", "mended": "the same after `check --fix --relabel`"}
    body = []
    for variant, title in names.items():
        rows = by_variant[variant]
        wrong = ", ".join(str(row["wrong_labels"]) for row in rows)
        mean = statistics.mean(row["score"] for row in rows)
        body.append([title, wrong, *(f"{row['score']:.1%}" for row in rows), f"{mean:.1%}"])
    return table(["trained on", "wrong labels", *(f"seed {row['seed']}" for row in by_variant["clean"]), "mean"], body)


def subjects(found: list[Row]) -> str:
    """A line a rule, set and number of rows left: recall, precision and subjects found at each share, over all seeds."""
    shares = sorted({row["share"] for row in found if row["share"]})
    none: dict[tuple[str, str], list[Row]] = defaultdict(list)
    by_line: dict[tuple[str, str, int], dict[float, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in found:
        if row["share"]:
            by_line[row["rule"], row["set"], row["left"]][row["share"]].append(row)
        else:
            none[row["rule"], row["set"]].append(row)
    body = []
    for (rule, name, left), at in sorted(by_line.items()):
        cells = [f"`{rule}`, {name}, {left} left"]
        for share in shares:
            planted, named, right, of, seen = (
                sum(row[key] for row in at[share]) for key in ("planted", "named", "right", "subjects", "subjects_found")
            )
            precision = f"{right / named:.2f}" if named else "–"
            cells.append(f"{right / planted:.2f} / {precision} / {seen} of {of}" if planted else "–")
        clean = none[rule, name]
        cells.append(f"{sum(row['named'] for row in clean)} of {sum(row['of'] for row in clean):,}" if clean else "–")
        body.append(cells)
    return table(["rule, set, rows left", *(f"{share:.0%} of the subjects" for share in shares), "named of rows as they are"], body)


def learned(found: list[Row]) -> str:
    """A line a share and rule: the rows named, and how many of them were planted, over all seeds."""
    body = []
    for share in sorted({row["share"] for row in found}):
        of = [row for row in found if row["share"] == share]
        size, flipped, copies = (sum(row[key] for row in of) for key in ("rows", "flipped", "copies"))
        for code in ("never_learned", "forgotten_again", "learned_at_once"):
            named, wrong, again = (sum(row[code][key] for row in of) for key in ("named", "flipped", "copies"))
            cells = [f"{part} of {whole}" for part, whole in ((wrong, flipped), (again, copies))]
            body.append([f"{share:.0%}, `{code}`", str(len(of)), f"{named} of {size:,}", *cells])
    return table(["flipped, rule", "trainings", "rows named", "flipped labels among them", "copies among them"], body)


def forgetting(found: list[Row]) -> str:
    """A line a case: the task, what was lost elsewhere (means over seeds), and how many seeds are over the budget."""
    by_case: dict[str, list[Row]] = defaultdict(list)
    for row in found:
        by_case[row["case"]].append(row)
    body = []
    for case, seeds in by_case.items():
        passed = statistics.mean(row["passed"] / row["rows"] for row in seeds)
        changes = [f"{100 * statistics.mean(_change(row, name) for row in seeds):+.1f}" for name in SHOWN_SKILLS]
        loss = statistics.mean(row["text_loss"]["tuned"] - row["text_loss"]["base"] for row in seeds)
        over = sum(not row["within_budget"] for row in seeds)
        body.append([case, f"{passed:.1%}", *changes, f"{loss:+.2f}", f"{over} of {len(seeds)}"])
    return table(["training", "task", *SHOWN_SKILLS, "loss on prose", "over budget"], body)


SHOWN_SKILLS = ("general prose", "grammar", "reading", "memory", "json")
"""Skills on which the starter is not at chance."""


def _change(row: Row, name: str) -> float:
    skill = next(s for s in row["skills"] if s["name"] == name)
    return float(skill["tuned"] - skill["base"])


def simulation(found: list[Row]) -> str:
    """A line a simulated case: how often "better" and "worse" were said, and the interval covered the truth."""
    body = [
        [row["kind"], str(row["rows"]), f"{row['effect']:+.0%}", f"{row['better']:.1%}", f"{row['worse']:.1%}", f"{row['covered']:.1%}"]
        for row in found
    ]
    return table(["grade", "rows", "true difference", "said better", "said worse", "interval covers"], body)


def compared(found: list[Row]) -> str:
    """A line a contender and task: its score with the interval, the mean of the seeds, and the advice."""
    by_task: dict[str, list[Row]] = defaultdict(list)
    for row in found:
        by_task[row["name"]].append(row)
    body = []
    for task, runs in by_task.items():
        verdicts = ", ".join(dict.fromkeys(run["advice"]["in_words"] for run in runs))
        for contender in runs[0]["contenders"]:
            same = [c for run in runs for c in run["contenders"] if c["name"] == contender["name"] and c["score"] is not None]
            score = f"{statistics.mean(c['score'] for c in same):.1%}" if same else "not measured"
            interval = f"{contender['interval'][0]:.1%} to {contender['interval'][1]:.1%}" if contender["interval"] else ""
            body.append([task, contender["title"], str(len(same)), score, interval, verdicts])
            task, verdicts = "", ""
    return table(["task", "contender", "seeds", "rows passed", "interval, first seed", "advice"], body)


def faults(found: list[Row]) -> str:
    """A line a run: what was killed, and what became of jobs and requests."""
    body = []
    for row in found:
        killed = ", ".join(f"{count} {kind}" for kind, count in row["killed"].items())
        statuses = ", ".join(f"{count} {status}" for status, count in row["statuses"].items())
        requests = row["requests"]
        cut = sum(count for outcome, count in requests.items() if outcome.startswith(("no server", "killed")))
        others = sum(requests.values()) - requests.get("right", 0) - cut
        body.append([
            row["database"], str(row.get("workers", 2)), f"{row['kills']} ({killed})", statuses, f"{row['same_bytes']}/{row['models']}", str(row["resumes"]),
            str(row["registered_twice"]), f"{requests.get('right', 0):,}", f"{cut:,}", str(others),
            f"{row['longest_request_s']:.0f} s", f"{row['seconds']:,} s",
        ])  # fmt: skip
    head = ["database", "workers", "kills", "jobs", "same bytes", "resumes", "registered twice", "answers right", "no server, or killed meanwhile"]
    return table([*head, "wrong, refused or hung", "longest request", "in"], body)


def soak(found: list[Row]) -> str:
    """A line a run: requests, and the server's memory over them."""
    body = [
        [f"{row['minutes']:g}", str(row["clients"]), str(1 + row.get("models", 0)), f"{row['prompts']:,}", f"{row['requests']:,}", f"{row['rss_mib_warm']:,.0f}", f"{row['rss_mib_end']:,.0f}",
         f"{row['rss_mib_most']:,.0f}", f"{row['slope_kib_s']:+.1f}", f"{row['slope_bytes_per_request']:+,.0f}"]
        for row in found
    ]  # fmt: skip
    head = ["minutes", "clients", "models", "different prompts", "requests", "MiB after a third", "MiB at the end", "MiB at most", "slope, KiB/s", "slope, bytes a request"]
    return table(head, body)


def _raced(row: Row) -> str:
    """A training's table: its workload, and by themselves the series "fp32" (a processor without bf16) and "fast" (a quicker one)."""
    return f"{row['workload']} {row['series']}" if row["series"] in ("fp32", "fast") else str(row["workload"])


def raced(found: list[Row], workload: str) -> str:
    """A line a contender and setting of the workload's newest series: medians of its runs, and ours in ratio to it."""
    mine = [row for row in found if _raced(row) == workload]
    runs: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in mine:
        if row["series"] == mine[-1]["series"]:
            runs[row["contender"], row["setting"]].append(row)
    done = {name: kept for name, rows in runs.items() if (kept := [row for row in rows if "failed" not in row])}
    ours = next((rows for (contender, _), rows in done.items() if contender == "ours"), None)
    body = []
    for (contender, setting), rows in sorted(done.items(), key=lambda item: -_median(item[1], "tokens_per_cpu_s")):
        speeds = [row["tokens_per_s"] for row in rows]
        share = statistics.median(
            row["needed_flops"] / row["tokens"] * row["tokens_per_cpu_s"] / row["peak_flops_cpu_s"] for row in rows
        )
        ratio = [f"{_median(ours, key) / _median(rows, key):.2f}" if ours else "" for key in ("tokens_per_s", "tokens_per_cpu_s")]
        body.append(
            [f"{contender}, {setting}", str(len(rows)), f"{statistics.median(speeds):,.0f} ({min(speeds):,.0f} to {max(speeds):,.0f})",
             f"{_median(rows, 'tokens_per_cpu_s'):,.0f}", *ratio, f"{share:.0%}", f"{_median(rows, 'peak_bytes') / 2**20:,.0f}",
             f"{_median(rows, 'end_to_end_s'):,.0f}", f"{_median(rows, 'held_out_loss'):.4f}"]
        )  # fmt: skip
    body += [[f"{c}, {s}", "0", rows[0]["failed"], *[""] * 7] for (c, s), rows in runs.items() if (c, s) not in done]
    head = ["contender", "runs", "tokens/s (least to most)", "tokens a processor second", "ours: times as fast", "by processor time",
            "share of peak", "peak MiB", "whole run, s", "held-out loss"]  # fmt: skip
    return table(head, body)


def lanes(found: list[Row]) -> str:
    """A line a base, task and lane; processor seconds against those of all layers with the same seed."""
    if not found:
        return "Not measured yet."
    by_setting: dict[tuple[int, str, str], list[Row]] = defaultdict(list)
    for row in found:
        by_setting[row["base_params"], row["task"], row["lane"]].append(row)
    body = []
    for (params, task, lane), mine in by_setting.items():
        every = {row["seed"]: row["processor_s"] for row in by_setting.get((params, task, "all"), [])}
        quicker = [every[row["seed"]] / row["processor_s"] for row in mine if row["seed"] in every]
        rows_asked, passed = (sum(row[name] for row in mine) for name in ("rows", "passed"))
        body.append(
            [
                f"{params / 1e6:.1f}M, {task}",
                "as the plan has it" if lane == "all" else f"`--top-layers {lane}`" if lane.isdigit() else f"`--quantise {lane}`",
                str(len(mine)),
                f"{_median(mine, 'processor_s'):.0f}",
                f"{statistics.median(quicker):.1f}" if quicker else "",
                f"{_median(mine, 'peak_bytes') / 2**20:,.0f}",
                f"{statistics.mean(row['valid_loss'] for row in mine):.3f}",
                f"{passed / rows_asked:.1%}" if rows_asked else "",
            ]
        )
    head = ["base, task", "lane", "runs", "processor s", "times as fast", "peak MiB", "validation loss", "held-out rows passed"]
    return table(head, body)


def _median(rows: list[Row], key: str) -> float:
    return statistics.median(row[key] for row in rows)


def serving(found: list[Row], dtype: str) -> str:
    """A line a scenario and system in this precision, medians of its runs; what a system did not run for."""
    runs: dict[tuple[str, str], list[Row]] = {}
    for row in found:
        if not row["quick"] and row["dtype"] == dtype:
            runs.setdefault((row["scenario"], row["system"]), []).append(row)
    if not runs:
        return "Not measured on a quiet machine yet."
    body = []
    for (scenario, system), mine in sorted(runs.items()):
        ran = [row for row in mine if "failed" not in row]
        if not ran:
            body.append([f"{scenario}, {system}", "", "did not run", *[""] * 6])
            continue
        speeds = [row["tokens_per_s"] for row in ran]
        ours = [row["tokens_per_s"] for row in runs.get((scenario, "journeyman"), []) if "failed" not in row]
        speed = f"{statistics.median(speeds):,.0f} ({min(speeds):,.0f} to {max(speeds):,.0f})"
        ratio = f"{statistics.median(ours) / statistics.median(speeds):.2f}" if ours else ""
        numbers = [
            f"{statistics.median(row[key] for row in ran):.2f}" for key in ("first_p50_s", "first_p99_s", "ready_s")
        ]
        memory = f"{statistics.median(row['rss_bytes'] for row in ran) / 2**30:.1f}" if "rss_bytes" in ran[0] else ""
        hot = f"{statistics.median(row['hot_load_ms'] for row in ran):.0f}" if "hot_load_ms" in ran[0] else ""
        body.append([f"{scenario}, {system}", str(len(ran)), speed, ratio, *numbers, memory, hot])
    head = ["scenario, system", "runs", "tokens/s (least to most)", "ours: times as fast", "first token p50, s", "p99, s", "ready, s"]
    return table([*head, "memory, GiB", "adapter load, ms"], body)


def waiting(found: list[Row]) -> str:
    """A line a way of waiting: products a second of one process alone, and of each of two."""
    by_way: dict[str, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in found:
        by_way[row["way"]][row["processes"]].append(row["products_per_s"])
    body = [
        [way, *(f"{statistics.median(of[n]):,.0f} ({min(of[n]):,.0f} to {max(of[n]):,.0f})" for n in (1, 2))] for way, of in by_way.items()
    ]
    return table(["threads that wait", "one process alone", "each of two at once"], body)


def main() -> None:
    """Fill the pages."""
    results = rows("results.jsonl")
    fill(
        DOCS / "results.md",
        {
            "tasks": tasks(results),
            **{f"graders {task}": graders(results, task) for task in ("support", "catalog")},
            "pretraining": pretraining(results, rows("random.jsonl")),
            "simulation": simulation(rows("simulation.jsonl")),
            "compared": compared(rows("compare.jsonl")),
            "lora": tasks(rows("lora.jsonl")),
            "sweep": sweep(rows("sweep.jsonl")),
            "forgetting": forgetting(rows("forgetting.jsonl")),
            "serving": serving(rows("serve.jsonl"), "bfloat16"),
            "serving fp32": serving(rows("serve.jsonl"), "float32"),
            "faults": faults(rows("faults.jsonl")),
            "soak": soak(rows("soak.jsonl")),
        },
    )
    told = ("support", "triage", "catalog", "banking77", "clinc150")
    fill(HERE.parent / "starter" / "README.md", {f"samples {task}": samples(results, task) for task in told})
    checked = {"pays": pays(rows("pays.jsonl")), "subjects": subjects(rows("subjects.jsonl")), "learned": learned(rows("learned.jsonl"))}
    fill(DOCS / "check-results.md", checked)
    trained = rows("train.jsonl")
    fill(DOCS / "performance.md", {"lanes": lanes(rows("lanes.jsonl")), "waiting": waiting(rows("waiting.jsonl"))})
    fill(DOCS / "performance.md", {name: raced(trained, name) for name in dict.fromkeys(_raced(row) for row in trained)})


def fill(page: Path, made: Mapping[str, str]) -> None:
    """Put each table into its place."""
    text = page.read_text(encoding="utf-8")
    for name, content in made.items():
        text, count = re.subn(
            rf"(<!-- {name} -->\n).*?(<!-- end -->)", lambda m, c=content: f"{m[1]}\n{c}\n\n{m[2]}", text, flags=re.DOTALL
        )
        if count != 1:
            raise SystemExit(f"{page}: there is no place for <!-- {name} -->")
    page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
