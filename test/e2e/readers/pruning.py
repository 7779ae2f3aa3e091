"""Compares what an engine finds in a table with what it finds in a twin of it whose log has no statistics.

    python pruning.py duckdb|deltars TABLE TWIN COLUMNS.json

COLUMNS.json lists columns with their SQL type and values. For each column and value it asks for c = v, c < v and c > v, and
for each column c IS NULL and c IS NOT NULL. It fails where the answers differ, and where the engine leaves out no file by
the values of a column that it can prune by. The column f is the number of the file that a row is in. spark.py does the
same in its session.
"""

import glob
import json
import os
import re
import sys


def quoted(text):
    return "'" + text.replace("'", "''") + "'"


class SQL:
    """An engine that is asked in SQL. An answer is how many rows there are, in how many files."""

    operators = ("=", "<", ">")

    def twin(self, wheres):
        """The twin's answers, found in one go over all its rows."""
        found = self.rows("SELECT " + ", ".join(f"count(*) FILTER (WHERE {w}), count(DISTINCT f) FILTER (WHERE {w})" for w in wheres) + " FROM twin")
        return list(zip(found[::2], found[1::2]))

    def answer(self, where, op, want):
        """The table's answer, and how many files were opened for it where that is known."""
        got = tuple(self.rows(f"SELECT count(*), count(DISTINCT f) FROM pruned WHERE {where}"))
        return got, self.opened(where) if op == "=" else None

    @staticmethod
    def files(answer):
        return answer[1]


class DuckDB(SQL):
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

    def rows(self, sql):
        return self.con.execute(sql).fetchone()

    def opened(self, where):
        plan = self.con.execute(f"EXPLAIN (ANALYZE, FORMAT json) SELECT count(*) FROM pruned WHERE {where}").fetchall()[0][1]
        found = re.search(r'"Scanning Files": "(\d+)/', plan)
        return int(found[1]) if found else 0


class DeltaRS(SQL):
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

        return [column[0].as_py() for column in pyarrow.table(self.tables.execute(sql)).columns]

    def opened(self, where):
        plan = self.rows(f"EXPLAIN ANALYZE SELECT count(*) FROM pruned WHERE {where}")[1]
        found = re.search(r"files_ranges_pruned_statistics=(\d+) total", plan)
        return int(found[1]) if found else 0


class Spark:
    """An answer is the numbers of the files with such rows; the table's are those that the plan keeps."""

    operators = ("=",)  # a bound that excludes a value shows there; each question costs a job

    @staticmethod
    def unpruned(path, kind):
        return kind == "BOOLEAN"

    def __init__(self, session, table, twin):
        from pyspark.sql import functions as fn

        self.fn = fn
        self.table = session.read.format("delta").load(table)
        self.all = session.read.format("delta").load(twin).cache()
        name = fn.regexp_extract(fn.input_file_name(), "[^/]+$", 0)
        self.numbers = {r.name: r.f for r in self.table.select("f", name.alias("name")).distinct().collect()}

    def where(self, path, kind, op, value):
        column = self.fn.col(path)
        if value is None:
            return column.isNull() if op == "IS NULL" else column.isNotNull()
        value = self.fn.lit(value) if kind == "STRING" else self.fn.lit(value).cast(kind)
        return {"=": column == value, "<": column < value, ">": column > value}[op]

    def twin(self, wheres):
        return [sorted(found) for found in self.all.select(*(self.fn.collect_set(self.fn.when(w, self.fn.col("f"))) for w in wheres)).first()]

    def answer(self, where, op, want):
        kept = {self.numbers[name.split("/")[-1]] for name in self.table.where(where).select("f").inputFiles()}
        return sorted(kept & set(want)), len(kept)

    @staticmethod
    def files(answer):
        return len(answer)


def compare(reader, spec):
    """Gives what was asked, in words, and the faults."""
    with open(spec, encoding="utf-8") as f:
        columns = json.load(f)
    files = reader.files(reader.twin([reader.where("f", "INT", ">", "-1")])[0])
    faults, asked, equalities, left_out = [], 0, 0, 0
    for c in columns:
        path, kind, pruned = c["path"], c["type"], 0
        values = [v for v in c["values"] or [] if "\0" not in v]  # no SQL text holds that
        questions = [(op, v) for v in values for op in reader.operators] + [("IS NULL", None), ("IS NOT NULL", None)]
        wheres = [reader.where(path, kind, op, value) for op, value in questions]
        for (op, value), where, want in zip(questions, wheres, reader.twin(wheres)):
            asked += 1
            got, opened = reader.answer(where, op, want)
            if got != want:
                faults.append(f"{path} {op} {value!r}: {got}, without statistics {want}")
            if op == "=":
                equalities += 1
                pruned += files - opened
                if opened < reader.files(want):
                    faults.append(f"{path} {op} {value!r}: {opened} files are opened, {reader.files(want)} have such rows")
        if values and not reader.unpruned(path, kind) and not pruned:
            faults.append(f"no file is left out by the values of {path}")
        left_out += pruned
    return f"{asked} questions to {files} files; of {equalities * files} for the {equalities} equalities {left_out} were left out", faults


def main():
    engine, table, twin, spec = sys.argv[1:]
    did, faults = compare({"duckdb": DuckDB, "deltars": DeltaRS}[engine](table, twin), spec)
    print(did)
    if faults:
        raise SystemExit(f"{len(faults)} faults:\n" + "\n".join(faults[:40]))


if __name__ == "__main__":
    main()
