"""Fills a table as kafka-delta-ingest does: python ingest.py TABLE JSONL PARTITIONS TAKEN

The lines of JSONL, shaped as its web_requests, are dealt to the partitions in turn. TAKEN is a JSON list: how many of each partition
are taken, in two commits through delta-rs, on which kafka-delta-ingest is built. Each commit has a txn
"web_requests-PARTITION" = offset of the last row for the partitions that it has rows of (its src/offsets.rs), and no other trace.
"""

import json
import os
import sys

import deltalake
import pyarrow as pa

table, path, partitions, taken = sys.argv[1], sys.argv[2], int(sys.argv[3]), json.loads(sys.argv[4])
schema = pa.schema(
    [
        ("meta", pa.struct([("producer", pa.struct([("timestamp", pa.string())]))])),
        *((name, pa.string()) for name in ("method", "session_id")),
        ("status", pa.int32()),
        *((name, pa.string()) for name in ("url", "uuid", "date")),
    ]
)
deltalake.DeltaTable.create(table, schema, partition_by=["date"])
with open(path, encoding="utf-8") as f:
    lines = [json.loads(line) for line in f]
at = [0] * partitions
for part in (2, 1):
    rows, txns = [], []
    for p in range(partitions):
        until = taken[p] // part
        for row in lines[p::partitions][at[p] : until]:
            rows.append({**row, "date": row["meta"]["producer"]["timestamp"][:10]})
        if until > at[p]:
            txns.append(deltalake.Transaction(f"web_requests-{p}", until - 1))
        at[p] = until
    deltalake.write_deltalake(
        table,
        pa.Table.from_pylist(rows, schema=schema),
        mode="append",
        commit_properties=deltalake.CommitProperties(app_transactions=txns),
    )
sys.stdout.flush()
os._exit(0)  # as in deltars.py
