"""A lock is one holder's, and free at the moment that the holder lets go of it."""

from sqlalchemy import create_engine, text

from datasets_defs.store.locks import held


def test_one_holder(database_url: str) -> None:
    """Whoever comes second is told so; another name is free."""
    db = create_engine(database_url)
    with held(db, "space", "a") as first, held(db, "space", "a") as second, held(db, "space", "b") as other:
        assert (first, second, other) == (True, False, True)


def test_free_at_once(database_url: str) -> None:
    """A lock that was given back is there for the next, however soon it comes."""
    db = create_engine(database_url)
    for _ in range(200):
        with held(db, "space", "a") as is_mine:
            assert is_mine


def test_a_lost_connection_lets_go(database_url: str) -> None:
    """The server's end of the connection is the end of the lock, and no error of whoever held it."""
    db = create_engine(database_url)
    with held(db, "space", "a"), db.begin() as on:
        on.execute(
            text(
                "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted "
                "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            )
        )
