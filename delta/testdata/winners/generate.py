"""Makes the commits in this folder: what Spark with Delta 4.0 writes for each kind of operation, on one base table whose
first two versions are base-0.json and base-1.json. Needs pyspark 4.0.1 and delta-spark 4.0.0 with its jars in $JARS.

    JARS=/path/to/jars python generate.py
"""
import glob
import os
import shutil
import tempfile

from pyspark.sql import SparkSession

here = os.path.dirname(os.path.abspath(__file__))
root = tempfile.mkdtemp()
spark = (SparkSession.builder.master("local[1]")
         .config("spark.jars", ",".join(glob.glob(os.environ["JARS"] + "/*.jar")))
         .config("spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension")
         .config("spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog")
         .config("spark.sql.shuffle.partitions", "1").config("spark.ui.enabled", "false")
         .config("spark.sql.warehouse.dir", root + "/warehouse").getOrCreate())
spark.sparkContext.setLogLevel("OFF")


def commit(table, version):
    return f"{table}/_delta_log/{version:020d}.json"


def newest(table):
    return max(int(os.path.basename(f)[:20]) for f in glob.glob(f"{table}/_delta_log/*.json"))


def keep(table, version, name):
    with open(commit(table, version)) as f, open(f"{here}/{name}.json", "w") as out:
        out.write(f.read().rstrip("\n") + "\n")
    print(name, flush=True)


base = root + "/base"
spark.sql(f"""CREATE TABLE delta.`{base}` (id BIGINT NOT NULL, v STRING, n INT) USING delta CLUSTER BY (id) TBLPROPERTIES (
  delta.enableRowTracking = true, delta.enableInCommitTimestamps = true, delta.enableDeletionVectors = true,
  delta.enableTypeWidening = true)""")
spark.sql(f"INSERT INTO delta.`{base}` VALUES (1, 'a', 1), (2, 'b', 2), (3, 'c', 3), (4, 'd', 4)")
keep(base, 0, "base-0")
keep(base, 1, "base-1")


def winner(name, *statements, run=None):
    table = f"{root}/{name}"
    shutil.copytree(base, table)
    for s in statements:
        spark.sql(s.format(t=f"delta.`{table}`"))
    if run:
        run(table)
    for version in range(2, newest(table) + 1):  # DROP FEATURE takes several commits
        keep(table, version, f"{name}.{version}" if newest(table) > 2 else name)


def txn(table):
    (spark.sql("SELECT 9L AS id, 'z' AS v, 9 AS n").write.format("delta").mode("append")
     .option("txnAppId", "app").option("txnVersion", 7).save(table))


def replace_where(table):
    (spark.sql("SELECT 2L AS id, 'z' AS v, 9 AS n").write.format("delta").mode("overwrite")
     .option("replaceWhere", "id = 2").save(table))


winner("append", "INSERT INTO {t} VALUES (5, 'e', 5), (6, 'f', 6)")
winner("overwrite", "INSERT OVERWRITE {t} VALUES (5, 'e', 5)")
winner("replace-where", run=replace_where)
winner("delete", "DELETE FROM {t} WHERE id = 2")
winner("truncate", "DELETE FROM {t}")
winner("update", "UPDATE {t} SET v = 'x' WHERE id = 3")
winner("merge", "MERGE INTO {t} t USING (SELECT 3L AS id, 'm' AS v, 3 AS n UNION ALL SELECT 8L, 'n', 8) s ON t.id = s.id "
       "WHEN MATCHED THEN UPDATE SET * WHEN NOT MATCHED THEN INSERT *")
winner("optimize", "OPTIMIZE {t} FULL")
winner("add-column", "ALTER TABLE {t} ADD COLUMN (extra STRING)")
winner("widen-column", "ALTER TABLE {t} ALTER COLUMN n TYPE BIGINT")
winner("drop-not-null", "ALTER TABLE {t} ALTER COLUMN id DROP NOT NULL")
winner("set-property", "ALTER TABLE {t} SET TBLPROPERTIES (delta.checkpointInterval = 7)")
winner("add-constraint", "ALTER TABLE {t} ADD CONSTRAINT low CHECK (n < 100)")
winner("add-feature", "ALTER TABLE {t} SET TBLPROPERTIES (delta.feature.vacuumProtocolCheck = 'supported')")
winner("enable-change-data-feed", "ALTER TABLE {t} SET TBLPROPERTIES (delta.enableChangeDataFeed = true)")
winner("cluster-by", "ALTER TABLE {t} CLUSTER BY (v)")
winner("cluster-by-none", "ALTER TABLE {t} CLUSTER BY NONE")
winner("column-mapping", "ALTER TABLE {t} SET TBLPROPERTIES (delta.columnMapping.mode = 'name')")
winner("txn", run=txn)
winner("drop-feature", "ALTER TABLE {t} DROP FEATURE typeWidening")
winner("restore", "RESTORE TABLE {t} TO VERSION AS OF 0")
winner("overwrite-schema", run=lambda table: spark.sql("SELECT 'k' AS k").write.format("delta").mode("overwrite")
       .option("overwriteSchema", True).save(table))
spark.stop()
shutil.rmtree(root)
