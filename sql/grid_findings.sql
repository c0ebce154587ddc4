findings AS (
  -- match_number: matches are numbered by group and time. The matches of a burst have numbers that follow one another.
  SELECT
    cell,
    min(match_number) AS first_match,
    max(match_number) AS last_match,
    count(*) AS "count",
    min(match_number) FILTER (WHERE reaches_threshold) AS trigger_match,
    min("eventTime") FILTER (WHERE reaches_threshold) AS trigger_time{{ peak_column }}
  FROM bursts
  GROUP BY cell, setting, "group", burst
)
SELECT *
FROM findings
WHERE trigger_time >= {{ from }}
  AND trigger_time < {{ to }}{{ peak_conditions }}
