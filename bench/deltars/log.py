"""What `bench log` measures of delta-rs, in a process of its own:

    python log.py open|open_without_files|open_skip_stats|follow|checkpoint|checkpoint_loaded TABLE [FOLDER_WITH_LATER_VERSIONS]

Prints one JSON object: seconds and CPU seconds of the measured call, and the process's peak memory before and after it.
"""

import json
import os
import resource
import sys
import time
import warnings

from deltalake import DeltaTable, __version__


def peak():
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith("VmHWM"))


def cpu():
    u = resource.getrusage(resource.RUSAGE_SELF)
    return u.ru_utime + u.ru_stime


def main():
    op, table = sys.argv[1], sys.argv[2]
    idle = peak()
    opened = None
    if op in ("follow", "checkpoint_loaded"):
        opened = DeltaTable(table)
    if op == "follow":
        later = os.path.join(sys.argv[3], "_delta_log")
        for name in sorted(os.listdir(later)):
            os.link(os.path.join(later, name), os.path.join(table, "_delta_log", name))
    before, begun = cpu(), time.monotonic()
    if op == "open":
        opened = DeltaTable(table)
    elif op == "open_without_files":
        warnings.simplefilter("ignore")  # newer releases say that they ignore the flag
        opened = DeltaTable(table, without_files=True)
    elif op == "open_skip_stats":
        opened = DeltaTable(table, skip_stats=True)
    elif op == "follow":
        opened.update_incremental()
    elif op == "checkpoint":
        opened = DeltaTable(table)
        opened.create_checkpoint()
    elif op == "checkpoint_loaded":
        opened.create_checkpoint()
    seconds, used = time.monotonic() - begun, cpu() - before
    print(
        json.dumps(
            {
                "engine": "delta-rs " + __version__,
                "version": opened.version(),
                "seconds": seconds,
                "cpu_seconds": used,
                "peak_rss_bytes": peak(),
                "idle_rss_bytes": idle,
            }
        )
    )
    sys.stdout.flush()
    os._exit(0)  # a regular end may abort: a thread of Arrow's pool can outlive what it needs


main()
