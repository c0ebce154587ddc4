-- Windows that follow one another from the epoch, each as long as the period.
-- A window with at least the threshold is one row of the result.
WITH {% include "matches.sql" %},
windows AS (
  -- burst: when the window began that this match is in.
  SELECT *, {{ query.begin_of_window() }} AS burst
  FROM matches
),
{% include "numbered.sql" %}
{% include "findings.sql" %}
