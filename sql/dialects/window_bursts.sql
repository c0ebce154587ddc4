matches_with_counts AS (
  SELECT
    *,
    window_start AS burst,
    row_number() OVER (PARTITION BY group_key, window_start ORDER BY micros, id) AS matches_in_window
  FROM matches_with_window
),
bursts AS (
  -- The matches of a window are one burst.
  -- reached_at: the time of this match, if the window, up to it, holds the threshold.
  SELECT *, CASE WHEN matches_in_window >= threshold THEN micros END AS reached_at
  FROM matches_with_counts
)
