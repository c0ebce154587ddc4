matches_with_threshold AS (
  -- reaches_threshold: whether the window, up to this match, holds the threshold and enough matches.
  SELECT *, count_in_window >= threshold AND matches_in_window >= min_events AS reaches_threshold
  FROM matches_with_counts
)
