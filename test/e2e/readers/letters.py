"""Prints a dead-letter table's rows as delta-rs and as DuckDB read it: python letters.py TABLE prints for each row and engine
engine, partition, offset, generation, reason and the value in hexadecimal digits, separated by blanks."""

import os
import sys

import duck
import tables

COLUMNS = ["partition", "offset", "generation", "reason", "value"]


def show(engine, row):
    print(engine, *(row[c] for c in COLUMNS[:-1]), bytes(row["value"]).hex())


sys.stdout.reconfigure(encoding="utf-8", newline="\n")
for found in tables.table(sys.argv[1]).to_pyarrow_table(columns=COLUMNS).to_pylist():
    show("deltars", found)
for found in duck.read(duck.connect(), sys.argv[1]):
    show("duckdb", found)
sys.stdout.flush()
os._exit(0)  # as in deltars.py
