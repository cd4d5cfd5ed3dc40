"""The ``epsilon`` command: its code is in the package's native library."""

import signal
import sys

from epsilon_zsl._native import run_program


def main() -> int:
    """Runs the command with this process's arguments and returns its exit status."""
    # Python's own handler only takes note of Ctrl-C, and nobody here would ask.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    return run_program(sys.argv)


if __name__ == "__main__":
    sys.exit(main())
