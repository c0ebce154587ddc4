matches_with_greatest_count AS (
  -- greatest_count: the greatest count of any window that holds this match.
  SELECT *, most_within(count_in_window, "eventTime", period) OVER from_last AS greatest_count
  FROM matches_with_counts
  WINDOW from_last AS ({{ from_last }})
)
