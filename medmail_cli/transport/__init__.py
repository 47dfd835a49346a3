"""Everything that opens a socket, one module a protocol, named by it.

Asynchronous ones hide their loop. Servers' words are hostile: each answer has a limit in size and time. May
import the pure rooms and ``config``; where to connect and with what is handed in (``wiring.accounts``,
``wiring.authorities``).
"""
