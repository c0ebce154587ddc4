opened AS (
  -- window_start: when a window opens. The first match of a group opens one, and the next match after its end another.
  SELECT group_key, min(micros) AS window_start
  FROM matches
  GROUP BY group_key
  UNION ALL
  SELECT opened.group_key, min(matches.micros) AS window_start
  FROM opened
  JOIN matches ON matches.group_key = opened.group_key AND matches.micros >= opened.window_start + matches.period
  GROUP BY opened.group_key, opened.window_start
),
windows AS (
  SELECT matches.*, opened.window_start
  FROM matches
  JOIN opened ON matches.group_key = opened.group_key
    AND matches.micros >= opened.window_start
    AND matches.micros < opened.window_start + matches.period
)
