"""medmail: secure professional mail for health care.

One verb, one story. ``app`` builds the command tree and is the one place that exits; ``commands`` turn
argv into one workflow and one result; ``wiring`` builds what workflows need from a ``session``, which opens
what a run needs, on first use; ``ui`` is the only place that prints or prompts. ``workflows`` tell what each
verb does from start to end, as generators of events. Below them, ``transport`` opens sockets, ``devices``
talks to tokens, keyrings and other programs, ``store`` touches the disk. At the bottom, the pure rooms
``smime``, ``cms``, ``pki`` and ``audit`` take bytes, certificates and the time, and give values back.
``config`` reads the person's file, ``profile`` what a network demands, both by ``toml``, which knows the
lines.

Imports point down only::

    app -> commands -> wiring -> (session, workflows) -> (transport, devices, store)
        -> (smime, cms, pki, audit) -> (model, errors)

Four things the design never trades away: nothing leaks and nothing lies; nothing is lost and nothing is
sent twice; everything done can be proved; scripts are served as well as people.
"""

__version__ = "0.2.0"
