findings AS (
  -- "eventID" is the number of a match here. The matches of a burst have numbers that follow one another.
  SELECT
    cell,
    min("eventID") AS first_match,
    max("eventID") AS last_match,
    count(*) AS "count",
    min("eventID") FILTER (WHERE reaches_threshold) AS trigger_match,
    min("eventTime") FILTER (WHERE reaches_threshold) AS trigger_time{{ peak_column }}
  FROM bursts
  GROUP BY cell, rule, "group", burst
)
SELECT *
FROM findings
WHERE trigger_time >= {{ from }}
  AND trigger_time < {{ to }}{{ peak_conditions }}
