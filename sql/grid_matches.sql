matches AS (
  -- Every match once for each setting: a period, and the times that a hunt with it reads. `matched` holds an eventID
  -- once for each of its times; the earliest that is read counts, as in a hunt.
  SELECT *
  FROM matched
  CROSS JOIN settings
  WHERE ("eventTime" < read_from) IS NOT TRUE
    AND ("eventTime" >= read_to) IS NOT TRUE
    AND (previous_duplicate_time IS NULL OR previous_duplicate_time < read_from)
)
