-- Bursts: matches in spans of the period that hold at least the threshold.
-- Spans that share a match are one burst, and one row of the result.
WITH matches AS (
  -- The records that satisfy the rule, each eventID once.
  SELECT *
  FROM (
    SELECT
      *,
      row_number() OVER (
        PARTITION BY "eventID"
        ORDER BY "eventTime"{% for column in groups %}, {{ column.alias }}{% endfor %}{% for column in context %}, {{ column.alias }}{% endfor %}, "sourceIPAddress", "userAgent", "awsRegion"
      ) AS copy
    FROM (
      SELECT
        "eventTime",
        coalesce("eventID", "contentID") AS "eventID",
{%- for column in groups %}
        {{ column.expression }} AS {{ column.alias }},
{%- endfor %}
{%- for column in context %}
        {{ column.expression }} AS {{ column.alias }},
{%- endfor %}
        "sourceIPAddress",
        "userAgent",
        "awsRegion"
      FROM cloudtrail
      WHERE "eventTime" IS NOT NULL
{%- if let Some(instant) = read_from %}
        AND "eventTime" >= {{ instant }}
{%- endif %}
{%- if let Some(instant) = read_to %}
        AND "eventTime" < {{ instant }}
{%- endif %}
        AND {{ predicate }}
    )
  )
  WHERE copy = 1
),
counted AS (
  -- in_span: matches in the span that ends here. Frames hold both their ends, and two
  -- events exactly one period apart are not within it: so they reach 1 us less.
  SELECT
    *,
    count(*) OVER ({{ self.partition() }}ORDER BY "eventTime" RANGE BETWEEN {{ reach }} PRECEDING AND CURRENT ROW) AS in_span,
    lag("eventTime", {{ back }}) OVER ({{ self.partition() }}ORDER BY "eventTime", "eventID") AS threshold_back
  FROM matches
),
spans AS (
  -- fires_at: the end of the first full span that this match belongs to.
  SELECT
    *,
    min(CASE WHEN in_span >= {{ threshold }} THEN "eventTime" END)
      OVER ({{ self.partition() }}ORDER BY "eventTime" RANGE BETWEEN CURRENT ROW AND {{ reach }} FOLLOWING) AS fires_at
  FROM counted
),
starts AS (
  -- A burst goes on while some full span holds both this match and the one before it.
  SELECT
    *,
    CASE
      WHEN fires_at < lag("eventTime") OVER ({{ self.partition() }}ORDER BY "eventTime", "eventID") + {{ period }} THEN 0
      ELSE 1
    END AS starts
  FROM spans
  WHERE fires_at IS NOT NULL
),
bursts AS (
  SELECT
    *,
    sum(starts) OVER ({{ self.partition() }}ORDER BY "eventTime", "eventID" ROWS UNBOUNDED PRECEDING) AS burst
  FROM starts
),
findings AS (
  SELECT
{%- for column in groups %}
    {{ column.alias }},
{%- endfor %}
    count(*) AS "count",
    max(in_span) AS peak,
    min("eventTime") AS first_event,
    max("eventTime") AS last_event,
    min("eventTime") FILTER (WHERE in_span >= {{ threshold }}) AS trigger_time,
    array_agg("eventID" ORDER BY "eventID") AS event_ids,
    first_value("eventID" ORDER BY "eventTime", "eventID") AS first_event_id,
    array_agg(DISTINCT "sourceIPAddress") FILTER (WHERE "sourceIPAddress" IS NOT NULL) AS source_ips,
    array_agg(DISTINCT "userAgent") FILTER (WHERE "userAgent" IS NOT NULL) AS user_agents,
    array_agg(DISTINCT "awsRegion") FILTER (WHERE "awsRegion" IS NOT NULL) AS regions
{%- for column in context %},
    first_value({{ column.alias }} ORDER BY "eventTime", "eventID") FILTER (WHERE threshold_back > "eventTime" - {{ period }}) AS {{ column.alias }}
{%- endfor %}
  FROM bursts
  GROUP BY {% if !groups.is_empty() %}{{ self.group_names() }}, {% endif %}burst
)
SELECT *
FROM findings
WHERE TRUE
{%- if let Some(instant) = trigger_from %}
  AND trigger_time >= {{ instant }}
{%- endif %}
{%- if let Some(instant) = trigger_to %}
  AND trigger_time < {{ instant }}
{%- endif %}
