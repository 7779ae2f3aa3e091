"""Prints every row of a table as delta-rs reads it: python deltars.py TABLE [VERSION]. rows.py says how."""

import os
import sys

import rows
import tables


def read(table):
    for batch in table.to_pyarrow_dataset().to_batches():
        yield from batch.to_pylist()


sys.stdout.reconfigure(encoding="utf-8", newline="\n")
rows.write(read(tables.table(sys.argv[1], version=int(sys.argv[2]) if len(sys.argv) > 2 else None)))
sys.stdout.flush()
os._exit(0)  # a regular end may abort: a thread of Arrow's pool can outlive what it needs
