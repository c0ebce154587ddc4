matches_by_key AS (
  -- The same as in new_matches.sql. Matches are numbered by group, time and eventID.
  SELECT
    *,
    lag("eventTime") OVER (PARTITION BY setting, "group", new_key ORDER BY "eventTime", match_number) AS last_seen
  FROM all_matches
),
matches AS (
  SELECT *
  FROM matches_by_key
  WHERE (last_seen >= "eventTime" - history) IS NOT TRUE
    AND ("eventTime" < known_from) IS NOT TRUE
    AND ("eventTime" < account_start + learning) IS NOT TRUE
)
