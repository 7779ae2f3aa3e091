"""A Spark session that does what it is told: python spark.py CACHE_FOLDER.

A line of standard input is a JSON object {"do": NAME, ...}; the answer is one line {"ok": VALUE} or {"error": TEXT} on
standard output. The first answer tells that Spark is up. It ends with its input. What can be asked for are the functions below
main's table; paths are absolute.
"""

import contextlib
import json
import os
import pathlib
import sys
import traceback

os.environ["TZ"] = "UTC"  # Python's datetime of a TIMESTAMP is in the local zone

here = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(here.parent.parent / "fixtures"))

import make_spark
import pruning
import rows
from pyspark.sql import types as T

spark = None


def with_zone(v, dt):
    """Marks instants, which Python cannot tell from local times otherwise."""
    if v is None:
        return None
    if isinstance(dt, T.TimestampType):
        return v.replace(tzinfo=rows.UTC)
    if isinstance(dt, T.StructType):
        return {f.name: with_zone(v[f.name], f.dataType) for f in dt.fields}
    if isinstance(dt, T.ArrayType):
        return [with_zone(e, dt.elementType) for e in v]
    if isinstance(dt, T.MapType):
        return {k: with_zone(e, dt.valueType) for k, e in v.items()}
    return v


def dicts(df):
    for row in df.toLocalIterator():
        yield with_zone(row, df.schema)


def sql(text):
    """Runs a statement; the answer is its rows as objects."""
    return list(dicts(spark.sql(text)))


def read(table, out, version=None):
    """Prints every row of a table to a file, as rows.py says. The table must have the column _kafka."""
    reader = spark.read.format("delta")
    if version is not None:
        reader = reader.option("versionAsOf", version)
    with open(out, "w", encoding="utf-8", newline="\n") as f:
        rows.write(dicts(reader.load(table)), f)


def fixture(name, table):
    """Makes the table of make_spark.py anew, with its data, and keeps it."""
    make = next(f for f in make_spark.common.FIXTURES if f.__name__ == name)
    t = make_spark.Table(name)
    t.path = pathlib.Path(table)
    t.ref = f"delta.`{table}`"
    make(t)


# Spark's to_json would cut instants to milliseconds.
TO_JSON = "map('timestampFormat', \"yyyy-MM-dd'T'HH:mm:ss.SSSSSSXXX\", 'timestampNTZFormat', \"yyyy-MM-dd'T'HH:mm:ss.SSSSSS\", 'timeZone', 'UTC')"


def messages(table):
    """The rows of a table, sorted, each as the JSON text that makes such a row."""
    df = spark.read.format("delta").load(table)
    return sorted(r[0] for r in df.selectExpr(f"to_json(struct(*), {TO_JSON})").collect())


def compare(table, twin, spec):
    """What pruning.py finds: what was asked, and the faults."""
    return pruning.compare(pruning.Spark(spark, table, twin), spec)


def forget():
    """Drops what Spark remembers of logs."""
    spark._jvm.org.apache.spark.sql.delta.DeltaLog.clearCache()


def main():
    global spark
    answers = sys.stdout
    sys.stdout = sys.stderr  # what libraries print is no answer
    does = {f.__name__: f for f in (sql, read, fixture, messages, compare, forget)}
    spark = make_spark.spark = make_spark.session(pathlib.Path(sys.argv[1]) / "ivy")
    answer(answers, {"ok": "up"})
    for line in sys.stdin:
        command = json.loads(line)
        try:
            answer(answers, {"ok": does[command.pop("do")](**command)})
        except Exception as e:  # Spark's, which the test judges
            traceback.print_exc()
            answer(answers, {"error": str(e)})


def answer(out, value):
    out.write(rows.dump(value) + "\n")
    out.flush()


with contextlib.suppress(KeyboardInterrupt):
    main()
