"""The outbox: letters that are to go out, each with what became of every recipient.

``rows`` are its SQLite tables. How a letter is handed over is ``workflows.mail.submission_session``.
"""
