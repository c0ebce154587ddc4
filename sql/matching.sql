matches AS (
  -- The records that satisfy the rule, each eventID once, as in matches.sql. All their columns can be seen here, so
  -- the name and the source decide between duplicates with one fingerprint.
  SELECT
    *,
    lag("eventID") OVER (
      PARTITION BY ascii("eventID")
      ORDER BY "eventID", "eventTime", fingerprint, "eventName", "eventSource"
    ) AS previous_id
  FROM matched
)
SELECT * EXCLUDE (rule, threshold, period, fingerprint, previous_id)
FROM matches
WHERE previous_id IS DISTINCT FROM "eventID"
