"""From an index of the first form, which knew of no server but IMAP's, to one of today's (since 0.2.0)."""

import sqlite3
from collections.abc import Iterable

FIRST = 1
# the first of its kind owed nothing yet
_ASIDE = """
CREATE TABLE IF NOT EXISTS owed (account TEXT, folder TEXT, uidvalidity INTEGER, uid INTEGER);
ALTER TABLE owed RENAME TO first_owed;
ALTER TABLE folders RENAME TO first_folders;
ALTER TABLE messages RENAME TO first_messages;
DROP INDEX messages_id;
DROP INDEX messages_uid;
DROP INDEX messages_message_id
"""
# the next UID was 0 where the UIDs of what is stored were not to be believed
_FILL = """
INSERT INTO messages
  SELECT account, folder, id, CAST(uidvalidity AS TEXT), CAST(uid AS TEXT),
    name, size, stored_at, sender, recipients, subject, date, message_id FROM first_messages;
INSERT INTO folders
  SELECT account, folder,
    CASE WHEN uidnext = 0 THEN NULL WHEN uidvalidity = 0 THEN '' ELSE uidvalidity || '/' || uidnext END,
    stamps FROM first_folders;
INSERT INTO owed SELECT account, folder, CAST(uidvalidity AS TEXT), CAST(uid AS TEXT) FROM first_owed;
DROP TABLE first_messages;
DROP TABLE first_folders;
DROP TABLE first_owed
"""


def convert(database: sqlite3.Connection, schema: Iterable[str]) -> None:
    """Make the tables of ``schema``, filled from those of the first form, or change nothing.

    What the form is now is asked for once nobody else can write: another process may have converted it.
    """
    database.execute("BEGIN IMMEDIATE")
    try:
        if database.execute("PRAGMA user_version").fetchone() == (FIRST,):
            for statement in (*_ASIDE.split(";"), *schema, *_FILL.split(";")):
                database.execute(statement)
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise
