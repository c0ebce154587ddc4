lone_matches AS (
  -- The matches that no such event precedes within a period. Events of one time precede each other: their order is by eventID.
  SELECT *
  FROM matches_with_neighbors
  WHERE match_role <> 'absent'
    AND (previous_absent > "eventTime" - period) IS NOT TRUE
    AND (next_absent = "eventTime") IS NOT TRUE
)
