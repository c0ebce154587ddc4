-- The records of a table, each eventID once: the earliest, and of several at that time the one with the smallest
-- fingerprint of all its columns. CloudTrail has no names that begin with "tawny.".
-- ascii(): see matches.sql. eventName and eventSource are read for the count of duplicates.
SELECT {{ columns }}
FROM (
  SELECT
    *,
    lag("tawny.row_id") OVER (
      PARTITION BY ascii("tawny.row_id")
      ORDER BY "tawny.row_id", "eventTime", "tawny.fingerprint", "eventName", "eventSource"
    ) AS "tawny.previous_id"
  FROM (
    SELECT *, coalesce("eventID", "contentID") AS "tawny.row_id", fingerprint({{ all_columns }}) AS "tawny.fingerprint"
    FROM "tawny.records"
  )
)
WHERE "tawny.previous_id" IS DISTINCT FROM "tawny.row_id"
