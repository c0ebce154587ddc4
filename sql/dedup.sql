-- Windows that a match opens: they hold what follows within the period, and the next match
-- after that opens another. A window with at least the threshold is one row of the result.
WITH {% include "matches.sql" %},
windows AS (
  -- burst: when the window opened that this match is in.
  SELECT
    *,
    dedup_window("eventTime", {{ query.period }}) OVER ({{ query.partition("") }}ORDER BY "eventTime", "eventID") AS burst
  FROM matches
),
{% include "numbered.sql" %}
{% include "findings.sql" %}
