"""Prints every row of tables as delta-rs reads them, a JSON object a line: python plainrows.py TABLE..."""

import os
import sys

import rows
import tables

sys.stdout.reconfigure(encoding="utf-8", newline="\n")
for name in sys.argv[1:]:
    for batch in tables.table(name).to_pyarrow_dataset().to_batches():
        for row in batch.to_pylist():
            print(rows.dump(row))
sys.stdout.flush()
os._exit(0)  # as in deltars.py
