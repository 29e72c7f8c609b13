"""A device served by the command line in a process of its own."""

import re
import subprocess
import sys
from contextlib import contextmanager

__all__ = ["serving"]


@contextmanager
def serving(*arguments):
    """The process of `tritstream share-device`, and the device as others write it."""
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "tritstream.scripts.cli", "share-device", "--listen",
         "127.0.0.1:0", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline()
        found = re.fullmatch(r"sharing (\S+) on (tcp://127\.0\.0\.1:\d+)\n", line)
        yield process, found[2]
    finally:
        process.kill()
        process.communicate()
