-- Bursts: matches in spans of the period that hold at least the threshold.
-- Spans that share a match are one burst, and one row of the result.
WITH {% include "matches.sql" %},
counted AS (
  -- in_window: matches in the span that ends here. Frames hold both their ends, and two
  -- events exactly one period apart are not within it: so they reach 1 us less.
  SELECT
    *,
    count(*) OVER ({{ query.partition("") }}ORDER BY "eventTime" RANGE BETWEEN {{ query.reach }} PRECEDING AND CURRENT ROW) AS in_window,
{%- if query.unique.is_some() %}
    distinct_within(counted, "eventTime", {{ query.period }}) OVER ({{ query.partition("") }}ORDER BY "eventTime", "eventID") AS distinct_in_window
{%- else %}
    lag("eventTime", {{ query.back }}) OVER ({{ query.partition("") }}ORDER BY "eventTime", "eventID") AS threshold_back
{%- endif %}
  FROM matches
),
reaching AS (
  -- reached: whether this match makes the span that ends with it hold the threshold.
  SELECT
    *,
{%- if query.unique.is_some() %}
    distinct_in_window >= {{ query.threshold }} AS reached
{%- else %}
    coalesce(threshold_back > "eventTime" - {{ query.period }}, FALSE) AS reached
{%- endif %}
  FROM counted
),
spans AS (
  -- fires_at: the end of the first full span that this match belongs to.
  SELECT
    *,
    min(CASE WHEN reached THEN "eventTime" END)
      OVER ({{ query.partition("") }}ORDER BY "eventTime" RANGE BETWEEN CURRENT ROW AND {{ query.reach }} FOLLOWING) AS fires_at
  FROM reaching
),
starts AS (
  -- A burst goes on while some full span holds both this match and the one before it.
  SELECT
    *,
    CASE
      WHEN fires_at < lag("eventTime") OVER ({{ query.partition("") }}ORDER BY "eventTime", "eventID") + {{ query.period }} THEN 0
      ELSE 1
    END AS starts
  FROM spans
  WHERE fires_at IS NOT NULL
),
bursts AS (
  SELECT
    *,
    sum(starts) OVER ({{ query.partition("") }}ORDER BY "eventTime", "eventID" ROWS UNBOUNDED PRECEDING) AS burst
  FROM starts
),
{% include "findings.sql" %}
