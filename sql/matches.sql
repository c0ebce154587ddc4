{{ name }} AS (
  -- The records that satisfy the rule, each eventID once. Of duplicates that differ, the earliest counts, and of
  -- several at that time the one with the smallest fingerprint. So the order of files and threads changes nothing.
  SELECT *
  FROM (
    SELECT
      *,
      lag("eventID") OVER (
        -- Rows in the order of eventID are compared with the row before. PARTITION BY "eventID" would open a window for
        -- each event, which takes ten times as long. The code of its first character only divides the rows among
        -- threads: duplicates share it.
        PARTITION BY rule, ascii("eventID")
        ORDER BY "eventID", "eventTime", fingerprint
      ) AS previous_id
    FROM matched
  )
  WHERE previous_id IS DISTINCT FROM "eventID"
)
