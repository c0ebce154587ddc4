bursts AS (
  -- The matches of a window are one burst.
  SELECT *, window_start AS burst
  FROM matches_with_threshold
)
