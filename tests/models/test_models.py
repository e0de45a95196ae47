"""Bases, ids and the registry."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from hypothesis import given
from hypothesis import strategies as st

from journeyman import database
from journeyman.errors import BaseNotFound, ModelConflict, ModelNotFound, PlanError
from journeyman.jobs.store import JobStore
from journeyman.models import bases as base_models
from journeyman.models.names import ModelName, new_name
from journeyman.models.registry import Registry, Version
from journeyman.plan.plan import Wishes


def sqlite(folder: Path) -> str:
    return f"sqlite:///{folder / 'home' / 'journeyman.db'}"


@pytest.fixture
def registry(tmp_path) -> Registry:
    return Registry(database.open_database(sqlite(tmp_path)), tmp_path)


def version(key: str = "Ab12Cd34", job: str = "ftjob-1", at: float = 1.0) -> Version:
    return Version(
        id=f"ft:starter-1:local::{key}", job=job, base="starter-1", base_source="starter-1", base_fingerprint="f",
        dataset_hash="d", method="lora", plan={"steps": 3}, metrics={"best_step": 2}, files={"a": "b"},
        folder=Path("/somewhere/model"), created_at=at,
    )  # fmt: skip


# ── the database ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_migrations_make_the_tables(tmp_path):
    engine = database.open_database(sqlite(tmp_path))
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, database.metadata) == []
        assert context.get_current_revision() == database.HEAD


def test_the_newest_migration_is_the_head():
    from alembic.script import ScriptDirectory

    script = ScriptDirectory(str(Path(database.__file__).parent / "migrations"))
    assert script.get_heads() == [database.HEAD]


def test_jobs_that_were_of_no_project_are_of_the_default_one_from_0006_on(tmp_path):
    store = JobStore(database.open_database(sqlite(tmp_path)), tmp_path / "jobs")
    ids = {p: store.create(base="b", source="s", suffix="", wishes=Wishes(), project=p).id for p in ("", "shop")}
    with store.engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '0005'"))
    again = JobStore(database.open_database(sqlite(tmp_path)), tmp_path / "jobs")
    assert {p: again.get(ids[p]).project for p in ids} == {"": "default", "shop": "shop"}


def test_a_database_that_is_there_is_opened_as_it_is(tmp_path):
    Registry(database.open_database(sqlite(tmp_path)), tmp_path).add(version())
    again = Registry(database.open_database(sqlite(tmp_path)), tmp_path)
    assert [v.id for v in again.list()] == [version().id]


def test_opening_a_database_that_is_there_does_not_import_alembic(tmp_path):
    database.open_database(sqlite(tmp_path))
    code = f"""if True:
        import sys
        from journeyman import database
        database.open_database({sqlite(tmp_path)!r})
        assert "alembic" not in sys.modules and "torch" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", code], check=True)


def test_several_processes_may_open_a_fresh_database_at_once(tmp_path):
    """Each waits for the same moment, opens, and writes a model of its own."""
    go = tmp_path / "go"
    code = f"""if True:
        import sys, time, pathlib
        from journeyman import database
        from journeyman.models.registry import Registry
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        from test_models import version
        pathlib.Path({str(tmp_path)!r}, "ready-" + sys.argv[1]).touch()
        while not pathlib.Path({str(go)!r}).exists():
            time.sleep(0.001)
        registry = Registry(database.open_database({sqlite(tmp_path)!r}), pathlib.Path({str(tmp_path)!r}))
        registry.add(version("Ab12Cd3" + sys.argv[1], "ftjob-" + sys.argv[1]))
    """
    processes = [
        subprocess.Popen([sys.executable, "-c", code, str(n)], stderr=subprocess.PIPE, text=True) for n in range(5)
    ]
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("ready-*"))) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    go.touch()
    errors = [process.communicate(timeout=60)[1] for process in processes]
    assert [p.returncode for p in processes] == [0] * 5, errors
    assert len(Registry(database.open_database(sqlite(tmp_path)), tmp_path).list()) == 5


# ── ids ───────────────────────────────────────────────────────────────────────────────────────────────────────────

PART = st.text(st.sampled_from("abcXYZ019-_."), min_size=1, max_size=64)


@given(base=PART | st.just("Qwen/Qwen3-0.6B"), org=PART, suffix=PART | st.just(""))
def test_an_id_says_its_parts(base, org, suffix):
    name = new_name(base, org, suffix)
    assert ModelName.parse(str(name)) == name
    assert (name.base, name.org, name.suffix) == (base, org, suffix)
    assert len(name.key) == 8 and name.key.isalnum() and name.key.isascii()


def test_what_is_no_id_is_none():
    for text in ("", "starter", "ft:a:b:c", "ft:a:b:c:1234567", "ft:a:b:c:123456789", "ft:a:b:c:1234 678",
                 "xft:a:b:c:12345678", "ft:a:b:c:12345678\n"):  # fmt: skip
        assert ModelName.parse(text) is None


@pytest.mark.parametrize("suffix", ["a b", "a/b", "a:b", "x" * 65, "ü", "a\n", "..\\"])
def test_a_suffix_that_can_not_be_part_of_an_id_is_refused(suffix):
    with pytest.raises(PlanError) as caught:
        new_name("starter-1", "local", suffix)
    assert caught.value.where == "suffix"
    assert repr(suffix) in caught.value.message


def test_ids_do_not_repeat():
    assert len({str(new_name("b", "o", "")) for _ in range(1000)}) == 1000


