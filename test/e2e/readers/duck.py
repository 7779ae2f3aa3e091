"""Prints every row of a table as DuckDB's delta extension (delta-kernel-rs) reads it: python duck.py TABLE. rows.py says how.

The extension comes in a wheel of its own and is loaded by its path: nothing is installed or downloaded.
"""

import glob
import os
import sys

import duckdb
import duckdb_extension_delta
import rows


def extension():
    folder = os.path.dirname(duckdb_extension_delta.__file__)
    found = glob.glob(os.path.join(folder, "extensions", "*", "delta.duckdb_extension"))
    if len(found) != 1:
        raise SystemExit(f"the wheel duckdb-extension-delta has {len(found)} extensions below {folder}, 1 is expected")
    return found[0].replace("'", "''")


def read(con, table):
    cursor = con.execute("SELECT * FROM delta_scan(?)", [table])
    names = [d[0] for d in cursor.description]
    while batch := cursor.fetchmany(10_000):
        for values in batch:
            yield dict(zip(names, values))


def connect():
    con = duckdb.connect(config={"autoinstall_known_extensions": False, "autoload_known_extensions": False})
    con.execute(f"LOAD '{extension()}'")
    con.execute("SET TimeZone = 'UTC'")
    return con


if __name__ == "__main__":
    sys.stdout.reconfigure(encoding="utf-8", newline="\n")
    rows.write(read(connect(), sys.argv[1]))
