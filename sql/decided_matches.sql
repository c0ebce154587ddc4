matches AS (
  -- Those whose period lies within the data, and within what was read. The others stay open.
  SELECT *
  FROM lone_matches
  WHERE ("eventTime" < known_from) IS NOT TRUE
    AND ("eventTime" >= known_to) IS NOT TRUE
)
