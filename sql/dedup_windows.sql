matches_with_window AS (
  -- The first match of a group opens a window of one period. The next match after its end opens another.
  -- window_start: the time of the match that opened the window.
  SELECT *, dedup_window("eventTime", period) OVER in_order AS window_start
  FROM matches
  WINDOW in_order AS ({{ in_order }})
)
