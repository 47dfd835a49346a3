"""Between a command and its workflow: what is built from a session, and the options that several verbs share.

A command takes argv apart and calls one workflow; what that workflow needs of the run (a connection's
credentials, an authority, what opens letters, what sends them) is put together here, once for all verbs.
Imports what commands may, and no command; nothing below imports this. Words for people go through ``ui``,
what a session is stands in ``session``, what is done with all of it in ``workflows``.
"""
