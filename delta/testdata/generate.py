#!/usr/bin/env python3
"""Writes the tables below this folder with delta-rs, and beside each what delta-rs reads in it (expected.json).

Only the logs are kept: package delta reads no data files. Run by hand when a fixture is wanted anew:

    python3 -m venv venv && venv/bin/pip install deltalake==1.6.6 pyarrow==26.0.1
    venv/bin/python delta/testdata/generate.py
"""
import datetime
import decimal
import json
import pathlib
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake

HERE = pathlib.Path(__file__).parent
UTC = datetime.timezone.utc

SPECIAL = [
    "plain", "US/East", "a:b", "a=b", "100%25", "Serbia/srb%", "a b", " ", "a{b", "a}b", "a<b>c|d", "a@b!c(d)", "a&b+c$d;e,f",
    "M\u00fcnchen", "\u65e5\u672c\u8a9e", "\U0001f3b5", "quote'\"", "back\\slash", "q?m#h*", "[x]^y`z", "tab\tnl\n", "__HIVE_DEFAULT_PARTITION__", None, "",
]


def expected(folder: pathlib.Path, app_ids=()):
    t = DeltaTable(str(folder))
    files = []
    for row in pa.table(t.get_add_actions(flatten=False)).to_pylist():
        values = row.get("partition") or {}
        files.append({
            "path": row["path"], "size": row["size_bytes"], "rows": row["num_records"],
            "partition": {k: (v if isinstance(v, str) or v is None else str(v)) for k, v in values.items()},
        })
    state = {
        "version": t.version(), "schema": json.loads(t.schema().to_json()), "partition_columns": t.metadata().partition_columns,
        "configuration": t.metadata().configuration, "id": str(t.metadata().id), "name": t.metadata().name,
        "txns": {a: t.transaction_version(a) for a in app_ids},
        "files": sorted(files, key=lambda f: f["path"]), "rows": pa.table(t.to_pyarrow_dataset().to_table()).num_rows,
    }
    (folder / "expected.json").write_text(json.dumps(state, indent=1, ensure_ascii=False, sort_keys=True) + "\n")


def keep_log(folder: pathlib.Path):
    for child in folder.iterdir():
        if child.name not in ("_delta_log", "expected.json"):
            shutil.rmtree(child) if child.is_dir() else child.unlink()


def fresh(name: str) -> pathlib.Path:
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def special():
    folder = fresh("special")
    table = pa.table({"p": pa.array(SPECIAL, pa.string()), "v": pa.array(range(len(SPECIAL)), pa.int64())})
    write_deltalake(str(folder), table, partition_by=["p"])
    expected(folder)
    keep_log(folder)


def typed_partitions():
    folder = fresh("typed_partitions")
    at = datetime.datetime(2024, 2, 29, 23, 59, 59, 123456)
    table = pa.table({
        "v": pa.array([1, 2], pa.int64()),
        "d": pa.array([datetime.date(2024, 2, 29), None], pa.date32()),
        "t": pa.array([at.replace(tzinfo=UTC), None], pa.timestamp("us", "UTC")),
        "i": pa.array([-7, None], pa.int32()),
        "b": pa.array([True, None], pa.bool_()),
        # No negative decimal: delta-rs 1.6.6 writes 0.-5 for -0.05.
        "m": pa.array([decimal.Decimal("1.50"), None], pa.decimal128(10, 2)),
    })
    write_deltalake(str(folder), table, partition_by=["d", "t", "i", "b", "m"])
    expected(folder)
    keep_log(folder)


def checkpointed():
    """Appends, a delete, a log checkpoint, appends after it, and the commits below the checkpoint gone."""
    folder = fresh("checkpointed")
    path = str(folder)
    app_ids = ["conn-0", "conn-1", "other"]

    def append(i, txns):
        rows = pa.table({
            "id": pa.array([i * 10, i * 10 + 1, 9007199254740993 + i], pa.int64()),
            "day": pa.array([f"2024-01-0{i % 3 + 1}"] * 3, pa.string()),
            "s": pa.array([{"a": "x", "l": [1, None]}, None, {"a": None, "l": []}], pa.struct([("a", pa.string()), ("l", pa.list_(pa.int32()))])),
            "m": pa.array([[("k", 1.5)], [], None], pa.map_(pa.string(), pa.float64())),
        })
        write_deltalake(path, rows, mode="append", partition_by=["day"], name="checkpointed", description="a table",
                        configuration={"delta.logRetentionDuration": "interval 30 days"},
                        commit_properties=CommitProperties(app_transactions=[Transaction(a, v, last_updated=u) for a, v, u in txns]))

    append(0, [("conn-0", 9007199254740993, 1700000000000), ("conn-1", 5, None)])
    append(1, [("conn-0", 9007199254740995, 1700000000001)])
    append(2, [("other", -1, None)])
    DeltaTable(path).delete("day = '2024-01-02'")
    append(3, [("conn-1", 4, 1700000000004)])
    DeltaTable(path).create_checkpoint()
    append(4, [("conn-0", 9007199254740997, 1700000000005)])
    DeltaTable(path).delete("day = '2024-01-03'")
    append(5, [])
    expected(folder, app_ids)

    # The same log with its checkpoint in two parts, and with nothing but its commits.
    for copy in ("multipart", "commits_only"):
        shutil.rmtree(HERE / copy, ignore_errors=True)
        shutil.copytree(folder, HERE / copy)
        keep_log(HERE / copy)
    for version in range(4):
        for name in (folder, HERE / "multipart"):
            (name / "_delta_log" / f"{version:020}.json").unlink()
    keep_log(folder)

    log = HERE / "multipart" / "_delta_log"
    whole = log / f"{4:020}.checkpoint.parquet"
    actions = pq.read_table(whole)
    for part, rows in ((1, actions.slice(0, 3)), (2, actions.slice(3))):
        pq.write_table(rows, log / f"{4:020}.checkpoint.{part:010}.{2:010}.parquet", row_group_size=2)
    whole.unlink()
    (log / "_last_checkpoint").write_text('{"version":4,"size":%d,"parts":2}' % actions.num_rows)

    log = HERE / "commits_only" / "_delta_log"
    (log / f"{4:020}.checkpoint.parquet").unlink()
    (log / "_last_checkpoint").unlink()


special()
typed_partitions()
checkpointed()
