-- The records of a table, each eventID once: the earliest, and of several of one time the one with the least
-- fingerprint of all that it says. eventName and eventSource are there for the count of what is dropped.
SELECT {{ columns }}
FROM (
  SELECT
    *,
    lag({{ row_id }}) OVER (
      PARTITION BY ascii({{ row_id }})
      ORDER BY {{ row_id }}, "eventTime", {{ fingerprint }}, "eventName", "eventSource"
    ) AS {{ previous_id }}
  FROM (
    SELECT *, coalesce("eventID", "contentID") AS {{ row_id }}, fingerprint({{ texts }}) AS {{ fingerprint }}
    FROM {{ table }}
  )
)
WHERE {{ previous_id }} IS DISTINCT FROM {{ row_id }}
