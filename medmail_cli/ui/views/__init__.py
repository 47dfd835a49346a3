"""One module a verb: its events as lines and tables for people.

A view knows the dataclasses that its workflow yields, and decides nothing. JSON needs none: it is the
dataclass (``ui.render``). Words stand beside their use, marked for translation.
"""
