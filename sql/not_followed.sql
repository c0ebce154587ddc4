lone_matches AS (
  -- The matches that no such event follows within a period. Events of one time follow each other: their order is by eventID.
  SELECT *
  FROM matches_with_neighbors
  WHERE match_role <> 'absent'
    AND (next_absent < "eventTime" + period) IS NOT TRUE
    AND (previous_absent = "eventTime") IS NOT TRUE
)
