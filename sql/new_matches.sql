matches_by_key AS (
  -- last_seen: the time of the match with the same key before this one. Of several at one time the one with the least
  -- eventID comes first.
  SELECT *, lag("eventTime") OVER (PARTITION BY {{ key }} ORDER BY "eventTime", "eventID") AS last_seen
  FROM all_matches
),
first_seen_matches AS (
  -- The matches whose key was not seen within the history before them.
  -- known_from: what happened before it was read for at most a part of the history.
  SELECT *
  FROM matches_by_key
  WHERE (last_seen >= "eventTime" - history) IS NOT TRUE
    AND ("eventTime" < known_from) IS NOT TRUE
),
matches AS (
  -- Those that are new. In the learning time of an account nothing is.
  SELECT *
  FROM first_seen_matches
  WHERE ("eventTime" < learned_from) IS NOT TRUE
)
