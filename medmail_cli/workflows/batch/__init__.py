"""A roster's worth of people enrolled in one run, or in shards.

``roster`` reads who is meant, ``choice`` which of them, ``run`` asks for all and survives a kill, ``person``
is one of them, ``report`` what became of each. The journal is ``store.batch_journal``; how one certificate is
asked for is ``workflows.enrol``.
"""
