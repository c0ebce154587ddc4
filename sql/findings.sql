findings AS (
  -- A burst that never reaches the threshold has a null trigger_time, and is not a finding.
  SELECT
    {{ group }},
    count(*) AS "count",
    max(matches_in_window) FILTER (WHERE reaches_threshold) AS peak,
    min("eventTime") AS first_event,
    max("eventTime") AS last_event,
    min("eventTime") FILTER (WHERE reaches_threshold) AS trigger_time,
    array_agg("eventID") AS event_ids,
    first_value("eventID" ORDER BY "eventTime", "eventID") AS first_event_id,
    array_agg(DISTINCT "sourceIPAddress") FILTER (WHERE "sourceIPAddress" IS NOT NULL) AS source_ips,
    array_agg(DISTINCT "userAgent") FILTER (WHERE "userAgent" IS NOT NULL) AS user_agents,
    array_agg(DISTINCT "awsRegion") FILTER (WHERE "awsRegion" IS NOT NULL) AS regions{{ rule_columns }}
  FROM bursts
  GROUP BY {{ group }}, burst
)
SELECT *
FROM findings
WHERE trigger_time >= {{ from }}
  AND trigger_time < {{ to }}{{ peak_conditions }}
