matches_with_window AS (
  -- window_start: the start of the window that holds this match. Windows follow one another from the epoch.
  SELECT *, micros - micros % period AS window_start
  FROM matches
)
