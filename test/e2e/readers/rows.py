"""What the readers have in common: how a row is printed, never how it is read.

A line is a JSON array, without spaces: partition, offset, topic, timestamp, row. The row is an object without the column
_kafka, its keys sorted. Instants are RFC 3339 in UTC with six decimals, dates YYYY-MM-DD, decimals strings, binary base64.
"""

import base64
import datetime
import decimal
import json
import math
import sys

UTC = datetime.timezone.utc


def plain(v):
    if isinstance(v, datetime.datetime):
        if v.tzinfo is None:
            return v.strftime("%Y-%m-%dT%H:%M:%S.%f")
        return v.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    if isinstance(v, datetime.date):
        return v.isoformat()
    if isinstance(v, decimal.Decimal):
        return str(v)
    if isinstance(v, (bytes, bytearray, memoryview)):
        return base64.b64encode(bytes(v)).decode()
    raise TypeError(f"a value of type {type(v)} cannot be printed")


def dump(v):
    return json.dumps(v, default=plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def in_json(v):
    """A value as JSON has it: no keys but texts, no infinity, no NaN; decimals without the zeros that only their type tells."""
    if isinstance(v, dict):
        return {k if isinstance(k, str) else dump(in_json(k)): in_json(e) for k, e in v.items()}
    if isinstance(v, list):
        return [in_json(e) for e in v]
    if isinstance(v, float) and not math.isfinite(v):
        return str(v)
    if isinstance(v, decimal.Decimal):
        return f"{v.normalize():f}"
    return v


def plain_row(row):
    """A row, a dict, as text. Rows are equal where their texts are."""
    return dump(in_json(row))


def write(rows, out=sys.stdout):
    """Prints rows, each a dict with the column _kafka."""
    lines = []
    for row in rows:
        k = row.pop("_kafka")
        lines.append(dump([k["partition"], k["offset"], k["topic"], k["timestamp"], row]))
        if len(lines) == 10_000:
            out.write("\n".join(lines) + "\n")
            lines.clear()
    if lines:
        out.write("\n".join(lines) + "\n")
