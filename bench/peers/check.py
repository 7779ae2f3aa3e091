"""Compares a table with the messages that it should hold, row by row, as bags: python check.py LINES TABLE

It ends with an error that shows a row when one is missing, changed or there twice. Columns beyond the messages' own are left alone.
"""

import pathlib
import sys

sys.path.append(str(pathlib.Path(__file__).resolve().parents[2] / "test" / "e2e" / "readers"))
import duck

COLUMNS = "meta, method, session_id, status::INT AS status, url, uuid, CAST(date AS DATE) AS date"
TYPES = "{meta: 'STRUCT(producer STRUCT(timestamp VARCHAR))', method: 'VARCHAR', session_id: 'VARCHAR', status: 'INT', url: 'VARCHAR', uuid: 'VARCHAR'}"

lines, table = sys.argv[1:3]
db = duck.connect()
db.execute(f"CREATE VIEW there AS SELECT {COLUMNS} FROM delta_scan('{table}')")
db.execute(
    "CREATE VIEW wanted AS SELECT *, meta.producer.timestamp[1:10]::DATE AS date "
    f"FROM read_json('{lines}', format = 'newline_delimited', columns = {TYPES})"
)
for what, query in {"missing": "FROM wanted EXCEPT ALL FROM there", "too many": "FROM there EXCEPT ALL FROM wanted"}.items():
    n, example = db.execute(f"SELECT count(*), any_value(r) FROM ({query}) AS r").fetchone()
    if n:
        sys.exit(f"{table}: {n} rows are {what}, such as {example}")
print(f"{table}: all {db.execute('SELECT count(*) FROM there').fetchone()[0]} rows are right")
