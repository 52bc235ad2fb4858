"""The revisions, one file each, named after their number.

Alembic finds them by their directory; nothing imports this package. It is one so that the files are typed and packaged
as the rest is.
"""
