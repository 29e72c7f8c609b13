"""Servers of the command line, in processes of their own."""

import re
import subprocess
import sys
from contextlib import contextmanager

__all__ = ["serving", "serving_model"]


@contextmanager
def serving(*arguments):
    """The process of `tritstream share-device`, and the device as others write it."""
    with _started("share-device", "--listen", "127.0.0.1:0", *arguments) as (process, line):
        yield process, re.fullmatch(r"sharing (\S+) on (tcp://127\.0\.0\.1:\d+)\n", line)[2]


@contextmanager
def serving_model(packed, *arguments):
    """The process of `tritstream serve`, and the address of its API."""
    with _started("serve", packed, "--listen", "127.0.0.1:0", *arguments) as (process, line):
        yield process, re.fullmatch(
            r"serving (\S+) on (http://127\.0\.0\.1:\d+/v1), \d+ answers at a time\n", line)[2]


@contextmanager
def _started(*arguments):
    """The process of a command, and the line that it prints when it is ready."""
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "tritstream.scripts.cli", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process, process.stdout.readline()
    finally:
        process.kill()
        process.communicate()
