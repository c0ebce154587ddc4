-- The rules with groups whose open window at the start of the range is not known from what was read before it.
-- After a pause of a period the next match opens a window for certain. A group with a match shortly before the range
-- and no such pause needs more to be read.
preceding_matches AS (
  SELECT *, lag("eventTime") OVER in_order AS previous_time
  FROM (SELECT *, CAST({{ range_from }} AS TIMESTAMP WITH TIME ZONE) AS range_from FROM matches)
  WHERE "eventTime" < range_from
  WINDOW in_order AS ({{ in_order }})
),
preceding_groups AS (
  -- subject: the rule, or the setting of a parameter grid.
  -- known_window_starts: the matches that open a window for certain. The first match that was read is one if a period
  -- before it was read too.
  SELECT
    {{ subject }} AS subject,
    max("eventTime" + period) > max(range_from) AS has_open_window,
    count(*) FILTER (
      WHERE "eventTime" >= previous_time + period
        OR (previous_time IS NULL AND "eventTime" - period >= {{ read_from }})
    ) AS known_window_starts
  FROM preceding_matches
  GROUP BY {{ group }}
)
SELECT subject, count(*) AS undecided_groups
FROM preceding_groups
WHERE known_window_starts = 0
  AND has_open_window
GROUP BY subject
