matches_with_counts AS (
  -- matches_in_window: matches less than a period older than this one, those at its time, and this one.
  SELECT
    *,
    count(*) OVER (
      PARTITION BY group_key ORDER BY micros RANGE BETWEEN {{ less_than_a_period }} PRECEDING AND CURRENT ROW
    ) AS matches_in_window
  FROM matches
),
matches_with_threshold AS (
  -- reached_at: the time of this match, if the window that ends with it holds the threshold.
  SELECT *, CASE WHEN matches_in_window >= threshold THEN micros END AS reached_at
  FROM matches_with_counts
),
matches_with_next_trigger AS (
  -- next_trigger_time: the time of the first match, from this one on, whose window reaches the threshold.
  SELECT
    *,
    min(reached_at) OVER (
      PARTITION BY group_key ORDER BY micros, id ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING
    ) AS next_trigger_time
  FROM matches_with_threshold
),
matches_in_bursts AS (
  -- A match belongs to a burst if the window that ends at next_trigger_time holds it.
  SELECT * FROM matches_with_next_trigger WHERE next_trigger_time < micros + period
),
matches_with_following_trigger AS (
  -- following_trigger_time: the next_trigger_time of the match that follows.
  SELECT
    *,
    min(next_trigger_time) OVER (
      PARTITION BY group_key ORDER BY micros, id ROWS BETWEEN 1 FOLLOWING AND 1 FOLLOWING
    ) AS following_trigger_time
  FROM matches_in_bursts
),
bursts AS (
  -- burst: the number of the burst, counted from the last match back. A match is in the burst of the one that follows
  -- if the window of that one holds it too.
  SELECT
    *,
    sum(CASE WHEN following_trigger_time < micros + period THEN 0 ELSE 1 END) OVER (
      PARTITION BY group_key ORDER BY micros DESC, id DESC ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW
    ) AS burst
  FROM matches_with_following_trigger
)
