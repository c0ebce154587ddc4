"""Runs the SQL in a file on an engine and prints its findings as JSON lines: dialects.py ENGINE FILE."""
import datetime
import importlib.util
import json
import sys

engine, path = sys.argv[1:]
sql = open(path, encoding="utf-8").read().strip().rstrip(";")
module = {"duckdb": "duckdb", "clickhouse": "chdb", "spark": "pyspark"}[engine]
if importlib.util.find_spec(module) is None:
    sys.exit(9)
if engine == "duckdb":
    import duckdb

    result = duckdb.connect().execute(sql)
    names = [column[0] for column in result.description]
    rows = [dict(zip(names, row)) for row in result.fetchall()]
elif engine == "clickhouse":
    import chdb

    rows = [json.loads(line) for line in str(chdb.query(sql, "JSONEachRow")).splitlines()]
else:
    from pyspark.sql import SparkSession

    settings = {"spark.sql.session.timeZone": "UTC", "spark.ui.enabled": "false", "spark.sql.shuffle.partitions": "1"}
    session = SparkSession.builder.master("local[1]").config(map=settings).getOrCreate()
    rows = [row.asDict() for row in session.sql(sql).collect()]


def time(value):
    value = datetime.datetime.fromisoformat(value) if isinstance(value, str) else value
    return value.strftime("%Y-%m-%dT%H:%M:%SZ")


for row in rows:
    print(json.dumps([
        row["group.account"], row["group.actor"], int(row["count"]),
        time(row["first_event"]), time(row["last_event"]), time(row["trigger_time"]), sorted(row["event_ids"]),
    ]))
