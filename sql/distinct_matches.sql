-- The matches of a rule by group and time, each once. Of copies with different times each stays: which of them
-- counts depends on how far back is read. copy_before tells the time of the one before.
WITH copies AS (
  SELECT
    *,
    lag("eventID") OVER (PARTITION BY ascii("eventID") ORDER BY "eventID", "eventTime", fingerprint, "eventName", "eventSource") AS previous_id,
    lag("eventTime") OVER (PARTITION BY ascii("eventID") ORDER BY "eventID", "eventTime", fingerprint, "eventName", "eventSource") AS previous_time
  FROM matched
)
SELECT
{%- for column in query.groups %}
  {{ column }},
{%- endfor %}
  counted,
  account,
  actor,
  "eventTime",
  "eventID",
  CASE WHEN previous_id = "eventID" THEN previous_time END AS copy_before
FROM copies
WHERE (previous_id IS DISTINCT FROM "eventID")
  OR (previous_time IS DISTINCT FROM "eventTime")
ORDER BY {% for column in query.groups %}{{ column }}, {% endfor %}"eventTime", "eventID"
