{%- if let Some(sweep) = query.sweep -%}
settings (rule, period, read_from, read_to) AS (
  VALUES {{ sweep.settings() }}
),
cells (rule, cell, threshold) AS (
  VALUES {{ sweep.cells() }}
),
matches AS (
  -- Every match under every period, as far as a hunt with it reads, and each eventID once in that.
  SELECT *
  FROM matched
  CROSS JOIN settings
  WHERE ("eventTime" < read_from) IS NOT TRUE
    AND ("eventTime" >= read_to) IS NOT TRUE
    AND (copy_before IS NULL OR copy_before < read_from)
)
{%- else -%}
matches AS (
  -- The records that satisfy the rule, each eventID once: of copies that differ, always the same one.
  SELECT *
  FROM (
    SELECT
      *,
      lag("eventID") OVER (
        PARTITION BY {% if query.records.is_none() %}rule, {% endif %}ascii("eventID")
        ORDER BY "eventID", "eventTime", {{ query.fingerprint() }}{% if query.records.is_some() %}, "eventName", "eventSource"{% endif %}
      ) AS previous_id
{%- if let Some(records) = query.records %}
    FROM (
      SELECT
        "eventTime",
        coalesce("eventID", "contentID") AS "eventID",
        "eventName",
        "eventSource",
{%- for column in records.columns %}
        {{ column.expression }} AS {{ column.alias }},
{%- endfor %}
        "sourceIPAddress",
        "userAgent",
        "awsRegion"
      FROM cloudtrail
      WHERE "eventTime" >= {{ records.from }}
        AND "eventTime" < {{ records.to }}
        AND {{ records.predicate }}
    )
{%- else %}
    FROM matched
{%- endif %}
  )
  WHERE previous_id IS DISTINCT FROM "eventID"
)
{%- endif %}
