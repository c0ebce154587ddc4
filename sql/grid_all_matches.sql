matches AS (
  SELECT * FROM setting_matches
)
