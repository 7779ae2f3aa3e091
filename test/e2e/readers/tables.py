"""Opens a table with delta-rs: a folder, or a location whose store STORAGE_OPTIONS (JSON) tells how to reach."""

import json
import os

import deltalake


def table(location, version=None):
    options = json.loads(os.environ.get("STORAGE_OPTIONS", "{}")) if "://" in location else {}
    return deltalake.DeltaTable(location, version=version, storage_options=options or None)
