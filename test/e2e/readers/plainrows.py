"""Prints every row of a table as delta-rs reads it, a JSON object a line: python plainrows.py TABLE"""

import os
import sys

import deltalake
import rows

sys.stdout.reconfigure(encoding="utf-8", newline="\n")
for batch in deltalake.DeltaTable(sys.argv[1]).to_pyarrow_dataset().to_batches():
    for row in batch.to_pylist():
        print(rows.dump(row))
sys.stdout.flush()
os._exit(0)  # as in deltars.py
