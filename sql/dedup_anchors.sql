-- The groups whose open window cannot be told at the start of a range from what was read before it.
-- After a pause of a period the next match opens a window for certain; a group with a match shortly
-- before the range and no such pause in what was read needs more to be read.
WITH {% include "matches.sql" %},
pauses AS (
  SELECT
    *,
    lag("eventTime") OVER ({{ query.partition("") }}ORDER BY "eventTime", "eventID") AS previous
  FROM matches
  WHERE "eventTime" < {{ range_from }}
),
per_group AS (
  SELECT
{%- if query.records.is_none() %}
    rule,
{%- endif %}
    max("eventTime" + {{ query.period }}) AS open_until,
    count(*) FILTER (
      WHERE "eventTime" >= previous + {{ query.period }}
{%- if let Some(begin) = read_from %}
        OR (previous IS NULL AND "eventTime" - {{ query.period }} >= {{ begin }})
{%- endif %}
    ) AS pauses
  FROM pauses
{%- if !query.groups.is_empty() %}
  GROUP BY {{ query.by_group() }}
{%- endif %}
)
SELECT {% if query.records.is_none() %}rule, {% endif %}count(*) AS unanchored
FROM per_group
WHERE pauses = 0
  AND open_until > {{ range_from }}
{%- if query.records.is_none() %}
GROUP BY rule
{%- endif %}
