matches_with_threshold AS (
  -- reaches_threshold: whether the window, up to this match, holds the threshold.
  SELECT *, count_in_window >= threshold AS reaches_threshold
  FROM matches_with_counts
)
