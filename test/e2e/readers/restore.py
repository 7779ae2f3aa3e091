"""Restores a table to an earlier version with delta-rs: python restore.py TABLE VERSION"""

import os
import sys

import deltalake

deltalake.DeltaTable(sys.argv[1]).restore(int(sys.argv[2]))
sys.stdout.flush()
os._exit(0)  # as in deltars.py
