"""The mailbox: letters as they came, in a Maildir, and what is known of them.

``outer_index`` is SQLite made from outer headers and can be rebuilt; ``sealed_index`` is what opened letters
said, under a key of the keystore; ``incoming`` is a letter on its way to disk. Letters to be sent are
``store.queue``.
"""
