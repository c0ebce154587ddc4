all_matches AS (
  -- Every match once for each setting: a period, the times that a hunt with it reads, and what decides which matches are
  -- new. `matched` holds an eventID once for each of its times; the earliest that is read counts, as in a hunt.
  SELECT *
  FROM matched
  CROSS JOIN settings
  WHERE ("eventTime" < read_from) IS NOT TRUE
    AND ("eventTime" >= read_to) IS NOT TRUE
    AND (previous_duplicate_time IS NULL OR previous_duplicate_time < read_from)
)
