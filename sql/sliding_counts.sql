matches_with_counts AS (
  -- A sliding window ends at each match and reaches back less than a period.
  -- matches_in_window: this match, and those of its group less than a period older.
  -- count_in_window: what the rule counts among them; it is compared with the threshold.
  SELECT
    *,
    matches_within("eventTime", period) OVER in_order AS matches_in_window,
    {{ count }}
  FROM matches
  WINDOW in_order AS ({{ in_order }})
)
