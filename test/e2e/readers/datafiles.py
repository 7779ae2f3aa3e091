"""Reads Parquet files with pyarrow: python datafiles.py FILE... WRITTEN, where WRITTEN is the same rows in an Arrow IPC file.

It prints one line: a JSON object {"written": [ROW, ...], "pyarrow": [ROW, ...]} of texts as rows.plain_row makes them, sorted.
"""

import sys

import pyarrow
import pyarrow.parquet
import rows


def texts(table):
    return sorted(rows.plain_row(r) for r in table.to_pylist(maps_as_pydicts="strict"))


sys.stdout.reconfigure(encoding="utf-8", newline="\n")
*files, written = sys.argv[1:]
read = pyarrow.concat_tables(pyarrow.parquet.ParquetFile(f).read() for f in files)
print(rows.dump({"written": texts(pyarrow.ipc.open_file(written).read_all()), "pyarrow": texts(read)}))
