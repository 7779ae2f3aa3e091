"""A Spark session that does what it is told: python spark.py CACHE_FOLDER.

A line of standard input is a JSON object {"do": NAME, ...}; the answer is one line {"ok": VALUE} or {"error": TEXT} on
standard output. The first answer tells that Spark is up. It ends with its input. What can be asked for are the functions below
main's table; paths are absolute.
"""

import atexit
import contextlib
import datetime
import json
import os
import pathlib
import shutil
import sys
import tempfile
import traceback

os.environ["TZ"] = "UTC"  # datetimes that the fixtures are made from are local

here = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(here.parent.parent / "fixtures"))

import make_spark
import pruning
import rows
from pyspark.sql import types as T

spark = None


EPOCH = datetime.datetime(1970, 1, 1, tzinfo=rows.UTC)


def instant(_, micros):
    """A TIMESTAMP's value, with a zone: Spark's own way has none, and none of the year 1."""
    return None if micros is None else EPOCH + datetime.timedelta(microseconds=micros)


T.TimestampType.fromInternal = instant


def dicts(df):
    for row in df.toLocalIterator():
        yield row.asDict(recursive=True)


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


def plain(table):
    """The rows of a table as the other readers print them (wholetables.py)."""
    return sorted(rows.plain_row(r) for r in dicts(spark.read.format("delta").load(table)))


def describe(table):
    """What Delta tells of a table and of its versions, the newest first."""
    return {"detail": sql(f"DESCRIBE DETAIL delta.`{table}`")[0], "history": sql(f"DESCRIBE HISTORY delta.`{table}`")}


def compare(table, twin, spec):
    """What pruning.py finds: what was asked, and the faults."""
    return pruning.compare(pruning.Spark(spark, table, twin), spec)


def race(table, versions):
    """Puts commits of one line through Delta's log store, from version 0 on, each as soon as the one before is there. The
    answer is the versions that Delta says it made."""
    session = spark._jsparkSession
    store = getattr(getattr(spark._jvm.org.apache.spark.sql.delta.storage, "LogStore$"), "MODULE$").apply(session)
    conf = session.sessionState().newHadoopConf()
    path = spark._jvm.org.apache.hadoop.fs.Path
    asScala = spark._jvm.scala.jdk.javaapi.CollectionConverters.asScala
    won = []
    for v in range(versions):
        lines = spark._jvm.java.util.ArrayList()
        lines.add('{"commitInfo":{"engineInfo":"spark"}}')
        to = path("file://" + os.path.join(table, "_delta_log", f"{v:020}.json"))  # without a scheme Delta takes its default store
        while v and not os.path.exists(os.path.join(table, "_delta_log", f"{v - 1:020}.json")):
            pass
        try:
            store.write(to, asScala(lines.iterator()), False, conf)
            won.append(v)
        except Exception as e:
            if "FileAlreadyExists" not in str(e):
                raise
    return won


def forget():
    """Drops what Spark remembers of logs."""
    spark._jvm.org.apache.spark.sql.delta.DeltaLog.clearCache()


def add_log_store():
    """Compiles LinkLogStore with the compiler that Spark has for its own code, and puts it where Delta finds it."""
    jvm = spark._jvm
    loader = jvm.Thread.currentThread().getContextClassLoader()
    compiler = jvm.org.codehaus.janino.SimpleCompiler()
    compiler.setParentClassLoader(loader)
    compiler.cook((here / "LinkLogStore.java").read_text())
    folder = pathlib.Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, folder)
    for name, code in compiler.getBytecodes().items():
        file = folder / (name.replace(".", "/") + ".class")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(bytes(code))
    loader.addURL(jvm.java.io.File(str(folder)).toURI().toURL())


def main():
    global spark
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8", newline="\n")
    os.dup2(2, 1)  # what Python and Java print is no answer
    does = {f.__name__: f for f in (sql, read, fixture, messages, plain, describe, compare, race, forget)}
    spark = make_spark.spark = make_spark.session(pathlib.Path(sys.argv[1]) / "ivy", {"spark.delta.logStore.file.impl": "kafkadelta.LinkLogStore"})
    add_log_store()
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
