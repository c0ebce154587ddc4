matches_with_greatest_count AS (
  -- greatest_count: the count of the whole window.
  SELECT *, max(count_in_window) OVER (PARTITION BY setting, "group", window_start) AS greatest_count
  FROM matches_with_counts
)
