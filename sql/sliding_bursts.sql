matches_with_next_trigger AS (
  -- next_trigger_time: the time of the first match, from this one on, whose window reaches the threshold.
  SELECT *, latest(CASE WHEN reaches_threshold THEN "eventTime" END) OVER from_last AS next_trigger_time
  FROM matches_with_threshold
  WINDOW from_last AS ({{ from_last }})
),
matches_in_bursts AS (
  -- A match belongs to a burst if the window that ends at next_trigger_time holds it.
  -- Bursts are counted from the last match back. lag() gives the match that follows in time.
  -- starts_new_burst: 0 if the window of the following match holds this match too, so both are in one burst.
  SELECT
    *,
    CASE WHEN lag(next_trigger_time) OVER from_last < "eventTime" + period THEN 0 ELSE 1 END AS starts_new_burst
  FROM matches_with_next_trigger
  WHERE next_trigger_time < "eventTime" + period
  WINDOW from_last AS ({{ from_last }})
),
bursts AS (
  -- burst: the number of the burst in its group, counted from the last.
  SELECT *, sum(starts_new_burst) OVER from_last AS burst
  FROM matches_in_bursts
  WINDOW from_last AS ({{ from_last }} ROWS UNBOUNDED PRECEDING)
)
