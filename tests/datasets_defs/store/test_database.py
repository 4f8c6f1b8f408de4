"""Nothing of the database is waited for without end."""

from datetime import timedelta

import pytest
from sqlalchemy import make_url, text

from datasets_defs.core.errors import TransientError
from datasets_defs.store import database
from datasets_defs.store.database import allow, database_errors, engine_for
from tests.proxy import proxy


def test_a_server_that_never_answers(database_url: str, monkeypatch: pytest.MonkeyPatch):
    """A host that accepts and falls silent is TransientError after the limit; once it speaks again all is well."""
    monkeypatch.setattr(database, "SILENCE_SECONDS", 0.5)
    address = make_url(database_url)
    with proxy(address.port or 5432) as between:
        engine = engine_for(address.set(port=between.port).render_as_string(hide_password=False), statement_seconds=1)
        with engine.connect() as on:
            assert on.scalar(text("SELECT 1")) == 1
            between.freeze()
            with pytest.raises(TransientError, match="reading"), database_errors("reading"):
                on.scalar(text("SELECT 2"))
        between.thaw()
        with engine.connect() as on:
            assert on.scalar(text("SELECT 3")) == 3
        engine.dispose()


def test_a_statement_that_takes_too_long(database_url: str):
    """The server ends it, the error says so, and the connection is good for the next."""
    engine = engine_for(database_url, statement_seconds=0.2)
    with engine.connect() as on:
        with pytest.raises(TransientError, match="took too long"), database_errors("reading"):
            on.execute(text("SELECT pg_sleep(20)"))
        on.rollback()
        assert on.scalar(text("SELECT 1")) == 1
    engine.dispose()


def test_who_needs_longer_says_so(database_url: str):
    """Within `allow` a statement may take its time; the next transaction has the usual limit again."""
    engine = engine_for(database_url, statement_seconds=0.2)
    with engine.connect() as on:
        with allow(on, timedelta(seconds=30)):
            on.execute(text("SELECT pg_sleep(0.5)"))
        on.commit()
        with pytest.raises(TransientError), database_errors("reading"):
            on.execute(text("SELECT pg_sleep(20)"))
    engine.dispose()


def test_every_session_has_a_limit(engine):
    """A statement's limit holds in every session of the loop's engines."""
    with engine.connect() as on:
        assert on.scalar(text("SHOW statement_timeout")) == "45s"
