"""A peer: the loop that people write with confluent-kafka, pyarrow and delta-rs. python python_loop.py BROKERS TOPIC TABLE ROWS [tuned]

It reads the topic once, from its start to the end that it has now, ROWS messages at a time. Each commit holds the next offset of each partition as a
Delta txn. As people write it, the client and delta-rs have their defaults (Snappy); "tuned" gives the client large fetches and queues, and writes zstd.
"""

import io
import sys
import time

import deltalake
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json
from confluent_kafka import Consumer, TopicPartition

import shape

POLL = 10_000

brokers, topic, table = sys.argv[1:4]
rows_of_a_commit, tuned = int(sys.argv[4]), sys.argv[5:] == ["tuned"]
fetches = {
    "fetch.max.bytes": 64 << 20,
    "max.partition.fetch.bytes": 16 << 20,
    "queued.max.messages.kbytes": 256 << 10,
    "queued.min.messages": 1_000_000,
}
consumer = Consumer(
    {
        "bootstrap.servers": brokers,
        "group.id": f"python-loop-{time.time_ns()}",
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        **(fetches if tuned else {}),
    }
)
partitions = consumer.list_topics(topic).topics[topic].partitions
ends = {p: consumer.get_watermark_offsets(TopicPartition(topic, p))[1] for p in partitions}
consumer.assign([TopicPartition(topic, p, 0) for p in partitions])
left = sum(ends.values())
schema = shape.arrow()
options = pyarrow.json.ParseOptions(explicit_schema=schema.remove(schema.get_field_index("date")), unexpected_field_behavior="ignore")
deltalake.DeltaTable.create(table, schema, partition_by=["date"])
values, seen = [], {}
while left:
    for m in consumer.consume(POLL, timeout=1.0):
        if m.error():
            raise SystemExit(str(m.error()))
        values.append(m.value())
        seen[m.partition()] = m.offset() + 1
        left -= 1
    if len(values) < rows_of_a_commit and left:
        continue
    rows = pyarrow.json.read_json(io.BytesIO(b"\n".join(values)), parse_options=options)
    stamp = pc.struct_field(rows["meta"], ["producer", "timestamp"])
    rows = rows.append_column("date", pc.cast(pc.utf8_slice_codeunits(stamp, 0, 10), pa.date32()))
    txns = [deltalake.Transaction(f"{topic}-{p}", next_offset) for p, next_offset in seen.items()]
    deltalake.write_deltalake(
        table,
        rows,
        mode="append",
        partition_by=["date"],
        writer_properties=deltalake.WriterProperties(compression="ZSTD", compression_level=1) if tuned else None,
        commit_properties=deltalake.CommitProperties(app_transactions=txns),
    )
    values = []
consumer.close()
