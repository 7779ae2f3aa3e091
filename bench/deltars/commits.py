"""What `bench commits` measures of delta-rs: one process of many that append to one table.

    python commits.py create TABLE
    python commits.py append TABLE COMMITS ROWS

It says ready once it has opened the table, begins when its standard input ends, and prints one JSON object in the end. Each commit is a
write_deltalake to the table that it holds, which reads what others have committed; its retries are delta-rs's own and by default
(CommitProperties.max_commit_retries: 15). What fails after them is counted, and not tried again.
"""

import json
import os
import resource
import sys
import time

import pyarrow as pa
from deltalake import DeltaTable, __version__, write_deltalake
from deltalake.exceptions import DeltaError

SCHEMA = pa.schema([("id", pa.int64()), ("text", pa.string())])


def cpu():
    u = resource.getrusage(resource.RUSAGE_SELF)
    return u.ru_utime + u.ru_stime


def append(table, commits, rows):
    opened = DeltaTable(table)
    print("ready", flush=True)
    sys.stdin.read()
    waits, refusal, before = [], "", cpu()
    for n in range(commits):
        ids = range(n * rows, (n + 1) * rows)
        data = pa.table({"id": ids, "text": [f"row {i} of process {os.getpid()}" for i in ids]}, schema=SCHEMA)
        begun = time.monotonic()
        try:
            write_deltalake(opened, data, mode="append")
            waits.append(time.monotonic() - begun)
        except DeltaError as e:
            refusal = refusal or str(e)
    print(
        json.dumps(
            {
                "library": "delta-rs " + __version__,
                "landed": len(waits),
                "commit_seconds": waits,
                "cpu_seconds": cpu() - before,
                "refusal": refusal,
            }
        ),
        flush=True,
    )
    os._exit(0)  # a regular end may abort: a thread of Arrow's pool can outlive what it needs


if sys.argv[1] == "create":
    DeltaTable.create(sys.argv[2], SCHEMA)
else:
    append(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
