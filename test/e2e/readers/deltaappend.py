"""Appends to a table with delta-rs, one row a commit: python deltaappend.py TABLE WORKER COUNT

The rows are {"w": WORKER, "n": 0 ... COUNT-1}. A commit that delta-rs gives up after its own retries is tried again: then
nothing of it is in the table.
"""

import os
import sys

import deltalake
import pyarrow
from deltalake.exceptions import CommitFailedError

table, worker, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
schema = pyarrow.schema([("w", pyarrow.int32()), ("n", pyarrow.int32())])
given_up = 0
for n in range(count):
    row = pyarrow.table({"w": [worker], "n": [n]}, schema=schema)
    while True:
        try:
            deltalake.write_deltalake(table, row, mode="append")
            break
        except CommitFailedError:
            given_up += 1
print(given_up)
sys.stdout.flush()
os._exit(0)  # as in deltars.py
