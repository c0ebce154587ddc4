{%- if query.sweep.is_some() -%}
findings AS (
  -- By the numbers of their matches, which follow one another.
  SELECT
    cell,
    min("eventID") AS first_match,
    max("eventID") AS last_match,
    count(*) AS "count",
    min("eventID") FILTER (WHERE reached) AS trigger_match,
    min("eventTime") FILTER (WHERE reached) AS trigger_time
  FROM bursts
  GROUP BY cell, {{ query.by_burst() }}
)
{%- else -%}
findings AS (
  SELECT
{%- for column in query.groups %}
    {{ column }},
{%- endfor %}
    count(*) AS "count",
    max(in_window) FILTER (WHERE reached) AS peak,
{%- if query.counts.is_some() %}
    max(counted_in_window) AS distinct_peak,
{%- endif %}
    min("eventTime") AS first_event,
    max("eventTime") AS last_event,
    min("eventTime") FILTER (WHERE reached) AS trigger_time,
    array_agg("eventID") AS event_ids,
    first_value("eventID" ORDER BY "eventTime", "eventID") AS first_event_id,
    array_agg(DISTINCT "sourceIPAddress") FILTER (WHERE "sourceIPAddress" IS NOT NULL) AS source_ips,
    array_agg(DISTINCT "userAgent") FILTER (WHERE "userAgent" IS NOT NULL) AS user_agents,
    array_agg(DISTINCT "awsRegion") FILTER (WHERE "awsRegion" IS NOT NULL) AS regions
{%- for column in query.listed %},
    array_agg(DISTINCT {{ column }}) FILTER (WHERE {{ column }} IS NOT NULL) AS {{ column }}
{%- endfor %}
{%- for column in query.told %},
    first_value({{ column }} ORDER BY "eventTime", "eventID") FILTER (WHERE reached) AS {{ column }}
{%- endfor %}
  FROM bursts
  GROUP BY {{ query.by_burst() }}
)
{%- endif %}
SELECT *
FROM findings
WHERE trigger_time IS NOT NULL
{%- if let Some(instant) = query.trigger_from %}
  AND trigger_time >= {{ instant }}
{%- endif %}
{%- if let Some(instant) = query.trigger_to %}
  AND trigger_time < {{ instant }}
{%- endif %}
