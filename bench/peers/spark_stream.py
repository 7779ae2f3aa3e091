"""A peer: Spark Structured Streaming. python spark_stream.py BROKERS TOPIC TABLE CHECKPOINT CORES ROWS JARS

It reads the topic once, from its start to the end that it has now (availableNow), in batches of ROWS messages. JARS are those of spark_packages.py.
"""

import sys

from pyspark.sql import SparkSession
from pyspark.sql import functions as F

import shape

brokers, topic, table, checkpoint, cores, rows_of_a_batch, jars = sys.argv[1:8]
spark = (
    SparkSession.builder.master(f"local[{cores}]")
    .config("spark.jars", jars)
    .config("spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension")
    .config("spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog")
    .config("spark.driver.memory", "2g")
    .config("spark.ui.enabled", "false")
    .config("spark.sql.session.timeZone", "UTC")
    .config("spark.sql.parquet.compression.codec", "zstd")
    .getOrCreate()
)
spark.sparkContext.setLogLevel("ERROR")
source = spark.readStream.format("kafka").option("kafka.bootstrap.servers", brokers).option("subscribe", topic)
rows = (
    source.option("startingOffsets", "earliest")
    .option("maxOffsetsPerTrigger", rows_of_a_batch)
    .load()
    .select(F.from_json(F.col("value").cast("string"), shape.SPARK).alias("v"))
    .select("v.*", F.substring("v.meta.producer.timestamp", 1, 10).cast("date").alias("date"))
)
stream = rows.writeStream.format("delta").partitionBy("date").option("checkpointLocation", checkpoint)
stream.trigger(availableNow=True).start(table).awaitTermination()
spark.stop()
