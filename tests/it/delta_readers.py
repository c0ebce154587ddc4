"""Reads one version of a lake as a Delta table and prints what each reader counts: delta_readers.py LAKE VERSION SQL.

Also runs the DuckDB query in the file SQL over the table's live files, and prints its findings.
"""
import importlib.util
import json
import sys

if any(importlib.util.find_spec(module) is None for module in ("deltalake", "duckdb", "polars", "pyarrow")):
    sys.exit(9)

import deltalake
import duckdb
import polars
import pyarrow.compute

lake, version, sql = sys.argv[1:]
table = deltalake.DeltaTable(lake, version=int(version))
cloudtrail = table.to_pyarrow_dataset()


def counts(rows):
    return {str(key): count for key, count in sorted(rows, key=lambda row: str(row[0]))}


whole = cloudtrail.to_table(columns=["date", "eventName"])
connection = duckdb.connect()
frame = polars.scan_delta(lake, version=int(version))


def by_deltalake(column):
    return counts(zip(*(part.to_pylist() for part in whole[column].value_counts().flatten())))


def by_duckdb(column):
    return counts(connection.execute(f'SELECT "{column}", count(*) FROM cloudtrail GROUP BY 1').fetchall())


def by_polars(column):
    return counts(frame.group_by(column).len().collect().rows())


readers = {"deltalake": by_deltalake, "duckdb": by_duckdb, "polars": by_polars}
totals = {
    "deltalake": whole.num_rows,
    "duckdb": connection.execute("SELECT count(*) FROM cloudtrail").fetchone()[0],
    "polars": frame.select(polars.len()).collect().item(),
}
result = connection.execute(open(sql, encoding="utf-8").read().strip().rstrip(";"))
names = [column[0] for column in result.description]
rows = [dict(zip(names, row)) for row in result.fetchall()]
print(json.dumps({
    "readers": {
        name: {"count": totals[name], "days": read("date"), "names": read("eventName")} for name, read in readers.items()
    },
    "findings": sorted([row["group.actor"], int(row["count"]), sorted(row["event_ids"])] for row in rows),
}))
