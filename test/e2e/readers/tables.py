"""Opens a table with delta-rs, and its files: a folder, or a location whose store STORAGE_OPTIONS (JSON) tells how to reach."""

import json
import os

import deltalake
import pyarrow.fs
from deltalake.fs import DeltaStorageHandler


def options(location):
    return json.loads(os.environ.get("STORAGE_OPTIONS", "{}")) if "://" in location else {}


def table(location, version=None):
    return deltalake.DeltaTable(location, version=version, storage_options=options(location) or None)


class Files:
    """The objects below a table's location, by their names relative to it, read as delta-rs reaches them."""

    def __init__(self, location):
        self.system = pyarrow.fs.PyFileSystem(DeltaStorageHandler(location, options(location) or None))

    def names(self, folder):
        return [info.base_name for info in self.system.get_file_info(pyarrow.fs.FileSelector(folder))]

    def read(self, name):
        """All bytes of an object; FileNotFoundError where there is none."""
        with self.system.open_input_file(name) as f:
            return f.read()
