-- The rules with groups whose open window at the start of the range is not known from what was read before it.
-- After a pause of a period the next match opens a window for certain. A group with a match shortly before the range
-- and no such pause needs more to be read.
preceding AS (
  SELECT *, lag("eventTime") OVER in_order AS previous_time
  FROM matches
  WHERE "eventTime" < {{ range_from }}
  WINDOW in_order AS ({{ in_order }})
),
per_group AS (
  -- pauses: the matches that open a window for certain. The first match that was read is one if a period before it was
  -- read too.
  SELECT
    rule,
    max("eventTime" + period) AS open_until,
    count(*) FILTER (
      WHERE "eventTime" >= previous_time + period
        OR (previous_time IS NULL AND "eventTime" - period >= {{ read_from }})
    ) AS pauses
  FROM preceding
  GROUP BY {{ group }}
)
SELECT rule, count(*) AS unanchored
FROM per_group
WHERE pauses = 0
  AND open_until > {{ range_from }}
GROUP BY rule
