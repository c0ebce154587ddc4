{%- if query.unique -%}
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
    sum(new_value) OVER ({{ query.partition("burst") }}ORDER BY "eventTime", "eventID" ROWS UNBOUNDED PRECEDING) AS distinct_in_window
  FROM firsts
),
bursts AS (
  -- reached: whether the window holds the threshold of distinct values, up to this match.
  SELECT *, distinct_in_window >= {{ query.threshold }} AS reached
  FROM numbered
),
{%- else -%}
numbered AS (
  SELECT
    *,
    row_number() OVER ({{ query.partition("burst") }}ORDER BY "eventTime", "eventID") AS in_window
  FROM windows
),
bursts AS (
  -- reached: whether the window holds the threshold, up to this match.
  SELECT *, in_window >= {{ query.threshold }} AS reached
  FROM numbered
),
{%- endif %}
