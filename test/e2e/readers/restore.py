"""Restores a table to an earlier version with delta-rs: python restore.py TABLE VERSION [clean]

With "clean" a log checkpoint follows, and the commits that it covers are removed, as after the table's log retention."""

import glob
import os
import sys

import deltalake

table = deltalake.DeltaTable(sys.argv[1])
table.restore(int(sys.argv[2]))
if sys.argv[3:] == ["clean"]:
    table.create_checkpoint()
    for name in glob.glob(os.path.join(sys.argv[1], "_delta_log", "*")):
        version = os.path.basename(name)[:20]
        if version.isdigit() and not name.endswith(".parquet") and int(version) <= table.version():
            os.remove(name)
sys.stdout.flush()
os._exit(0)  # as in deltars.py
