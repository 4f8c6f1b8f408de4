"""Where a rollback goes is read from all changes of champion: after going back, the version before is still there."""

import sqlalchemy as sa
from alembic import op
revision = '0011'
down_revision = '0010'
branch_labels = None
depends_on = None


def upgrade() -> None:
    on = op.get_bind()
    models = on.execute(sa.text("SELECT model FROM champion WHERE previous_version IS NULL")).scalars().all()
    for model in models:
        changes = sa.text("SELECT kind, to_version FROM promotion WHERE model = :model ORDER BY token")
        way: list[int] = []
        kind = None
        for kind, version in on.execute(changes, {"model": model}):
            if kind in ("drill", "drill_end"):
                continue
            if kind == "promote" or version not in way:
                way.append(version)
            else:
                del way[len(way) - way[::-1].index(version):]
        previous = next((version for version in reversed(way[:-1]) if version != way[-1]), None)
        if previous is not None and kind != "drill":
            values = {"model": model, "previous": previous}
            on.execute(sa.text("UPDATE champion SET previous_version = :previous WHERE model = :model"), values)


def downgrade() -> None:
    pass  # what an older release would have left out does it no harm
