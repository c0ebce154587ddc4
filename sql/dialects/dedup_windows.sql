window_starts AS (
  -- window_start: when a window opens. The first match of a group opens one, and the next match after its end another.
  SELECT group_key, min(micros) AS window_start
  FROM matches
  GROUP BY group_key
  UNION ALL
  SELECT window_starts.group_key, min(matches.micros) AS window_start
  FROM window_starts
  JOIN matches ON matches.group_key = window_starts.group_key
    AND matches.micros >= window_starts.window_start + matches.period
  GROUP BY window_starts.group_key, window_starts.window_start
),
matches_with_window AS (
  SELECT matches.*, window_starts.window_start
  FROM matches
  JOIN window_starts ON matches.group_key = window_starts.group_key
    AND matches.micros >= window_starts.window_start
    AND matches.micros < window_starts.window_start + matches.period
)
