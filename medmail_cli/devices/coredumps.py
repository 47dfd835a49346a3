"""No picture of this process's memory is left behind: passphrases and keys stand in it."""

import functools
import resource
import sys

_PR_SET_DUMPABLE = 4  # prctl(2)


@functools.cache
def off() -> None:
    """Have the system write no core dump of this process, however it ends; called before it holds a secret.

    The limit alone (getrlimit(2)) does not bind what a crash is piped to on Linux (core(5)); a process that
    is not dumpable cannot be looked into by others of the same user either. Programs started from here have
    the soft limit, which they may raise, and are dumpable again.
    """
    _soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
