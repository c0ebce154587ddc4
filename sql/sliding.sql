-- Bursts: matches in spans of the period that hold at least the threshold.
-- Spans that share a match are one burst, and one row of the result.
WITH {% include "matches.sql" %},
counted AS (
  -- in_window: matches less than a period older than this one, and this one.
  SELECT
    *,
{%- if let Some(function) = query.counts %}
    {{ function }}(counted, "eventTime", {{ query.period }}) OVER ({{ query.partition("") }}ORDER BY {{ query.order() }}) AS counted_in_window,
{%- endif %}
    matches_within("eventTime", {{ query.period }}) OVER ({{ query.partition("") }}ORDER BY {{ query.order() }}) AS in_window
  FROM matches
),
{%- if query.sweep.is_some() %}
held AS (
  -- held: the most that any span holds in which this match is.
  SELECT *, most_within({{ query.count() }}, "eventTime", {{ query.period }}) OVER ({{ query.partition("") }}ORDER BY {{ query.order_from_last() }}) AS held
  FROM counted
),
{% include "of_cells.sql" %}
{%- endif %}
reaching AS (
  -- reached: whether this match makes the span that ends with it hold the threshold.
  SELECT *, {{ query.count() }} >= {{ query.threshold }} AS reached
  FROM {% if query.sweep.is_some() %}of_cells{% else %}counted{% endif %}
),
spans AS (
  -- fires_at: when a span that ends at or after this match first holds the threshold.
  SELECT
    *,
    latest(CASE WHEN reached THEN "eventTime" END) OVER ({{ query.partition(query.cell()) }}ORDER BY {{ query.order_from_last() }}) AS fires_at
  FROM reaching
),
ends AS (
  -- That span holds this match where it ends within the period. The burst goes on with the next
  -- match where the span in which that one fires holds this match too.
  SELECT
    *,
    CASE
      WHEN lag(fires_at) OVER ({{ query.partition(query.cell()) }}ORDER BY {{ query.order_from_last() }}) < "eventTime" + {{ query.period }} THEN 0
      ELSE 1
    END AS ends
  FROM spans
  WHERE fires_at < "eventTime" + {{ query.period }}
),
bursts AS (
  -- burst: its number, counted from the last.
  SELECT
    *,
    sum(ends) OVER ({{ query.partition(query.cell()) }}ORDER BY {{ query.order_from_last() }} ROWS UNBOUNDED PRECEDING) AS burst
  FROM ends
),
{% include "findings.sql" %}
