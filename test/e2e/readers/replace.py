"""Puts something else in the place of a table with delta-rs: python replace.py TABLE table|rows N

"table": an empty table with the same columns, as CREATE OR REPLACE TABLE. "rows": the rows with n < N alone, as an overwrite."""

import os
import sys

import deltalake
import pyarrow.compute as pc

path, what, n = sys.argv[1], sys.argv[2], int(sys.argv[3])
table = deltalake.DeltaTable(path)
if what == "table":
    deltalake.DeltaTable.create(path, table.schema(), mode="overwrite")
else:
    rows = table.to_pyarrow_table()
    deltalake.write_deltalake(path, rows.filter(pc.field("n") < n), mode="overwrite")
sys.stdout.flush()
os._exit(0)  # as in deltars.py
