"""`python -m agentvm`, and the command `agentvm`."""

import gc
import signal
import sys

__all__ = ["main"]


def main() -> int:
    """Run the command line, and return its exit status. Ctrl-C ends it without a traceback, at any moment."""
    # Until a verb has something to put in order, and once it has done that, a signal simply ends us: an exception
    # would come out of an import, or of the interpreter's own end, as whatever those make of it.
    _die_of_ctrl_c()
    # What is loaded lives to the end, and loading makes next to no garbage: the collector would only look through all
    # of it over and over. A verb turns it on when it begins its work.
    gc.disable()
    from agentvm.cli.main import main as act

    try:
        return act()
    finally:
        _die_of_ctrl_c()
        gc.freeze()  # nor does it help the interpreter to its end


def _die_of_ctrl_c() -> None:
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


if __name__ == "__main__":
    sys.exit(main())
