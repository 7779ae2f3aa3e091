"""Fetches what the peer Spark needs beside PySpark, so that no run does. python spark_packages.py FOLDER

The jars are in FOLDER/jars afterwards.
"""

import sys

from pyspark.sql import SparkSession

PACKAGES = "io.delta:delta-spark_2.13:4.0.0,org.apache.spark:spark-sql-kafka-0-10_2.13:4.0.0"

SparkSession.builder.master("local[1]").config("spark.jars.ivy", sys.argv[1]).config("spark.jars.packages", PACKAGES).getOrCreate().stop()
