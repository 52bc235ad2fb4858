"""Schema migrations, packaged in the wheel and run by `upgrade`; no alembic.ini and no working directory is needed.

A revision is written once and never changed after a release. The tables of today are in `schema.py`; a test compares
what the revisions make with them.
"""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from slmgate.stores.records import SchemaTooNew

HEAD = "0015"
"""The newest revision."""


def current(engine: sa.Engine) -> str | None:
    """The revision that a database is at, None when it holds no tables of ours."""
    if not sa.inspect(engine).has_table("alembic_version"):
        return None
    with engine.connect() as connection:
        value = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    return None if value is None else str(value)


def upgrade(engine: sa.Engine, to: str = HEAD) -> None:
    """Bring a database to a revision, `HEAD` but in tests, in one transaction. Free when it is there already."""
    found = current(engine)
    if found == to:
        return
    if found is not None and found > HEAD:
        raise SchemaTooNew(f"The database is at revision {found}, this slmgate knows {HEAD}: run the newer one.")
    # imported here because it costs a tenth of a second at a start that rarely needs it
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    with engine.connect().execution_options(writes=True) as connection, connection.begin():
        if engine.dialect.name == "postgresql":
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(7369643)")  # several nodes may start at once
        config.attributes["connection"] = connection
        command.upgrade(config, to)
