matches AS (
  -- The records that satisfy the rule, each eventID once.
  SELECT *
  FROM (
    SELECT
      *,
      row_number() OVER (
        PARTITION BY "eventID"
        ORDER BY "eventTime"{% for column in query.columns() %}, {{ column.alias }}{% endfor %}{% if query.unique.is_some() %}, counted{% endif %}, "sourceIPAddress", "userAgent", "awsRegion"
      ) AS copy
    FROM (
      SELECT
        "eventTime",
        coalesce("eventID", "contentID") AS "eventID",
{%- for column in query.columns() %}
        {{ column.expression }} AS {{ column.alias }},
{%- endfor %}
{%- if let Some(unique) = query.unique %}
        {{ unique }} AS counted,
{%- endif %}
        "sourceIPAddress",
        "userAgent",
        "awsRegion"
      FROM cloudtrail
      WHERE "eventTime" IS NOT NULL
{%- if let Some(instant) = query.read_from %}
        AND "eventTime" >= {{ instant }}
{%- endif %}
{%- if let Some(instant) = query.read_to %}
        AND "eventTime" < {{ instant }}
{%- endif %}
        AND {{ query.predicate }}
    )
  )
  WHERE copy = 1
)
