matches_with_window AS (
  -- Windows of one period follow one another from the epoch.
  -- window_start: the start of the window that holds this match.
  SELECT *, tumbling_window("eventTime", period) AS window_start
  FROM matches
)
