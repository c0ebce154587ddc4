matches AS (
  SELECT * FROM all_matches
)
