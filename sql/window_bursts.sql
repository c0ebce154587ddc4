bursts AS (
  -- The matches of a window are one burst.
  SELECT *, window_start AS burst
  FROM compared
)
