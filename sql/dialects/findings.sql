findings AS (
  -- All matches of a burst share a group. A burst that never reaches the threshold has a null trigger_at, and is not a
  -- finding.
  SELECT
    {{ group_columns }}count(*) AS events,
    min(micros) AS first_at,
    max(micros) AS last_at,
    min(reached_at) AS trigger_at,
    {{ event_ids }} AS event_ids
  FROM bursts
  GROUP BY group_key, burst
)
SELECT
  {{ columns }}
FROM findings
WHERE trigger_at >= {{ from }}
  AND trigger_at < {{ to }}
ORDER BY {{ order }}
