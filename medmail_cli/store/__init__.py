"""Everything that touches the disk, fsynced before it is acted on; a kill leaves what the next run completes.

``keys`` is the keystore, ``mail`` the mailbox, ``queue`` the outbox, ``trust`` anchors and contacts, ``log``
the audit log; ``files`` writes files whole or not at all. May import the pure rooms; nothing here asks a
server or a person, and no workflow opens a file of ours by itself.
"""
