"""Compares what an engine finds in a table with what it finds in a twin of it whose log has no statistics.

    python pruning.py duckdb|deltars|spark TABLE TWIN COLUMNS.json

COLUMNS.json lists columns with their SQL type and values. For each column and value it asks for c = v, c < v and c > v, and
for each column c IS NULL and c IS NOT NULL. It fails where the answers differ, and where the engine leaves out no file by
the values of a column that it can prune by. The column f is the number of the file that a row is in.
"""

import glob
import json
import os
import re
import sys


def quoted(text):
    return "'" + text.replace("'", "''") + "'"


class DuckDB:
    @staticmethod
    def unpruned(path, kind):
        # Delta keeps no bounds of booleans; of instants this engine asks for none, also in tables of other writers.
        return kind in ("BOOLEAN", "TIMESTAMP", "TIMESTAMP_NTZ")

    def __init__(self, table, twin):
        import duckdb
        import duckdb_extension_delta

        folder = os.path.dirname(duckdb_extension_delta.__file__)
        extension = glob.glob(os.path.join(folder, "extensions", "*", "delta.duckdb_extension"))[0]
        self.con = duckdb.connect(config={"autoinstall_known_extensions": False, "autoload_known_extensions": False})
        self.con.execute(f"LOAD {quoted(extension)}")
        self.con.execute("SET TimeZone = 'UTC'")
        self.con.execute(f"ATTACH {quoted(table)} AS pruned (TYPE delta, PIN_SNAPSHOT)")
        self.con.execute("CREATE TABLE twin AS SELECT * FROM delta_scan(?)", [twin])

    def where(self, path, kind, op, value):
        if value is None:
            return f"{path} {op}"
        kind = {"STRING": "VARCHAR", "TIMESTAMP": "TIMESTAMPTZ", "TIMESTAMP_NTZ": "TIMESTAMP"}.get(kind, kind)
        return f"{path} {op} CAST({quoted(value)} AS {kind})"

    def ask(self, where):
        """Gives the answer, the answer of the twin, and how many files the first opens at least."""
        got, want = (self.con.execute(f"SELECT count(*), count(DISTINCT f) FROM {t} WHERE {where}").fetchone() for t in ("pruned", "twin"))
        return got, want, want[1]

    def files(self, where):
        """How many files a scan opens."""
        plan = self.con.execute(f"EXPLAIN (ANALYZE, FORMAT json) SELECT count(*) FROM pruned WHERE {where}").fetchall()[0][1]
        found = re.search(r'"Scanning Files": "(\d+)/', plan)
        return int(found[1]) if found else 0


class DeltaRS:
    @staticmethod
    def unpruned(path, kind):
        return kind == "BOOLEAN" or "." in path  # nor of fields of structs

    def __init__(self, table, twin):
        import deltalake

        self.tables = deltalake.QueryBuilder()
        self.tables.register("pruned", deltalake.DeltaTable(table))
        self.tables.register("twin", deltalake.DeltaTable(twin))

    def where(self, path, kind, op, value):
        first, *rest = path.split(".")
        path = first + "".join(f"['{name}']" for name in rest)
        if value is None:
            return f"{path} {op}"
        arrow = {"TIMESTAMP": 'Timestamp(Microsecond, Some("UTC"))', "TIMESTAMP_NTZ": "Timestamp(Microsecond, None)", "STRING": "Utf8"}
        if kind in arrow:
            return f"{path} {op} arrow_cast({quoted(value)}, '{arrow[kind]}')"
        return f"{path} {op} CAST({quoted(value)} AS {kind})"

    def rows(self, sql):
        import pyarrow

        return pyarrow.table(self.tables.execute(sql)).to_pylist()

    def ask(self, where):
        got, want = (tuple(self.rows(f"SELECT count(*), count(DISTINCT f) FROM {t} WHERE {where}")[0].values()) for t in ("pruned", "twin"))
        return got, want, want[1]

    def files(self, where):
        plan = self.rows(f"EXPLAIN ANALYZE SELECT count(*) FROM pruned WHERE {where}")[0]["plan"]
        found = re.search(r"files_ranges_pruned_statistics=(\d+) total", plan)
        return int(found[1]) if found else 0


class Spark:
    """Asks for the files that have such rows, and whether the plan keeps them."""

    @staticmethod
    def unpruned(path, kind):
        return kind == "BOOLEAN"

    def __init__(self, table, twin):
        import spark  # the session, see spark.py
        from pyspark.sql import functions as fn

        session = spark.session()
        session.conf.set("spark.sql.session.timeZone", "UTC")
        self.table = session.read.format("delta").load(table)
        self.twin = session.read.format("delta").load(twin).cache()
        name = fn.regexp_extract(fn.input_file_name(), "[^/]+$", 0)
        self.numbers = {r.name: r.f for r in self.table.select("f", name.alias("name")).distinct().collect()}

    def where(self, path, kind, op, value):
        from pyspark.sql import functions as fn

        column = fn.col(path)
        if value is None:
            return column.isNull() if op == "IS NULL" else column.isNotNull()
        value = fn.lit(value) if kind == "STRING" else fn.lit(value).cast(kind)
        return {"=": column == value, "<": column < value, ">": column > value}[op]

    def keep(self, where):
        return {self.numbers[name.split("/")[-1]] for name in self.table.where(where).select("f").inputFiles()}

    def ask(self, where):
        want = {r.f for r in self.twin.where(where).select("f").distinct().collect()}
        return sorted(want & self.keep(where)), sorted(want), len(want)

    def files(self, where):
        return len(self.keep(where))


def main():
    engine, table, twin, spec = sys.argv[1:]
    with open(spec, encoding="utf-8") as f:
        columns = json.load(f)
    reader = {"duckdb": DuckDB, "deltars": DeltaRS, "spark": Spark}[engine](table, twin)
    files = reader.ask(reader.where("f", "INT", ">", "-1"))[2]
    faults, asked, equalities, left_out = [], 0, 0, 0
    for c in columns:
        path, kind, pruned = c["path"], c["type"], 0
        values = [v for v in c["values"] or [] if "\0" not in v]  # no SQL text holds that
        for op, value in [(op, v) for v in values for op in ("=", "<", ">")] + [("IS NULL", None), ("IS NOT NULL", None)]:
            asked += 1
            where = reader.where(path, kind, op, value)
            got, want, least = reader.ask(where)
            if got != want:
                faults.append(f"{path} {op} {value!r}: {got}, without statistics {want}")
            if op == "=":
                equalities += 1
                opened = reader.files(where)
                pruned += files - opened
                if opened < least:
                    faults.append(f"{path} {op} {value!r}: {opened} files are opened, {least} have such rows")
        if values and not reader.unpruned(path, kind) and not pruned:
            faults.append(f"no file is left out by the values of {path}")
        left_out += pruned
    print(f"{engine}: {asked} questions to {files} files; of {equalities * files} for the {equalities} equalities {left_out} were left out")
    if faults:
        raise SystemExit(f"{len(faults)} faults:\n" + "\n".join(faults[:40]))


main()
