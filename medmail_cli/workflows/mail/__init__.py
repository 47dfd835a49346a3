"""Letters: brought, opened, written, answered and handed over.

``fetch`` brings, ``opening`` and ``decrypt`` open and judge, ``drafts`` and ``reply`` write, ``recipients``
decides to whom and how strongly, ``send`` seals, ``delivery`` hands over what the outbox holds. Whom to
believe is ``workflows.trust``, the forms themselves ``smime``, what lies on disk ``store.mail`` and
``store.queue``.
"""
