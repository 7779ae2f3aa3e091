#!/bin/sh
# Makes what is derived from the files in this folder: the sample that is embedded in the demo. Needs zstd.
# The first lines are taken, in the order of the file, so that row n of the sample is row n of the whole.
set -eu
cd "$(dirname "$0")"

rows=10000
sample=../../cmd/connector/demo-data/flights-10k.jsonl.zst

whole=$(mktemp)
trap 'rm -f "$whole"' EXIT
zstd --decompress --quiet --force flights-2013.jsonl.zst -o "$whole"
mkdir -p "$(dirname "$sample")"
head -n "$rows" "$whole" | zstd -19 --quiet --force -o "$sample"

made=$(zstd --decompress --stdout "$sample" | wc -l)
if [ "$made" -ne "$rows" ]; then
	echo "$sample has $made rows, expected $rows" >&2
	exit 1
fi
echo "$sample: $rows rows, $(wc -c <"$sample") bytes"
