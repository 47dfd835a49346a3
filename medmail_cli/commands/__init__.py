"""One module a verb: argv in, one workflow called, one result shown.

A command checks what can be wrong with its words, has what the workflow needs built by ``wiring``, and hands
its events to ``ui.render.show``. It may import all that is below and no other command. Options that several
verbs share stand in ``wiring.options``, what is done in ``workflows``, how it looks in ``ui.views``.
"""
