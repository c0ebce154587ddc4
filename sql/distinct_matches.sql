-- The matches of a rule in the order of group and time, each eventID once for each of its times. Which of them counts
-- depends on how far back is read.
-- previous_duplicate_time: the time of the duplicate before this one.
WITH matches_by_id AS (
  SELECT
    *,
    lag("eventID") OVER in_id_order AS previous_id,
    lag("eventTime") OVER in_id_order AS previous_time
  FROM matched
  -- ascii(): see matches.sql. eventName and eventSource are read for the count of duplicates.
  WINDOW in_id_order AS (
    PARTITION BY ascii("eventID")
    ORDER BY "eventID", "eventTime", fingerprint, "eventName", "eventSource"
  )
)
SELECT
  {{ columns }},
  CASE WHEN previous_id = "eventID" THEN previous_time END AS previous_duplicate_time
FROM matches_by_id
WHERE (previous_id IS DISTINCT FROM "eventID")
  OR (previous_time IS DISTINCT FROM "eventTime")
ORDER BY {{ order }}
