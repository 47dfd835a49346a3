"""What people and scripts see: the only room that prints or prompts.

``console`` owns the streams, ``render`` turns events into text or JSON, ``views`` hold verbs' looks,
``i18n``, ``messages`` and ``error_messages`` all sentences, ``sanitize`` and ``margin`` strangers' words.
It imports the types of events from ``workflows`` and the pure rooms, and is imported by ``app``,
``commands``, ``wiring`` and ``session`` alone.
"""