# ── the registry ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_registered_comes_back(registry):
    assert registry.add(version()) == version()
    assert registry.get(version().id) == version()


def test_a_job_is_registered_once(registry):
    """Its process may die right after registering: the second run keeps the first id."""
    first = registry.add(version("Ab12Cd34"))
    assert registry.add(version("Zz99Zz99")) == first
    assert [v.id for v in registry.list()] == [first.id]


def test_the_newest_comes_first(registry):
    for at, key in ((1.0, "Ab12Cd31"), (3.0, "Ab12Cd33"), (2.0, "Ab12Cd32")):
        registry.add(version(key, f"ftjob-{key}", at))
    assert [v.created_at for v in registry.list()] == [3.0, 2.0, 1.0]


def test_an_unknown_id_is_an_error_that_names_no_other_model(registry):
    """They may be those of other projects; who may list them is told how."""
    registry.add(version())
    with pytest.raises(ModelNotFound, match="ft:nobody") as caught:
        registry.get("ft:nobody")
    assert version().id not in str(caught.value) and "`journeyman models`" in caught.value.fix


def test_an_alias_means_a_model_until_it_means_another(registry):
    one, two = registry.add(version()), registry.add(version("Zz99Zz99", "ftjob-2"))
    registry.set_alias("live", one.id)
    assert registry.get("live") == one
    registry.set_alias("live", two.id)
    assert registry.get("live") == two
    registry.set_alias("next", "live")
    assert registry.aliases() == {"live": two.id, "next": two.id}


@pytest.mark.parametrize(
    "alias", ["starter", "starter-1", "ft:a:b:c:12345678", "Qwen/Qwen3-0.6B", "", "two words", "a" * 65, "../up"]
)
def test_an_alias_never_hides_a_base_or_an_id_and_is_a_word(registry, alias):
    registry.add(version())
    with pytest.raises(ModelConflict, match=r"already means a base|can't be an alias"):
        registry.set_alias(alias, version().id)
    assert registry.aliases() == {}


def test_an_alias_of_nothing_is_refused(registry):
    with pytest.raises(ModelNotFound):
        registry.set_alias("live", "ft:nobody")


def test_a_removed_alias_leaves_its_model(registry):
    registry.add(version())
    registry.set_alias("live", version().id)
    assert registry.remove_alias("live") == version()
    assert (registry.aliases(), registry.list()) == ({}, [version()])
    with pytest.raises(ModelNotFound, match="there is no alias 'live'"):
        registry.remove_alias("live")


def test_a_removed_model_takes_its_aliases_along(registry):
    registry.add(version())
    other = registry.add(version("Zz99Zz99", "ftjob-2"))
    registry.set_alias("live", version().id)
    registry.set_alias("other", other.id)
    with pytest.raises(ModelConflict, match=version().id) as caught:
        registry.remove("live")
    assert caught.value.code == "model_not_deletable"
    assert registry.remove(version().id) == version()
    assert registry.aliases() == {"other": other.id}
    for name in ("live", version().id):
        with pytest.raises(ModelNotFound):
            registry.get(name)


# ── bases ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_folder_is_a_base_and_its_name_fits_into_an_id(bases, tmp_path):
    folder = tmp_path / "my model: v2"
    shutil.copytree(bases("llama"), folder)
    base = base_models.resolve(str(folder))
    assert base.folder == folder
    assert base_models.resolve(base.source) == base
    assert ModelName.parse(str(new_name(base.name, "local", ""))).base == base.name


def test_the_fingerprint_follows_the_content_and_not_the_place(bases, tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    shutil.copytree(bases("llama"), one)
    shutil.copytree(bases("llama"), two)
    first = base_models.resolve(str(one)).fingerprint
    assert base_models.resolve(str(two)).fingerprint == first
    (two / "README.md").write_text("a note changes no model")
    assert base_models.resolve(str(two)).fingerprint == first
    for file in ("config.json", "tokenizer.json", "model.safetensors"):
        content = (two / file).read_bytes()
        (two / file).write_bytes(content + b" ")
        assert base_models.resolve(str(two)).fingerprint != first, file
        (two / file).write_bytes(content)
    assert base_models.resolve(str(two)).fingerprint == first


def test_what_is_not_here_says_what_can_be_given(tmp_path):
    with pytest.raises(BaseNotFound, match="no-such-model") as caught:
        base_models.resolve("no-such-model")
    assert "starter" in caught.value.fix
    with pytest.raises(BaseNotFound, match=r"config\.json"):
        base_models.resolve(str(tmp_path))


def test_a_hub_id_that_is_neither_cached_nor_reachable_is_an_error_and_not_a_traceback(tmp_path):
    """The suite runs with HF_HUB_OFFLINE: nothing is fetched."""
    with pytest.raises(BaseNotFound, match=r"nobody/no-such-model is not in the local hub cache"):
        base_models.resolve("nobody/no-such-model")


def test_a_version_is_frozen():
    with pytest.raises(AttributeError):
        version().id = "other"  # type: ignore[misc]
    assert replace(version(), id="other").id == "other"


def test_sqlite_waits_for_a_writer(tmp_path):
    engine = database.open_database(sqlite(tmp_path))
    with engine.connect() as connection:
        assert connection.execute(sa.text("PRAGMA busy_timeout")).scalar() == 30_000
        assert connection.execute(sa.text("PRAGMA journal_mode")).scalar() == "wal"
