"""Durable metadata: the core's records in a SQL database behind SQLAlchemy, SQLite by default.

May know ``rayfs.core``'s types. Knows nothing of what the records mean. Invariants: a commit is all or nothing and is
on stable storage when it returns; a commit under an old epoch changes nothing.
"""
