"""Runs one command and kills it for certain: when this process's standard input ends, the whole process group dies.

The starter keeps the other end of that pipe, so the servers of a test end with it also when it is killed by SIGKILL.
Run as a script (``python guard.py DIRECTORY COMMAND...``) as the leader of its own process group; knows nothing but the
standard library.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading


def main(directory: str, command: list[str]) -> None:
    """Run ``command`` and exit as it does. When standard input ends, end it, remove ``directory``, kill the rest."""
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    orphaned = threading.Event()

    def leave_with_it() -> None:
        status = child.wait()
        if not orphaned.is_set():
            os._exit(status)

    threading.Thread(target=leave_with_it, daemon=True).start()
    while os.read(sys.stdin.fileno(), 1):
        pass
    orphaned.set()
    child.kill()
    child.wait()
    shutil.rmtree(directory, ignore_errors=True)
    os.killpg(os.getpgid(0), signal.SIGKILL)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
