most AS (
  -- most_in_window: the count of the whole window.
  SELECT *, max(count_in_window) OVER (PARTITION BY rule, "group", window_start) AS most_in_window
  FROM counted
)
