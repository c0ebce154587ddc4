-- The groups whose open window cannot be told at the start of a range from what was read before it.
-- After a pause of a period the next match opens a window for certain; a group with a match shortly
-- before the range and no such pause in what was read needs more to be read.
WITH {% include "matches.sql" %},
pauses AS (
  SELECT
    *,
    lag("eventTime") OVER ({{ query.partition("") }}ORDER BY "eventTime", "eventID") AS before
  FROM matches
),
groups AS (
  SELECT
    max("eventTime") AS last_event,
    count(*) FILTER (
      WHERE "eventTime" >= before + {{ query.period }}
{%- if let Some(instant) = query.read_from %}
        OR (before IS NULL AND "eventTime" >= {{ instant }} + {{ query.period }})
{%- endif %}
    ) AS pauses
  FROM pauses
{%- if !query.groups.is_empty() %}
  GROUP BY {{ query.by_group() }}
{%- endif %}
)
SELECT count(*) AS unanchored
FROM groups
WHERE pauses = 0
{%- if let Some(instant) = query.trigger_from %}
  AND last_event > {{ instant }} - {{ query.period }}
{%- endif %}
