most AS (
  -- most_in_window: the greatest count of any window that holds this match.
  SELECT *, most_within(count_in_window, "eventTime", period) OVER from_last AS most_in_window
  FROM counted
  WINDOW from_last AS ({{ from_last }})
)
