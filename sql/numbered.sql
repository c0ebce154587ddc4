{%- if query.counts.is_some() -%}
firsts AS (
  -- Whether this match is the first in its window with its value.
  SELECT
    *,
    CASE
      WHEN counted IS NULL THEN 0
      WHEN row_number() OVER ({{ query.partition("burst, counted") }}ORDER BY "eventTime", "eventID") = 1 THEN 1
      ELSE 0
    END AS new_value
  FROM windows
),
numbered AS (
  SELECT
    *,
    row_number() OVER ({{ query.partition("burst") }}ORDER BY "eventTime", "eventID") AS in_window,
    sum(new_value) OVER ({{ query.partition("burst") }}ORDER BY "eventTime", "eventID" ROWS UNBOUNDED PRECEDING) AS counted_in_window
  FROM firsts
),
{%- else -%}
numbered AS (
  SELECT
    *,
    row_number() OVER ({{ query.partition("burst") }}ORDER BY "eventTime", "eventID") AS in_window
  FROM windows
),
{%- endif %}
{%- if query.sweep.is_some() %}
held AS (
  -- held: how much the window holds in all.
  SELECT *, max({{ query.count() }}) OVER ({{ query.partition("burst") }}) AS held
  FROM numbered
),
{% include "of_cells.sql" %}
{%- endif %}
bursts AS (
  -- reached: whether the window holds the threshold{% if query.counts.is_some() %} of distinct values{% endif %}, up to this match.
  SELECT *, {{ query.count() }} >= {{ query.threshold }} AS reached
  FROM {% if query.sweep.is_some() %}of_cells{% else %}numbered{% endif %}
),
