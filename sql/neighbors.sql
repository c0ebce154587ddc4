matches_with_neighbors AS (
  -- previous_absent, next_absent: the times of the events before and after this one that must be absent near a match.
  SELECT
    *,
    lag(absent_time) IGNORE NULLS OVER in_order AS previous_absent,
    lead(absent_time) IGNORE NULLS OVER in_order AS next_absent
  FROM (
    SELECT *, CASE WHEN match_role <> 'match' THEN "eventTime" END AS absent_time
    FROM all_matches
  )
  WINDOW in_order AS ({{ in_order }})
)
