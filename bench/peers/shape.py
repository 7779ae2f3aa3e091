"""The columns of the web_requests table, as each peer wants to be told."""

import pyarrow as pa

SPARK = "meta STRUCT<producer: STRUCT<timestamp: STRING>>, method STRING, session_id STRING, status INT, url STRING, uuid STRING"


def arrow(date=pa.date32()):
    return pa.schema(
        [
            ("meta", pa.struct([("producer", pa.struct([("timestamp", pa.string())]))])),
            ("method", pa.string()),
            ("session_id", pa.string()),
            ("status", pa.int32()),
            ("url", pa.string()),
            ("uuid", pa.string()),
            ("date", date),
        ]
    )
