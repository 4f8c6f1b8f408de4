"""Alembic migrations of the loop's schema."""
